"""Quarantined rows as JSON: exact, and acceptable to jsonb."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa

from millstream_pipelines.json_rows import json_rows


def test_every_kind_of_value() -> None:
    rows = pa.record_batch(
        {
            "text": ["ü", "a\0b"],
            "big": [2**62, None],
            "float": [0.5, math.nan],
            "decimal": [Decimal("1.50"), None],
            "bytes": [b"\x00\xff", None],
            "day": [date(2013, 1, 1), None],
            "at": pa.array([datetime(2013, 1, 1, 5, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
            "ns": pa.array([1, None], pa.timestamp("ns")),
            "nested": [{"a": [Decimal("1.1")]}, None],
        }
    )
    first, second = json_rows(rows)
    assert first == {
        "text": "ü",
        "big": 2**62,
        "float": 0.5,
        "decimal": "1.50",
        "bytes": "\\x00ff",
        "day": "2013-01-01",
        "at": "2013-01-01T05:00:00+00:00",
        "ns": "1970-01-01 00:00:00.000000001",
        "nested": {"a": ["1.1"]},
    }
    assert second["text"] == {"base64": "YQBi"}
    assert second["float"] == "nan"
    assert "\\u0000" not in json.dumps([first, second], allow_nan=False)


def test_rows_without_columns() -> None:
    assert json_rows(pa.table({"a": [1, 2]}).select([])) == [{}, {}]
