"""The check `regex`."""

# ruff: noqa: RUF012 (the suite declares them as class variables)

from __future__ import annotations

import pyarrow as pa

from millstream_pipelines.checks.regex import Regex
from millstream_pipelines.testing.check import RowCheckSuite


class TestRegex(RowCheckSuite):
    entry_point = "regex"
    check = Regex
    config = {"column": "tail", "pattern": "N[0-9]+|none"}
    rows = pa.record_batch({"tail": ["N1", "xN1", "N1\n", None, "none", "nonesuch", ""]})
    passing = [True, False, False, True, True, False, False]
    bad_config = {"no RE2 pattern": {"pattern": "("}, "RE2": {"pattern": "(?=x)"}}

    def test_partial(self) -> None:
        assert self.built(partial=True).passes(self.rows).to_pylist() == [True, True, True, True, True, True, False]

    def test_what_is_no_text_is_matched_in_its_text_form(self) -> None:
        rows = pa.record_batch({"tail": [1, 22, None]})
        assert self.built(pattern="[0-9]").passes(rows).to_pylist() == [True, False, True]
