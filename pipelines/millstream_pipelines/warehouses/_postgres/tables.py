"""Target tables: read their shape, create them, and let them evolve under the contract."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from psycopg2.extensions import connection as Connection

from millstream_api.pipeline import Contract
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.schema import Column, Schema, normalized
from millstream_pipelines.warehouses._postgres.connection import one, quote, quote_table

# A type may become any of those to its right in its row: no value changes.
_WIDENING: tuple[tuple[str, ...], ...] = (
    ("smallint", "integer", "bigint", "numeric"),
    ("smallint", "integer", "double precision"),
    ("real", "double precision"),
    ("character varying", "text"),
)
_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
_MAX_NAME_BYTES = 63  # NAMEDATALEN - 1 of every server that was not built by hand


@dataclass(frozen=True)
class TableShape:
    """A table as the catalog has it."""

    schema: Schema
    required: frozenset[str]
    """Columns that are NOT NULL and have no default."""


def read_shape(connection: Connection, table: str) -> TableShape | None:
    """Return the shape of a table, or None when there is none of that name."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                   a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '', c.relkind
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE c.oid = to_regclass(%s) ORDER BY a.attnum
            """,
            (quote_table(table),),
        )
        found = cursor.fetchall()
    if not found:
        return None
    if found[0][4] not in ("r", "p"):
        raise ConfigurationError(f"target {table} is not a table; rows can only be loaded into a table")
    columns = tuple(Column(name, normalized(kind), not required) for name, kind, required, _, _ in found)
    return TableShape(
        Schema(columns), frozenset(name for name, _, required, default, _ in found if required and not default)
    )


def create_statements(table: str, schema: Schema, primary_key: tuple[str, ...]) -> list[str]:
    """Return the DDL that makes a table of this shape, its schema included."""
    columns = [
        f"{quote(column.name)} {column.type}{' NOT NULL' if column.name in primary_key else ''}" for column in schema
    ]
    if primary_key:
        columns.append(f"PRIMARY KEY ({', '.join(quote(name) for name in primary_key)})")
    return [f"CREATE TABLE IF NOT EXISTS {quote_table(table)} ({', '.join(columns)})"]


def schema_statements(connection: Connection, table: str) -> list[str]:
    """Return the DDL for the table's schema, none when it is there: IF NOT EXISTS would still ask for the right."""
    if "." not in table:
        return []
    name = quote(table.split(".", 1)[0])
    if one(connection, "SELECT to_regnamespace(%s)", (name,))[0] is not None:
        return []
    return [f"CREATE SCHEMA IF NOT EXISTS {name}"]


def fit(
    connection: Connection, table: str, schema: Schema, contract: Contract, primary_key: tuple[str, ...]
) -> tuple[Schema, list[str]]:
    """Decide how `schema` goes into `table`: the columns to send with the target's types, and the DDL it needs.

    Raises DataError when the contract forbids a change, or when a column that must have a value is not sent.
    """
    missing_key = [name for name in primary_key if schema.get(name) is None]
    if missing_key:
        raise ConfigurationError(
            f"target {table}: primaryKey names {', '.join(missing_key)}, which the stream does not have; "
            f"it has: {', '.join(schema.names)}"
        )
    _bounded(table, schema)
    shape = read_shape(connection, table)
    if shape is None:
        return schema, [*schema_statements(connection, table), *create_statements(table, schema, primary_key)]
    sent: list[Column] = []
    ddl: list[str] = []
    for column in schema:
        present = shape.schema.get(column.name)
        if present is None:
            if contract.columns == "discard":
                continue
            if contract.columns == "freeze":
                raise DataError(
                    f"target {table}: new column '{column.name}' ({column.type}) but contract.columns is 'freeze'; "
                    "set 'evolve' to add it or 'discard' to leave it out",
                    reason="SchemaDrift",
                )
            ddl.append(f"ALTER TABLE {quote_table(table)} ADD COLUMN {quote(column.name)} {column.type}")
            sent.append(column)
        elif contract.types == "evolve" and _widens(present.type, column.type):
            ddl.append(f"ALTER TABLE {quote_table(table)} ALTER COLUMN {quote(column.name)} TYPE {column.type}")
            sent.append(replace(present, type=column.type))
        else:
            sent.append(present)
    _require(table, shape, schema)
    return Schema(tuple(sent)), ddl


def _require(table: str, shape: TableShape, schema: Schema) -> None:
    absent = sorted(shape.required - set(schema.names))
    if absent:
        raise DataError(
            f"target {table}: column '{absent[0]}' is NOT NULL without a default, and the stream has no such column; "
            "give it a default, drop NOT NULL, or map a column to it",
            reason="SchemaDrift",
        )


def _bounded(table: str, schema: Schema) -> None:
    """Refuse names that the server would cut off: two of them could become one, and each run would add them anew."""
    long = [name for name in schema.names if len(name.encode()) > _MAX_NAME_BYTES]
    if long:
        raise ConfigurationError(
            f"target {table}: column name '{long[0]}' is longer than {_MAX_NAME_BYTES} bytes; "
            "rename it under the stream's `columns`"
        )


def _widens(old: str, new: str) -> bool:
    """Return whether every value of `old` is one of `new`, unchanged, and `new` is more than `old`."""
    (before, length), (after, other) = _parted(old), _parted(new)
    if before == after:
        return before in ("character varying", "numeric") and bool(length) and (not other or _holds(length, other))
    if before in _DIGITS and after == "numeric" and other:
        return _holds((_DIGITS[before], 0), other)
    row = next((row for row in _WIDENING if before in row and after in row), ())
    return bool(row) and not other and row.index(after) > row.index(before)


def _parted(name: str) -> tuple[str, tuple[int, ...]]:
    """Return a type's base and its numbers: `numeric(12,2)` → ("numeric", (12, 2)); an array has no base here."""
    match = re.fullmatch(r"([a-z ]+?)(?:\(([\d,-]+)\))?", name)
    if match is None:
        return name, ()
    return match.group(1), tuple(int(part) for part in (match.group(2) or "").split(",") if part)


def _holds(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Return whether numeric(new) has room for numeric(old), before and behind the point; or varchar for varchar."""
    (digits, scale), (wider, finer) = ((*numbers, 0)[:2] for numbers in (old, new))
    return (wider, finer) != (digits, scale) and finer >= scale and wider - finer >= digits - scale


def unique_index(connection: Connection, table: str, key: tuple[str, ...]) -> list[str]:
    """Return the DDL for a unique index on `key`, which merge needs; none when there is one that can be used."""
    found = one(
        connection,
        """
        SELECT EXISTS (
            SELECT FROM pg_index i
            WHERE i.indrelid = to_regclass(%s) AND i.indisunique AND i.indisvalid AND i.indimmediate
              AND i.indpred IS NULL AND i.indexprs IS NULL
              AND (SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE "C") FROM pg_attribute a
                   WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])) = %s)
        """,
        (quote_table(table), sorted(key)),
    )
    if found[0]:
        return []
    return [f"CREATE UNIQUE INDEX ON {quote_table(table)} ({', '.join(quote(name) for name in key)})"]
