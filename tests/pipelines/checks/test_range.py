"""The check `range`."""

# ruff: noqa: RUF012 (the suite declares them as class variables)

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from millstream_pipelines.checks.range import Range
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.row_checks import RowChecks
from millstream_pipelines.schema import schema_of
from millstream_pipelines.testing.check import RowCheckSuite

NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)


class TestRange(RowCheckSuite):
    entry_point = "range"
    check = Range
    config = {"column": "distance", "min": 1, "max": 6000}
    rows = pa.record_batch({"distance": [1, 0, 6000, 6001, None, -5]})
    passing = [True, False, True, False, True, False]
    bad_config = {"at least one of": {"min": None, "max": None}}

    @pytest.mark.parametrize(
        ("column", "bounds", "passing"),
        [
            (pa.array([1, 2, 3], pa.int16()), {"min": 1.5}, [False, True, True]),
            (pa.array([1, 2, 3]), {"exclusiveMin": 1, "exclusiveMax": 3}, [False, True, False]),
            (pa.array([1, 2], pa.int16()), {"max": 10**12}, [True, True]),
            (pa.array([2**63 - 1]), {"max": 10**30}, [True]),
            (pa.array([0.5, float("nan"), float("inf")]), {"min": 0, "max": 1}, [True, False, False]),
            (pa.array([Decimal("9.99"), Decimal("10.01")]), {"max": 10}, [True, False]),
            (pa.array([Decimal("9.99"), Decimal("10.01")]), {"max": "9.995"}, [True, False]),
            (pa.array([date(2013, 1, 1), date(2014, 1, 1)]), {"max": date(2013, 12, 31)}, [True, False]),
            (pa.array([NOON], pa.timestamp("us", "UTC")), {"min": "2013-01-01T12:00:00+00:00"}, [True]),
            (pa.array([NOON], pa.timestamp("us", "UTC")), {"exclusiveMin": "2013-01-01 12:00"}, [False]),
            (pa.array([time(5), time(7)], pa.time64("us")), {"max": "06:00"}, [True, False]),
            (pa.array(["5", "50", "x", None, "1e40"]), {"max": 10}, [True, False, False, True, False]),
            (pa.array(["0.30000000000000004", "0.3"]), {"max": 0.3}, [False, True]),
            (pa.array(["b", "d"]), {"min": "a", "max": "c"}, [True, False]),
        ],
    )
    def test_types(self, column: Any, bounds: dict[str, Any], passing: list[bool]) -> None:
        check = self.check(self.check.Config.model_validate({"column": "distance", **bounds}))
        assert check.passes(pa.record_batch({"distance": column})).to_pylist() == passing

    @pytest.mark.parametrize(
        ("arrow", "bounds", "words"),
        [
            (pa.int64(), {"min": "soon"}, "'soon' is no number"),
            (pa.date32(), {"min": "2013-02-30"}, "no date"),
            (pa.bool_(), {"min": 0}, "a range needs numbers"),
        ],
    )
    def test_a_bound_that_the_column_cannot_hold(self, arrow: Any, bounds: dict[str, Any], words: str) -> None:
        schema = schema_of(pa.schema([("distance", arrow)]))
        with pytest.raises(ConfigurationError, match=words):
            RowChecks([self.spec(**{"max": None, **bounds})], schema, "stream 's'")

    def test_the_message_names_all_bounds(self) -> None:
        assert self.built().message() == "distance must be at least 1 and at most 6000"
