"""Target tables: read their shape, create them, and let them evolve under the contract."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from millstream_api.stream import Contract
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.warehouses._duckdb.connection import rows
from millstream_pipelines.warehouses._duckdb.types import comment_of, logical_type, stored_type
from millstream_pipelines.warehouses.fitting import TableShape, allow_new_table, fitted, has_key, one_case, spelled
from millstream_pipelines.warehouses.names import quote, quote_table

SCHEMA = "main"


@dataclass(frozen=True)
class FoundTable:
    """A table, and how DuckDB stores its columns (name in lower case → type)."""

    shape: TableShape
    stored: dict[str, str]


def parts(table: str) -> tuple[str, str]:
    """Return schema and table; a bare name lies in `main`."""
    head, dot, tail = table.partition(".")
    return (head, tail) if dot else (SCHEMA, head)


def kind_of(connection: duckdb.DuckDBPyConnection, table: str) -> str | None:
    """Return `table` or `view`, None when there is neither."""
    schema, name = (part.lower() for part in parts(table))
    for kind in ("table", "view"):
        found = rows(
            connection,
            f"SELECT 1 FROM duckdb_{kind}s() WHERE database_name = current_database() "
            f"AND lower(schema_name) = $1 AND lower({kind}_name) = $2",
            [schema, name],
        )
        if found:
            return kind
    return None


def read_table(connection: duckdb.DuckDBPyConnection, table: str, only: set[str] | None = None) -> FoundTable | None:
    """Return a table, or None when there is none of that name.

    `only`: columns whose types must be ones that rows can be loaded into; None means all.
    """
    kind = kind_of(connection, table)
    if kind is None:
        return None
    if kind == "view":
        raise ConfigurationError(f"target {table} is not a table; rows can only be loaded into a table")
    found = rows(
        connection,
        "SELECT column_name, data_type, is_nullable, column_default, comment FROM duckdb_columns() "
        "WHERE database_name = current_database() AND lower(schema_name) = $1 AND lower(table_name) = $2 "
        "ORDER BY column_index",
        [part.lower() for part in parts(table)],
    )
    wanted = {name.lower() for name in only} if only is not None else None
    columns = [
        Column(name, logical_type(table, name, stored, comment), nullable)
        for name, stored, nullable, _, comment in found
        if wanted is None or name.lower() in wanted
    ]
    others = [
        Column(name, _shown(table, name, stored, comment), nullable)
        for name, stored, nullable, _, comment in found
        if wanted is not None and name.lower() not in wanted
    ]
    required = frozenset(name for name, _, nullable, default, _ in found if not nullable and default is None)
    filled = frozenset(name for name, _, _, default, _ in found if default is not None)
    return FoundTable(
        TableShape(Schema((*columns, *others)), required, filled=filled),
        {name.lower(): stored for name, stored, *_ in found},
    )


def _shown(table: str, name: str, stored: str, comment: str | None) -> str:
    """Return the type of a column that nothing is loaded into: DuckDB's word where we have none."""
    try:
        return logical_type(table, name, stored, comment)
    except ConfigurationError:
        return stored.lower()


def create_statements(table: str, schema: Schema, primary_key: tuple[str, ...]) -> list[str]:
    """Return the DDL that makes a table. No PRIMARY KEY: its index lives in memory, and merge needs none."""
    columns = ", ".join(
        f"{quote(column.name)} {stored_type(column.type)}{' NOT NULL' if column.name in primary_key else ''}"
        for column in schema
    )
    target = quote_table(table, SCHEMA)
    return [
        f"CREATE SCHEMA IF NOT EXISTS {quote(parts(table)[0])}",
        f"CREATE TABLE IF NOT EXISTS {target} ({columns})",
        *(comment for column in schema for comment in _comments(target, column)),
    ]


def fit(
    connection: duckdb.DuckDBPyConnection, table: str, schema: Schema, contract: Contract, key: tuple[str, ...]
) -> tuple[Schema, list[str]]:
    """Decide how `schema` goes into `table`: the columns to send with the target's types, and the DDL it needs.

    Raises DataError when the contract forbids a change, or when a column that must have a value is not sent.
    """
    has_key(table, schema, key)
    one_case(table, schema, "DuckDB")
    found = read_table(connection, table, only=set(schema.names))
    if found is None:
        allow_new_table(table, contract)
        return schema, create_statements(table, schema, key)
    decided = fitted(table, spelled(found.shape, schema), schema, contract)
    target = quote_table(table, SCHEMA)
    statements = []
    for column in decided.added:
        statements.append(f"ALTER TABLE {target} ADD COLUMN {quote(column.name)} {stored_type(column.type)}")
        statements += _comments(target, column)
    for column in decided.widened:
        statements.append(f"ALTER TABLE {target} ALTER COLUMN {quote(column.name)} TYPE {stored_type(column.type)}")
        # A comment on the narrower type would go on ruling the cast.
        statements += _comments(target, column) or [f"COMMENT ON COLUMN {target}.{quote(column.name)} IS NULL"]
    return decided.sent, statements


def _comments(target: str, column: Column) -> list[str]:
    text = comment_of(column)
    if text is None:
        return []
    literal = text.replace("'", "''")
    return [f"COMMENT ON COLUMN {target}.{quote(column.name)} IS '{literal}'"]
