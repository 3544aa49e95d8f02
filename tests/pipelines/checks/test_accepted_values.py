"""The check `accepted_values`."""

# ruff: noqa: RUF012 (the suite declares them as class variables)

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from millstream_pipelines.checks.accepted_values import AcceptedValues
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.row_checks import RowChecks
from millstream_pipelines.schema import schema_of
from millstream_pipelines.testing.check import RowCheckSuite


class TestAcceptedValues(RowCheckSuite):
    entry_point = "accepted_values"
    check = AcceptedValues
    config = {"column": "origin", "values": ["EWR", "JFK", "LGA"]}
    rows = pa.record_batch({"origin": ["EWR", "ewr", None, "LGA", ""]})
    passing = [True, False, True, True, False]
    bad_config = {"at least 1 item": {"values": []}}

    @pytest.mark.parametrize(
        ("column", "values", "passing"),
        [
            (pa.array([1, 2, 3]), ["1", 3], [True, False, True]),
            (pa.array([1, 2], pa.int16()), ["0x1", 2], "no smallint"),
            (pa.array([Decimal("1.00"), Decimal("1.50")]), [1, "2"], [True, False]),
            (pa.array([True, False]), [True], [True, False]),
            (pa.array([True, False]), ["no"], [False, True]),
            (pa.array([date(2013, 1, 1), date(2013, 1, 2)]), [date(2013, 1, 1)], [True, False]),
            (pa.array([date(2013, 1, 1), date(2013, 1, 2)]), ["2013-01-02"], [False, True]),
            (pa.array([1.5, 2.0]), [1.5, "2"], [True, True]),
            (pa.array([1, 2]), ["EWR"], "'EWR' is no bigint"),
        ],
    )
    def test_values_have_the_columns_type(self, column: Any, values: list[Any], passing: Any) -> None:
        rows = pa.record_batch({"origin": column})
        if isinstance(passing, str):
            with pytest.raises(ConfigurationError, match=passing):
                RowChecks([self.spec(values=values)], schema_of(rows.schema), "stream 's'")
        else:
            assert self.built(values=values).passes(rows).to_pylist() == passing

    def test_a_long_list_is_cut_in_the_message(self) -> None:
        assert self.built(values=list(range(1000))).message().endswith("19 and 980 more")
