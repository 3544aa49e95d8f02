"""Casts of whole columns: what fits is cast, what does not is refused row by row. Nothing is rounded or clipped.

Stricter than PostgreSQL where PostgreSQL changes a value in silence: '1.5' is no integer, 1.005 no numeric(10,2),
a time of day no date, a text with a zone no `timestamp`. A text without a zone, a `timestamp` or a date that becomes
`timestamptz` is taken as UTC. Text parses in `text_values`, types that are kept as text in `stored_text`.

Arrow's kernels do it all: they are exact (DuckDB's casts round) and need 25 ns per value. They fail as a whole, so a
failure is followed by a guard that clears the usual culprits and then by bisection for the rest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millstream_pipelines import moments, stored_text, text_values
from millstream_pipelines.schema import arrow_type, normalized
from millstream_pipelines.text_values import cast_rows, only


@dataclass(frozen=True)
class Cast:
    """A cast column: `values` of the target's storage type, NULL where `refused` (never null; None: no row)."""

    values: pa.Array
    refused: pa.BooleanArray | None = None


def cast_column(values: pa.Array, target: str) -> Cast:
    """Cast a column to an SQL type. NULL stays NULL."""
    target = normalized(target)
    stored = arrow_type(target)
    plain = _plain(values)
    if pa.types.is_null(plain.type):
        return Cast(pa.nulls(len(plain), stored))
    if pa.types.is_string(stored):
        text = as_text(plain)
        return _compared(plain, stored_text.valid(text, target))
    if pa.types.is_string(plain.type):
        return _compared(plain, text_values.parsed(plain, stored))
    made = plain if plain.type == stored else _converted(plain, stored)
    return _compared(plain, moments.possible(made) if pa.types.is_temporal(stored) else made)


def castable(source: str, target: str) -> bool:
    """Return whether any value of one SQL type can become one of another; used before the first row."""
    before, after = arrow_type(source), arrow_type(target)
    if pa.types.is_string(before) or pa.types.is_string(after) or before == after:
        return True
    return (_kind(before), _kind(after)) in _CONVERTERS


def as_text(values: pa.Array) -> pa.StringArray:
    """Return a column as text, one spelling per value; NULL where bytes are no UTF-8 or JSON cannot hold a value."""
    values = _plain(values)
    kind = values.type
    if pa.types.is_string(kind):
        return values
    if pa.types.is_nested(kind):
        return pa.array([_json(item) for item in moments.spelled_within(values)], pa.string())
    if pa.types.is_duration(kind):
        # Arrow would print a bare number, which PostgreSQL would read as seconds.
        micros = cast_rows(cast_rows(values, pa.duration("us")), pa.int64())
        return pc.binary_join_element_wise(pc.cast(micros, pa.string()), " microseconds", "")
    return moments.spelled(values) if pa.types.is_temporal(kind) else cast_rows(values, pa.string())


def _compared(before: pa.Array, after: pa.Array) -> Cast:
    if before.null_count == after.null_count:
        return Cast(after)
    return Cast(after, pc.and_not(before.is_valid(), after.is_valid()))


def _plain(values: pa.Array) -> pa.Array:
    """Undo encodings that only save space."""
    kind = values.type
    if isinstance(values, pa.ExtensionArray):
        return _plain(values.storage)
    if pa.types.is_dictionary(kind):
        return _plain(values.dictionary_decode())
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pc.cast(values, pa.string())
    if pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind):
        return pc.cast(values, pa.binary())
    return values


def _json(item: pa.Scalar) -> str | None:
    if not item.is_valid:
        return None
    try:
        value = item.as_py(maps_as_pydicts="strict")
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_json_leaf)
    except (KeyError, ValueError):  # a key given twice, NaN, bytes that are no UTF-8
        return None


def _json_leaf(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _converted(values: pa.Array, stored: pa.DataType) -> pa.Array:
    converter = _CONVERTERS.get((_kind(values.type), _kind(stored)))
    return pa.nulls(len(values), stored) if converter is None else converter(values, stored)


def _kind(arrow: pa.DataType) -> str:
    return next((name for test, name in _KINDS if test(arrow)), "other")


_KINDS: tuple[tuple[Any, str], ...] = (
    (pa.types.is_integer, "integer"),
    (pa.types.is_floating, "float"),
    (pa.types.is_decimal, "decimal"),
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_date, "date"),
    (pa.types.is_timestamp, "timestamp"),
    (pa.types.is_time, "time"),
    (pa.types.is_binary, "binary"),
)


def _integer_to_integer(values: pa.Array, stored: pa.DataType) -> pa.Array:
    try:
        return pc.cast(values, stored)
    except pa.ArrowInvalid:
        largest = 2 ** (stored.bit_width - 1) - 1
        wide = values if values.type == pa.uint64() else pc.cast(values, pa.int64())
        fits = pc.less_equal(wide, pa.scalar(largest, wide.type))
        if wide.type == pa.int64():
            fits = pc.and_(fits, pc.greater_equal(wide, pa.scalar(-largest - 1, wide.type)))
        return pc.cast(only(wide, fits), stored)


def _float_to_integer(values: pa.Array, stored: pa.DataType) -> pa.Array:
    try:
        return pc.cast(values, stored)
    except pa.ArrowInvalid:
        return cast_rows(only(values, pc.equal(pc.trunc(values), values)), stored)


def _float_to_float(values: pa.Array, stored: pa.DataType) -> pa.Array:
    """Narrow to the nearest value, which is what a floating type promises; refuse what becomes infinite."""
    narrow = pc.cast(values, stored)
    return only(narrow, pc.equal(pc.is_inf(narrow), pc.is_inf(values)))


def _decimal_to_integer(values: pa.Array, stored: pa.DataType) -> pa.Array:
    try:
        return pc.cast(values, stored)
    except pa.ArrowInvalid:
        return cast_rows(only(values, pc.equal(pc.trunc(values), values)), stored)


def _timestamp_to_date(values: pa.Array, stored: pa.DataType) -> pa.Array:
    days = pc.cast(values, stored)
    return only(days, pc.equal(pc.cast(days, values.type), values))


def _via_text(values: pa.Array, stored: pa.DataType) -> pa.Array:
    return text_values.parsed(as_text(values), stored)


_CONVERTERS: dict[tuple[str, str], Any] = {
    ("boolean", "integer"): cast_rows,
    ("binary", "binary"): cast_rows,
    ("date", "date"): cast_rows,
    ("date", "timestamp"): cast_rows,
    ("decimal", "decimal"): _via_text,
    ("decimal", "float"): cast_rows,
    ("decimal", "integer"): _decimal_to_integer,
    ("float", "decimal"): _via_text,
    ("float", "float"): _float_to_float,
    ("float", "integer"): _float_to_integer,
    ("integer", "boolean"): _via_text,
    ("integer", "decimal"): _via_text,
    ("integer", "float"): cast_rows,
    ("integer", "integer"): _integer_to_integer,
    ("time", "time"): cast_rows,
    ("timestamp", "date"): _timestamp_to_date,
    ("timestamp", "timestamp"): cast_rows,
}
