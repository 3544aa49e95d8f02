"""Column types of other databases in PostgreSQL's words; where a type could lose something it is the wider one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import types

_MYSQL_UNSIGNED = {"TINYINT": "smallint", "SMALLINT": "integer", "MEDIUMINT": "integer", "INTEGER": "bigint"}
_BY_NAME = {
    "TINYINT": "smallint",  # MySQL's BOOL is one: it holds any value from -128 to 127
    "MEDIUMINT": "integer",
    "YEAR": "smallint",
    "BIT": "bytea",
    "SET": "text",
    "TINYBLOB": "bytea",
    "MEDIUMBLOB": "bytea",
    "LONGBLOB": "bytea",
    "DATETIMEOFFSET": "timestamptz",
    "MONEY": "numeric(19,4)",
    "SMALLMONEY": "numeric(10,4)",
}


def sql_type(kind: Any, dialect: str) -> str:
    """Return the type for a column that SQLAlchemy reflected as `kind`; text for what nobody knows."""
    name = type(kind).__name__.upper()
    if dialect in ("mysql", "mariadb"):
        if getattr(kind, "unsigned", False) and isinstance(kind, types.Integer):
            return "numeric(20,0)" if name == "BIGINT" else _MYSQL_UNSIGNED.get(name, "bigint")
        if name == "TIMESTAMP":
            return "timestamptz"
        if name == "TIME":
            return "interval"  # it runs from -838 to 838 hours
        if name == "FLOAT":
            return "real"
    if name in _BY_NAME:
        return _BY_NAME[name]
    return _by_class(kind, dialect)


def _by_class(kind: Any, dialect: str) -> str:
    match kind:
        case types.Boolean():
            return "boolean"
        case types.Integer() if dialect == "sqlite":
            return "bigint"  # its integers have 64 bits whatever they are called
        case types.SmallInteger():
            return "smallint"
        case types.BigInteger():
            return "bigint"
        case types.Integer():
            return "integer"
        case types.REAL() if dialect not in ("sqlite", "mysql", "mariadb"):
            return "real"
        case types.Float():
            return "double precision"
        case types.Numeric():
            return _numeric(kind.precision, kind.scale)
        case types.Uuid():
            return "uuid"
        case types.Enum():
            return "text"
        case types.JSON():
            return "jsonb"
        case types.String():
            # SQLite does not hold its text to the length that was declared.
            return f"character varying({kind.length})" if kind.length and dialect != "sqlite" else "text"
        case types.LargeBinary() | types.BINARY() | types.VARBINARY() | types.BLOB():
            return "bytea"
        case types.DateTime():
            return "timestamptz" if kind.timezone else "timestamp"
        case types.Date():
            return "date"
        case types.Time():
            return "time"
        case types.Interval():
            return "interval"
    return "text"


def _numeric(precision: int | None, scale: int | None) -> str:
    if precision is None or precision > 1000 or not 0 <= (scale or 0) <= precision:
        return "numeric"
    return f"numeric({precision},{scale or 0})"


_BY_VALUE: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "bigint"),
    (float, "double precision"),
    (Decimal, "numeric"),
    (datetime, "timestamp"),
    (date, "date"),
    (time, "time"),
    (timedelta, "interval"),
    (UUID, "uuid"),
    (bytes, "bytea"),
    (bytearray, "bytea"),
    (memoryview, "bytea"),
)


def type_of_values(values: Iterable[Any]) -> str:
    """Return a type for a query's column from a sample of its values; text when they differ or all are NULL."""
    found = {next((name for kind, name in _BY_VALUE if isinstance(value, kind)), "text") for value in values}
    if found == {"timestamp"}:
        return "timestamp"
    if len(found) > 1 and found <= {"bigint", "numeric"}:
        return "numeric"
    return found.pop() if len(found) == 1 else "text"


__all__ = ["sql_type", "type_of_values"]
