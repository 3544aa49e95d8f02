"""The check `expression`."""

# ruff: noqa: RUF012 (the suite declares them as class variables)

from __future__ import annotations

import pyarrow as pa
import pytest

from millstream_pipelines.checks.expression import Expression
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.row_checks import RowChecks
from millstream_pipelines.schema import schema_of
from millstream_pipelines.testing.check import RowCheckSuite


class TestExpression(RowCheckSuite):
    entry_point = "expression"
    check = Expression
    config = {"sql": "arrived > departed"}
    rows = pa.record_batch({"departed": [1, 2, 3], "arrived": [2, 1, None]})
    passing = [True, False, True]
    bad_config = {"sql": {"sql": ""}}

    def test_a_row_that_cannot_be_computed_does_not_pass(self) -> None:
        rows = pa.record_batch({"code": ["7", "x", "0"]})
        assert self.built(sql="code::integer > 5").passes(rows).to_pylist() == [True, False, False]

    @pytest.mark.parametrize(
        ("sql", "words"),
        [("nope > 1", "nope.*known columns: departed, arrived"), ("departed", "a condition .* is wanted")],
    )
    def test_wrong_conditions_are_told_before_the_first_row(self, sql: str, words: str) -> None:
        with pytest.raises(ConfigurationError, match=words):
            RowChecks([self.spec(sql=sql)], schema_of(self.rows.schema), "stream 's'")
