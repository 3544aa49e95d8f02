"""The check `length`."""

# ruff: noqa: RUF012 (the suite declares them as class variables)

from __future__ import annotations

import pyarrow as pa
import pytest

from millstream_pipelines.checks.length import Length
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.row_checks import RowChecks
from millstream_pipelines.schema import schema_of
from millstream_pipelines.testing.check import RowCheckSuite


class TestLength(RowCheckSuite):
    entry_point = "length"
    check = Length
    config = {"column": "name", "min": 1, "max": 3}
    rows = pa.record_batch({"name": ["abc", "", "äöü", "abcd", None, "x" * 100_000]})
    passing = [True, False, True, False, True, False]
    bad_config = {"`min`, `max` or both": {"min": None, "max": None}, "larger than": {"min": 5}}

    def test_bytes(self) -> None:
        assert self.built().passes(pa.record_batch({"name": [b"\x00\xff", b""]})).to_pylist() == [True, False]

    def test_numbers_have_no_length(self) -> None:
        with pytest.raises(ConfigurationError, match="needs text or bytea"):
            RowChecks([self.spec()], schema_of(pa.schema([("name", pa.int64())])), "stream 's'")
