"""Column types: SQL type names in PostgreSQL's words, and how Arrow stores each.

A type that Arrow cannot hold exactly (numeric of any precision, interval, ranges, enums, arrays, …) is stored as
text and cast by the warehouse: its own parser is the only one that loses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_ALIASES = {
    "int": "integer",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float": "double precision",
    "float4": "real",
    "float8": "double precision",
    "double": "double precision",
    "bool": "boolean",
    "string": "text",
    "varchar": "character varying",
    "char": "character",
    "bpchar": "character",
    "decimal": "numeric",
    "datetime": "timestamp",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
    "time with time zone": "timetz",
    "blob": "bytea",
}

_SHAPE = re.compile(r"^\s*([A-Za-z_][\w .]*?)\s*(?:\(([\d\s,-]+)\)\s*([A-Za-z ]*?))?\s*((?:\[\d*\])*)\s*$")


def normalized(name: str) -> str:
    """Return the one spelling of an SQL type: `decimal(12, 2)` → `numeric(12,2)`, `int8[]` → `bigint[]`."""
    match = _SHAPE.match(name)
    if match is None:
        return name.strip()
    base, args, tail, array = match.groups()
    words = " ".join(f"{base} {tail or ''}".lower().split())
    words = _ALIASES.get(words, words)
    numbers = f"({','.join(part.strip() for part in args.split(','))})" if args else ""
    if words.startswith(("timestamp", "time")) and numbers == "(6)":
        numbers = ""
    return f"{words}{numbers}{'[]' if array else ''}"


def is_decimal(sql_type: str) -> bool:
    """Return whether a (normalized) type is a numeric that Arrow holds exactly."""
    return _decimal(sql_type) is not None


def arrow_type(sql_type: str) -> pa.DataType:
    """Return how a column of this SQL type is stored in a batch; text where Arrow would lose something."""
    import pyarrow as pa

    name = normalized(sql_type)
    decimal = _decimal(name)
    if decimal is not None:
        return pa.decimal128(*decimal)
    return _stored().get(name, pa.string())


def sql_type(arrow: pa.DataType) -> str:
    """Return the SQL type that holds every value of an Arrow type. Nested values become jsonb."""
    import pyarrow as pa

    if pa.types.is_dictionary(arrow):
        return sql_type(arrow.value_type)
    if pa.types.is_decimal(arrow):
        return f"numeric({arrow.precision},{arrow.scale})"
    if pa.types.is_timestamp(arrow):
        return "timestamptz" if arrow.tz else "timestamp"
    return next((name for test, name in _by_arrow() if test(arrow)), "text")


def _decimal(name: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"numeric\((\d+)(?:,(\d+))?\)", name)
    if match is None:
        return None
    precision, scale = int(match.group(1)), int(match.group(2) or 0)
    return (precision, scale) if precision <= 38 and scale <= precision else None


# Rows that pass undecoded need no Arrow, so it is imported where it is used.
@cache
def _stored() -> dict[str, pa.DataType]:
    import pyarrow as pa

    return {
        "smallint": pa.int16(),
        "integer": pa.int32(),
        "bigint": pa.int64(),
        "real": pa.float32(),
        "double precision": pa.float64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "time": pa.time64("us"),
        "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", tz="UTC"),
        "bytea": pa.binary(),
    }


@cache
def _by_arrow() -> tuple[tuple[Any, str], ...]:
    import pyarrow as pa

    return (
        (pa.types.is_boolean, "boolean"),
        (lambda t: t in (pa.int8(), pa.int16(), pa.uint8()), "smallint"),
        (lambda t: t in (pa.int32(), pa.uint16()), "integer"),
        (lambda t: t in (pa.int64(), pa.uint32()), "bigint"),
        (lambda t: t == pa.uint64(), "numeric(20,0)"),
        (lambda t: t in (pa.float16(), pa.float32()), "real"),
        (pa.types.is_floating, "double precision"),
        (pa.types.is_date, "date"),
        (pa.types.is_time, "time"),
        (pa.types.is_duration, "interval"),
        (lambda t: pa.types.is_binary(t) or pa.types.is_large_binary(t) or pa.types.is_fixed_size_binary(t), "bytea"),
        (lambda t: pa.types.is_nested(t), "jsonb"),
    )


@dataclass(frozen=True)
class Column:
    """A named column: `type` is an SQL type in its normalized spelling."""

    name: str
    type: str = "text"
    nullable: bool = True

    def arrow(self) -> pa.Field:
        """Return the Arrow field that stores this column in a batch."""
        import pyarrow as pa

        return pa.field(self.name, arrow_type(self.type))


@dataclass(frozen=True)
class Schema:
    """Columns in order, and the key where one is known."""

    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = field(default=())

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [column.name for column in self.columns]

    def get(self, name: str) -> Column | None:
        """Return the column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)

    def arrow(self) -> pa.Schema:
        """Return the Arrow schema of a batch of this shape."""
        import pyarrow as pa

        return pa.schema([column.arrow() for column in self.columns])

    def with_columns(self, columns: Iterable[Column]) -> Schema:
        """Return the same schema with other columns."""
        return replace(self, columns=tuple(columns))


def schema_of(arrow: pa.Schema, primary_key: Iterable[str] = ()) -> Schema:
    """Return the schema that holds every value of batches with this Arrow schema."""
    return Schema(tuple(Column(item.name, sql_type(item.type), item.nullable) for item in arrow), tuple(primary_key))
