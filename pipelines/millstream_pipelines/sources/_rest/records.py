"""Records as Arrow columns: types from a first page, then batch by batch; what does not fit goes as text.

A value that does not fit its column's type makes the column text in that batch: nothing is changed, and the cast to the
target's type sets the one row aside. Strings stay text; a date is only a date when `columns` says so.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa

from millstream_pipelines.batch import Reject
from millstream_pipelines.schema import Column, Schema, arrow_type, normalized
from millstream_pipelines.sources._rest.body import dumped
from millstream_pipelines.sources._rest.config import RestStream

Record = dict[str, Any]


def listed(found: Any) -> list[Record]:
    """Return what is at the record path as records; a value that is no object becomes the column `value`."""
    if found is None:
        return []
    items = found if isinstance(found, list) else [found]
    return [item if isinstance(item, dict) else {"value": item} for item in items]


def schema_of(stream: RestStream, records: list[Record]) -> Schema:
    """Return the columns: declared ones first, then those of the records, with types that hold every value."""
    columns = {name: normalized(given) for name, given in stream.columns.items()}
    values: dict[str, list[Any]] = {}
    for record in records:
        for name, value in record.items():
            if name not in columns:
                values.setdefault(name, []).append(value)
    columns |= {name: type_of(seen) for name, seen in values.items()}
    key = tuple(stream.primary_key)
    return Schema(tuple(Column(name, kind, name not in key) for name, kind in columns.items()), key)


def type_of(values: list[Any]) -> str:
    """Return the type that holds all values exactly; text when they are of several kinds, or all null."""
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return "text"
    if kinds == {bool}:
        return "boolean"
    if kinds == {int}:
        return "bigint"
    if kinds <= {int, Decimal}:
        return "double precision" if all(_float_holds(value) for value in values if value is not None) else "numeric"
    return "jsonb" if kinds <= {dict, list} else "text"


def _float_holds(value: int | Decimal) -> bool:
    """Whether the shortest text of the double is the number itself: 0.1 yes, 0.12345678901234567890 no."""
    if isinstance(value, int):
        return abs(value) <= 2**53
    number = float(value)
    return Decimal(repr(number)) == value and abs(number) < float("inf")


def batch_of(records: list[Record], schema: Schema) -> tuple[Any, list[Reject]]:
    """Return the records as a record batch of the schema's columns, and those that no text can hold.

    A string with half a surrogate pair is no Unicode: such a record goes to quarantine, escaped.
    """
    rejects: list[Reject] = []
    good = []
    for record in records:
        if not schema.columns:
            rejects.append(Reject("malformed_row", "a record without a field", {"_raw": dumped(record)}))
            continue
        if _is_unicode(record):
            good.append(record)
        else:
            why = "a string is no valid Unicode (half a surrogate pair)"
            rejects.append(Reject("malformed_row", why, {"_raw": dumped(record)}))
    arrays = [_array([record.get(column.name) for record in good], column.type) for column in schema]
    return pa.RecordBatch.from_arrays(arrays, names=schema.names), rejects


def _array(values: list[Any], type_name: str) -> Any:
    target = arrow_type(type_name)
    try:
        if target == pa.string():
            return pa.array([_text(value, type_name) for value in values], pa.string())
        if pa.types.is_floating(target):
            return pa.array([_double(value) for value in values], target)
        if any(isinstance(value, (str, Decimal)) for value in values):
            return pa.array([_text(value, type_name) for value in values], pa.string()).cast(target)
        if pa.types.is_boolean(target) and any(type(value) is int for value in values):
            raise TypeError("an integer is no boolean")
        if pa.types.is_integer(target) and any(isinstance(value, bool) for value in values):
            raise TypeError("a boolean is no integer")
        return pa.array(values, target)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return pa.array([_text(value, type_name) for value in values], pa.string())


def _double(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not _float_holds(value):
        raise ValueError("no double holds it")
    return float(value)


def _text(value: Any, type_name: str = "text") -> str | None:
    if value is None:
        return None
    if type_name in ("json", "jsonb"):
        return dumped(value)
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return dumped(value) if isinstance(value, (dict, list)) else str(value)


def _is_unicode(record: Any) -> bool:
    left = [record]
    while left:
        value = left.pop()
        if isinstance(value, str):
            if not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value):
                return False
        elif isinstance(value, dict):
            left += [*value, *value.values()]
        elif isinstance(value, list):
            left += value
    return True


__all__ = ["Record", "batch_of", "listed", "schema_of", "type_of"]
