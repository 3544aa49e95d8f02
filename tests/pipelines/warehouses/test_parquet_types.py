"""Every SQL type on its way into a Parquet file: what it is stored as, and that the value comes back identical."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.testing.warehouse_case import batch, totals
from millstream_pipelines.warehouses._parquet.types import stored_type
from millstream_pipelines.warehouses.base import Counts
from parquet_case import ParquetCase

_ID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
_INSTANT = datetime(2024, 3, 10, 7, 0, 0, 1, tzinfo=UTC)
# type → Arrow's type, and (value as a batch holds it, value as a reader gets it).
SAME: dict[str, tuple[pa.DataType, list[Any]]] = {
    "smallint": (pa.int16(), [-(2**15), 2**15 - 1]),
    "integer": (pa.int32(), [-(2**31), 2**31 - 1]),
    "bigint": (pa.int64(), [-(2**63), 2**63 - 1]),
    "real": (pa.float32(), [1.5, math.inf, -0.0]),
    "double precision": (pa.float64(), [0.1, 5e-324, 1.7976931348623157e308, -math.inf, -0.0]),
    "boolean": (pa.bool_(), [True, False]),
    "numeric(38,10)": (pa.decimal128(38, 10), [Decimal("-9999999999999999999999999999.9999999999"), Decimal("1E-10")]),
    "numeric(4)": (pa.decimal128(4, 0), [Decimal(9999)]),
    "numeric": (pa.string(), ["NaN", "9" * 1000, "-1.50"]),
    "numeric(50,20)": (pa.string(), ["123456789012345678901234567890.12345678901234567890"]),
    "date": (pa.date32(), [date(1, 1, 1), date(9999, 12, 31)]),
    "time": (pa.time64("us"), [time(0), time(23, 59, 59, 999999)]),
    "timestamp": (pa.timestamp("us"), [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)]),
    "timestamptz": (pa.timestamp("us", "UTC"), [_INSTANT]),
    "timetz": (pa.string(), ["12:34:56.789+05:30"]),
    "bytea": (pa.binary(), [b"", b"\x00\xff\n\\"]),
    "text": (pa.string(), ["", "ünïcödé 💧", "tab\t\n\\N\r'\"", "nul\x00", "x" * 100_000]),
    "character varying(3)": (pa.string(), ["", "üäö"]),
    "json": (pa.json_(pa.string()), ['{"b": 1, "a": [1,  2.50]}', "null"]),
    "jsonb": (pa.json_(pa.string()), ["[" * 50 + "]" * 50, '"💧"']),
    "interval": (pa.string(), ["1 year 2 mons -3 days +04:05:06.789"]),
    "int4range": (pa.string(), ["[1,5)", "empty"]),
    "inet": (pa.string(), ["192.168.0.1/24"]),
    "bit(3)": (pa.string(), ["101"]),
    "app.mood": (pa.string(), ["sad"]),
    "app.mood[]": (pa.string(), ["{sad,happy}"]),
}
# type, Arrow's type, text as a batch holds it, value as a reader gets it.
CONVERTED = [
    ("uuid", pa.uuid(), _ID, uuid.UUID(_ID)),
    ("uuid", pa.uuid(), "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}", uuid.UUID(_ID)),
    ("uuid", pa.uuid(), _ID.replace("-", ""), uuid.UUID(_ID)),
    ("timestamp(3)", pa.timestamp("us"), "2024-02-29 12:34:56.789", datetime(2024, 2, 29, 12, 34, 56, 789000)),
    ("timestamptz(0)", pa.timestamp("us", "UTC"), "2024-03-10 09:00:00.000001+02", _INSTANT),
    ("time(3)", pa.time64("us"), "12:34:56.789", time(12, 34, 56, 789000)),
    ("integer[]", pa.list_(pa.int32()), "{1,NULL,-3}", [1, None, -3]),
    ("integer[]", pa.list_(pa.int32()), "{}", []),
    ("text[]", pa.list_(pa.string()), r'{a,"b,\"c\\",NULL,"NULL",""}', ["a", 'b,"c\\', None, "NULL", ""]),
    ("numeric(12,2)[]", pa.list_(pa.decimal128(12, 2)), "{1.50,-0.01}", [Decimal("1.50"), Decimal("-0.01")]),
    ("numeric[]", pa.list_(pa.string()), "{1e3,NaN}", ["1e3", "NaN"]),
    ("uuid[]", pa.list_(pa.uuid()), f"{{{_ID},NULL}}", [uuid.UUID(_ID), None]),
    ("boolean[]", pa.list_(pa.bool_()), "{t,f}", [True, False]),
    ("date[]", pa.list_(pa.date32()), "{2024-02-29}", [date(2024, 2, 29)]),
    ("timestamptz[]", pa.list_(pa.timestamp("us", "UTC")), '{"2024-03-10 07:00:00.000001+00"}', [_INSTANT]),
    ("bytea[]", pa.list_(pa.binary()), r'{"\\x00ff"}', [b"\x00\xff"]),
]  # fmt: skip
REFUSED = [
    ("uuid", "x", "'x'"), ("time(3)", "25:00", "'25:00'"),
    ("date", 2**31 - 1, "'infinity'"), ("date", -(2**31 - 1), "'-infinity'"),
    ("timestamp", 2**63 - 1, "'infinity'"), ("timestamptz", -(2**63 - 1), "'-infinity'"),
    ("time", 86_400_000_000, "'24:00:00'"), ("integer[]", "{{1,2},{3,4}}", "{{1,2},{3,4}}"),
    ("integer[]", "[0:1]={1,2}", "[0:1]"), ("integer[]", "{1,x}", "{1,x}"), ("integer[]", "{1,,2}", "{1,,2}"),
    ("timestamp(3)", "infinity", "'infinity'"), ("date[]", "{infinity}", "{infinity}"),
]  # fmt: skip


class TestTypes(ParquetCase):
    """One column of one type, a NULL first and last."""

    def written(self, kind: str, *values: Any) -> tuple[int, ...]:
        """Write one column, after asking twice, so that the type as the log has it is seen too."""
        schema = Schema((Column("id", "bigint"), Column("v", kind)))
        load = self.open().load(self.spec())
        for _ in range(2):
            target = load.shape(schema)
            assert target.get("v") == Column("v", kind), "the type's name survives"
        numbers = pa.array(range(len(values)), pa.int64())
        stored = target.arrow().field("v").type
        if values and any(isinstance(value, int) for value in values) and pa.types.is_temporal(stored):
            made = pa.array(values, pa.int32() if stored.bit_width == 32 else pa.int64()).view(stored)
            data = pa.RecordBatch.from_arrays([numbers, made], schema=target.arrow())
        else:
            data = batch(target, *enumerate(values))
        load.write(data, [], Counts(read=data.num_rows))
        counts = load.settle()
        load.commit(None)
        return totals(counts)

    def read(self) -> pa.Table:
        """Read the one file as anybody would."""
        (path,) = self.open().files(self.table)
        return pq.read_table(path)

    @pytest.mark.parametrize("kind", SAME)
    def test_values_come_back_identical(self, kind: str) -> None:
        stored, values = SAME[kind]
        assert stored_type(kind) == stored
        self.written(kind, None, *values, None)
        found = self.read()
        assert found.schema.field("v").type == stored
        assert found.schema.field("v").metadata[b"millstream.type"] == kind.encode()
        assert found.column("v").to_pylist() == [None, *values, None]
        assert [value for _, value in self.seen("id, v")] == [None, *values, None], "DuckDB reads the same"

    @pytest.mark.parametrize(("kind", "stored", "text", "value"), CONVERTED)
    def test_text_becomes_the_type_that_parquet_has(self, kind: str, stored: Any, text: str, value: Any) -> None:
        assert stored_type(kind) == stored
        self.written(kind, None, text, None)
        found = self.read()
        assert found.schema.field("v").type == stored
        assert found.column("v").to_pylist() == [None, value, None]
        seen = self.seen("id, v")[1][1]
        assert seen in (value, str(value)) or seen == [None if item is None else str(item) for item in value]

    def test_uuids_in_several_spellings_stay_in_their_rows(self) -> None:
        other = str(uuid.UUID(int=1))
        spelled = [_ID, None, other.upper(), f"{{{_ID}}}", other.replace("-", ""), None]
        self.written("uuid", *spelled)
        assert self.read().column("v").to_pylist() == [None if text is None else uuid.UUID(text) for text in spelled]

    def test_not_a_number(self) -> None:
        self.written("double precision", math.nan)
        assert self.seen("isnan(v)") == [(True,)]

    @pytest.mark.parametrize(("kind", "value", "named"), REFUSED)
    def test_values_that_parquet_cannot_hold_are_set_aside_by_column_and_value(
        self, kind: str, value: Any, named: str
    ) -> None:
        assert self.written(kind, None, value) == (2, 1, 1, 0, 0)
        ((rule, status, message),) = self.metadata("rule, status, message", "quarantine")
        assert (rule, status) == ("cast(v)", "open")
        assert message.startswith("column 'v': ")
        assert named in message
        assert "type: text" in message

    @pytest.mark.parametrize(
        ("narrow", "wide", "before", "after"),
        [
            ("smallint", "numeric(7,2)", 5, Decimal("5.00")),
            ("integer", "numeric", 5, "5"),
            ("numeric(4,1)", "numeric(12,2)", Decimal("1.5"), Decimal("1.50")),
            ("date", "timestamp", date(2024, 2, 29), datetime(2024, 2, 29)),
            ("real", "double precision", 0.5, 0.5),
        ],
    )
    def test_files_of_a_narrower_type_are_read_as_the_wider(
        self, narrow: str, wide: str, before: Any, after: Any
    ) -> None:
        from millstream_api.stream import Contract

        for kind, value in ((narrow, before), (wide, after)):
            schema = Schema((Column("id", "bigint"), Column("v", kind)))
            load = self.open().load(self.spec(contract=Contract(types="evolve")))
            data = batch(load.shape(schema), (1, value))
            load.write(data, [], Counts(read=1))
            load.commit(None)
        assert self.seen("id, v") == [(1, after), (1, after)]
