"""The check `not_null`."""

# ruff: noqa: RUF012 (the suite declares them as class variables)

from __future__ import annotations

import pyarrow as pa

from millstream_pipelines.checks.not_null import NotNull
from millstream_pipelines.testing.check import RowCheckSuite


class TestNotNull(RowCheckSuite):
    entry_point = "not_null"
    check = NotNull
    config = {"columns": ["a", "b"]}
    rows = pa.record_batch({"a": ["x", None, "", "y"], "b": [1, 2, 3, None]})
    passing = [True, False, True, False]
    bad_config = {"`column` or `columns`": {"columns": []}}

    def test_one_column(self) -> None:
        check = self.built(columns=[], column="a")
        assert check.label == "not_null(a)"
        assert check.passes(self.rows).to_pylist() == [True, False, True, True]
