"""SQL types and how Arrow stores them: one spelling each, and nothing lost on the way."""

from __future__ import annotations

import pyarrow as pa
import pytest

from millstream_pipelines.schema import Column, Schema, arrow_type, normalized, schema_of, sql_type


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("INT8", "bigint"),
        ("int4[]", "integer[]"),
        ("integer[3][3]", "integer[]"),
        ("decimal(12, 2)", "numeric(12,2)"),
        ("NUMERIC ( 5 )", "numeric(5)"),
        ("numeric(3,-2)", "numeric(3,-2)"),
        ("varchar(20)", "character varying(20)"),
        ("char", "character"),
        ("character varying", "character varying"),
        ("timestamp with time zone", "timestamptz"),
        ("timestamp(3) with time zone", "timestamptz(3)"),
        ("timestamp(6) without time zone", "timestamp"),
        ("time(6)", "time"),
        ("time with time zone", "timetz"),
        ("Double   Precision", "double precision"),
        ("float", "double precision"),
        ("real", "real"),
        ("bit varying(8)", "bit varying(8)"),
        ("app.mood", "app.mood"),
        ('"My Type"', '"My Type"'),
        ("interval day to second(3)", "interval day to second(3)"),
    ],
)
def test_one_spelling_per_type(written: str, expected: str) -> None:
    assert normalized(written) == expected
    assert normalized(expected) == expected, "normal stays normal"


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("smallint", pa.int16()),
        ("timestamptz", pa.timestamp("us", tz="UTC")),
        ("timestamp", pa.timestamp("us")),
        ("timestamp(3)", pa.string()),
        ("numeric(38,10)", pa.decimal128(38, 10)),
        ("numeric(39)", pa.string()),
        ("numeric(3,5)", pa.string()),
        ("numeric(3,-2)", pa.string()),
        ("numeric", pa.string()),
        ("integer[]", pa.string()),
        ("bytea", pa.binary()),
        ("jsonb", pa.string()),
        ("uuid", pa.string()),
        ("app.mood", pa.string()),
    ],
)
def test_what_arrow_cannot_hold_exactly_is_text(kind: str, stored: pa.DataType) -> None:
    assert arrow_type(kind) == stored


@pytest.mark.parametrize(
    ("arrow", "kind"),
    [
        (pa.int8(), "smallint"),
        (pa.uint8(), "smallint"),
        (pa.uint16(), "integer"),
        (pa.uint32(), "bigint"),
        (pa.uint64(), "numeric(20,0)"),
        (pa.float16(), "real"),
        (pa.float64(), "double precision"),
        (pa.decimal128(10, 2), "numeric(10,2)"),
        (pa.decimal256(60, 5), "numeric(60,5)"),
        (pa.bool_(), "boolean"),
        (pa.date64(), "date"),
        (pa.time32("s"), "time"),
        (pa.timestamp("ns"), "timestamp"),
        (pa.timestamp("s", tz="Asia/Tokyo"), "timestamptz"),
        (pa.duration("us"), "interval"),
        (pa.large_binary(), "bytea"),
        (pa.binary(16), "bytea"),
        (pa.large_string(), "text"),
        (pa.string_view(), "text"),
        (pa.null(), "text"),
        (pa.list_(pa.int64()), "jsonb"),
        (pa.struct({"a": pa.int64()}), "jsonb"),
        (pa.map_(pa.string(), pa.int64()), "jsonb"),
        (pa.dictionary(pa.int32(), pa.string()), "text"),
        (pa.dictionary(pa.int32(), pa.decimal128(5, 1)), "numeric(5,1)"),
    ],
)
def test_a_type_that_holds_every_value(arrow: pa.DataType, kind: str) -> None:
    assert sql_type(arrow) == kind


def test_every_native_type_goes_there_and_back() -> None:
    for name in (
        "smallint", "integer", "bigint", "real", "double precision", "boolean", "date", "time", "timestamp",
        "timestamptz", "bytea", "text", "numeric(12,2)",
    ):  # fmt: skip
        assert sql_type(arrow_type(name)) == name


def test_schemas() -> None:
    schema = Schema((Column("a", "integer", nullable=False), Column("b")), ("a",))
    assert schema.names == ["a", "b"]
    assert len(schema) == 2
    assert schema.get("b") == Column("b", "text")
    assert schema.get("c") is None
    assert schema.arrow() == pa.schema([("a", pa.int32()), ("b", pa.string())])
    assert schema.with_columns([Column("c")]) == Schema((Column("c"),), ("a",))
    fields = pa.schema([pa.field("a", pa.int32(), nullable=False), pa.field("b", pa.string())])
    assert schema_of(fields, ["a"]) == schema
