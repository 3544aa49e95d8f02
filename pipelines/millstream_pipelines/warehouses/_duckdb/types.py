"""SQL types in PostgreSQL's words as DuckDB stores them, and back.

| type | stored as | |
|---|---|---|
| smallint … bigint, real, double precision, boolean, date, time, timestamp, timestamptz | the same | exact |
| numeric(p,s), p ≤ 38 | DECIMAL(p,s) | exact |
| bytea | BLOB | |
| uuid, interval, json, jsonb | UUID, INTERVAL, JSON | json keeps its text |
| time(p), timestamp(p), timestamptz(p) | TIME, TIMESTAMP, TIMESTAMPTZ | p is not enforced |
| character(n), character varying(n) | VARCHAR | n is enforced by the cast before, not by the table |
| numeric without limits or p > 38, arrays, ranges, inet, enums, money, bits, geometry … | VARCHAR | PostgreSQL's text |

Where DuckDB's own type says less, the column's comment keeps the type's name, so that the next run casts alike.
A target column of a nested type (STRUCT, LIST, MAP, UNION) takes no rows and is refused by name.
"""

from __future__ import annotations

import re

import pyarrow as pa

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.schema import Column, arrow_type, normalized

_SAME = {
    "smallint": "SMALLINT", "integer": "INTEGER", "bigint": "BIGINT", "real": "FLOAT", "double precision": "DOUBLE",
    "boolean": "BOOLEAN", "date": "DATE", "time": "TIME", "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP WITH TIME ZONE", "bytea": "BLOB", "text": "VARCHAR", "uuid": "UUID",
    "interval": "INTERVAL", "jsonb": "JSON", "json": "JSON",
}  # fmt: skip
_BACK = {stored: name for name, stored in _SAME.items() if name != "json"} | {
    "TINYINT": "smallint", "UTINYINT": "smallint", "USMALLINT": "integer", "UINTEGER": "bigint",
    "UBIGINT": "numeric(20,0)", "HUGEINT": "numeric", "UHUGEINT": "numeric", "BIGNUM": "numeric",
    "TIMESTAMP_S": "timestamp", "TIMESTAMP_MS": "timestamp", "TIMESTAMP_NS": "timestamp",
    "TIME WITH TIME ZONE": "timetz", "BIT": "bit varying",
}  # fmt: skip
_COMMENT = "millstream type: "


def stored_type(name: str) -> str:
    """Return DuckDB's type for an SQL type in PostgreSQL's words."""
    name = normalized(name)
    if name in _SAME:
        return _SAME[name]
    base = re.sub(r"\(.*?\)", "", name)
    if base in ("time", "timestamp", "timestamptz"):
        return _SAME[base]
    kind = arrow_type(name)
    return f"DECIMAL({kind.precision},{kind.scale})" if pa.types.is_decimal(kind) else "VARCHAR"


def logical_type(table: str, column: str, stored: str, comment: str | None) -> str:
    """Return the SQL type of a column in the catalog. ConfigurationError for one that rows cannot be loaded into."""
    if comment is not None and comment.startswith(_COMMENT):
        name = comment.removeprefix(_COMMENT)
        if stored_type(name) == stored:
            return name
    if stored in _BACK:
        return _BACK[stored]
    if match := re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", stored):
        return f"numeric({match.group(1)},{match.group(2)})"
    if stored.startswith("ENUM("):
        return "text"
    raise ConfigurationError(
        f"target {table}: column '{column}' is {stored[:80]}, which rows cannot be loaded into; "
        "make it JSON or VARCHAR, or leave the column out of the stream"
    )


def comment_of(column: Column) -> str | None:
    """Return the comment that keeps a type's name, None where DuckDB's own type says it."""
    stored = stored_type(column.type)
    if _BACK.get(stored) == column.type or stored.startswith("DECIMAL("):
        return None
    return f"{_COMMENT}{column.type}"


def is_cast(column: Column, stored: str) -> bool:
    """Return whether a column's values are cast on their way in, so that one may be refused."""
    own = stored_type(column.type)
    return stored != own or (pa.types.is_string(arrow_type(column.type)) and own != "VARCHAR")
