"""Rows to JSON and back: every value is what it was, digit by digit."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from millstream_pipelines.batch import REPLAYED_ID
from millstream_pipelines.json_rows import json_rows
from millstream_pipelines.replayed_rows import batches, widened
from millstream_pipelines.schema import Column, Schema, schema_of
from millstream_pipelines.warehouses.row_json import row_text
from millstream_pipelines.warehouses.set_aside import SetAside

VALUES: dict[str, pa.Array] = {
    "smallint": pa.array([-(2**15), 2**15 - 1, None], pa.int16()),
    "bigint": pa.array([-(2**63), 2**63 - 1, 2**53 + 1]),
    "unsigned": pa.array([2**64 - 1], pa.uint64()),
    "real": pa.array([0.1, 3.4e38, math.inf], pa.float32()),
    "double": pa.array([0.1, -0.0, 5e-324, 1.7976931348623157e308, math.nan, -math.inf, 1e22]),
    "numeric": pa.array([Decimal("12345678901234567890123456789012345.678"), Decimal("0.100")], pa.decimal128(38, 3)),
    "boolean": pa.array([True, False, None]),
    "text": pa.array(["", "ü\n\"'\\", "NULL", "a\0b", '{"base64": "YQ=="}', "\u2028"]),
    "bytea": pa.array([b"", b"\x00\xff", b"\\x"], pa.binary()),
    "date": pa.array([date(1, 1, 1), date(9999, 12, 31)]),
    "time": pa.array([time(23, 59, 59, 999999), time(0)], pa.time64("us")),
    "timestamp": pa.array([datetime(2013, 1, 1, 5, 0, 0, 1)], pa.timestamp("us")),
    "timestamptz": pa.array([datetime(2013, 1, 1, 5, 0, 0, 123456, UTC)], pa.timestamp("us", "UTC")),
    "beyond Python's years": pa.array([-(2**55), 2**60], pa.timestamp("us", "UTC")),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_as_it_was(name: str) -> None:
    before = pa.record_batch({"x": VALUES[name]})
    stored = [json.loads(row_text(row)) for row in json_rows(before)]
    [after] = batches(taken(*stored), schema_of(before.schema))
    wanted = before.column("x") if name != "unsigned" else pa.array([Decimal(2**64 - 1)], pa.decimal128(20, 0))
    assert after.column("x").type == wanted.type
    assert [repr(item) for item in after.column("x")] == [repr(item) for item in wanted]


TEXTS: dict[str, tuple[pa.Array, str, list[str]]] = {
    "interval": (pa.array([timedelta(days=1, microseconds=5)]), "interval", ["86400000005 microseconds"]),
    "struct": (
        pa.array([{"a": [Decimal("1.10")], "t": datetime(2013, 1, 1), "f": 0.1, "n": None}]),
        "jsonb",
        ['{"a":["1.10"],"t":"2013-01-01 00:00:00","f":0.1,"n":null}'],
    ),
    "list": (pa.array([[1, None, 2**62], []]), "jsonb", [f"[1,null,{2**62}]", "[]"]),
    "json as text": (pa.array(['{"a":1.10}', '"x"', "1"]), "jsonb", ['{"a":1.10}', '"x"', "1"]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_kept_as_text_has_the_text_that_a_load_sends(name: str) -> None:
    from millstream_pipelines.casting import cast_column

    values, kind, texts = TEXTS[name]
    stored = [json.loads(row_text(row)) for row in json_rows(pa.record_batch({"x": values}))]
    [after] = batches(taken(*stored), Schema((Column("x", kind),)))
    assert after.column("x").to_pylist() == texts
    assert cast_column(values, kind).values.to_pylist() == texts


def taken(*rows: dict[str, Any]) -> list[SetAside]:
    return [SetAside(number, "run-1", "rule", row, "read", ()) for number, row in enumerate(rows)]


def test_a_value_of_another_type_makes_text_of_its_own_row_only() -> None:
    schema = Schema((Column("f", "double precision"), Column("g", "bigint")))
    fine, odd = batches(taken({"f": 1.0, "g": 1}, {"f": "far", "g": 2}), schema)
    assert (fine.column("f").to_pylist(), fine.column(REPLAYED_ID).to_pylist()) == ([1.0], [0])
    assert (odd.column("f").to_pylist(), odd.column("g").to_pylist(), odd.column(REPLAYED_ID).to_pylist()) == (
        ["far"], [2], [1]
    )  # fmt: skip


def test_a_column_that_only_a_row_knows_is_text_and_one_without_values_is_left_out() -> None:
    schema = widened(Schema((Column("a", "bigint"),)), taken({"a": 1, "gone": 5, "empty": None}))
    assert [(column.name, column.type) for column in schema] == [("a", "bigint"), ("gone", "text")]
