"""Values as a driver returns them, as Arrow columns: exact, or as text that the engine's cast judges by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from millstream_pipelines.schema import Column


def array_of(values: Sequence[Any], column: Column) -> pa.Array:
    """Return one column of a batch; text when a value does not fit the column's type as it is.

    A database may hold what its own declaration forbids (SQLite types values, not columns; MySQL has the day
    0000-00-00): such a value goes on as text, and the cast sets its row aside by itself.
    """
    kind = column.arrow().type
    if not pa.types.is_string(kind):
        try:
            return pa.array([_fitting(value, column.type) for value in values], kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            pass
    return pa.array([None if value is None else text_of(value, column.type) for value in values], pa.string())


def _fitting(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "boolean":
        if value in (0, 1):
            return bool(value)
        raise ValueError(value)
    if kind == "bytea":
        return bytes(value) if not isinstance(value, str) else value.encode()
    if isinstance(value, bool) or (isinstance(value, str) and kind != "text"):
        raise TypeError(value)  # Arrow would read a number into it by rules of its own
    if kind == "timestamptz" and isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)  # the session's time zone is UTC
    if kind == "timestamp" and isinstance(value, datetime) and value.tzinfo is not None:
        raise ValueError(value)
    if kind == "date" and isinstance(value, datetime):
        raise TypeError(value)
    if kind.startswith("numeric") and isinstance(value, float):
        raise TypeError(value)  # its text says what the database meant; its 53 bits do not
    if kind in ("real", "double precision") and isinstance(value, int) and abs(value) > 2**53:
        raise ValueError(value)
    return value


def text_of(value: Any, kind: str = "text") -> str:
    """Return a value's text as PostgreSQL reads it."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case Decimal():
            return format(value, "f")
        case bytes() | bytearray() | memoryview():
            raw = bytes(value)
            return "\\x" + raw.hex() if kind == "bytea" else _decoded(raw)
        case datetime():
            return (value.replace(tzinfo=UTC) if kind == "timestamptz" and value.tzinfo is None else value).isoformat(
                " "
            )
        case date() | time():
            return value.isoformat()
        case timedelta():
            return _interval(value)
        case dict() | list():
            return json.dumps(value, ensure_ascii=False)
    return str(value)


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "\\x" + raw.hex()


def _interval(value: timedelta) -> str:
    microseconds = abs(value) // timedelta(microseconds=1)
    seconds, fraction = divmod(microseconds, 1_000_000)
    sign = "-" if value < timedelta(0) else ""
    tail = f".{fraction:06d}" if fraction else ""
    return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{tail}"


def size_of(values: Sequence[Any]) -> int:
    """Return about how many bytes a row takes."""
    return sum(len(value) if isinstance(value, (str, bytes, bytearray)) else 16 for value in values)


__all__ = ["array_of", "size_of", "text_of"]
