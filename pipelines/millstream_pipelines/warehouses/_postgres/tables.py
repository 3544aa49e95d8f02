"""Target tables: read their shape, create them, and let them evolve under the contract."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from millstream_api.pipeline import Contract
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.schema import Column, Schema, normalized
from millstream_pipelines.warehouses._postgres.connection import one, quote, quote_table, run

# A type may become any of those to its right in its row: no value changes.
_WIDENING: tuple[tuple[str, ...], ...] = (
    ("smallint", "integer", "bigint", "numeric"),
    ("real", "double precision"),
    ("character varying", "text"),
)


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
    statements = [f"CREATE TABLE IF NOT EXISTS {quote_table(table)} ({', '.join(columns)})"]
    if "." in table:
        statements.insert(0, f"CREATE SCHEMA IF NOT EXISTS {quote(table.split('.', 1)[0])}")
    return statements


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
    shape = read_shape(connection, table)
    if shape is None:
        return schema, create_statements(table, schema, primary_key)
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
            sent.append(column)
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


def _widens(old: str, new: str) -> bool:
    for row in _WIDENING:
        bases = [name.split("(")[0] for name in (old, new)]
        if bases[0] in row and new in row and row.index(new) > row.index(bases[0]):
            return True
    return False


def ensure_unique(connection: Connection, table: str, key: tuple[str, ...]) -> None:
    """Make sure that a unique index on `key` exists: merge needs it. Creates one when there is none."""
    found = one(
        connection,
        """
        SELECT EXISTS (
            SELECT FROM pg_index i
            WHERE i.indrelid = to_regclass(%s) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
              AND (SELECT array_agg(a.attname::text ORDER BY a.attname::text) FROM pg_attribute a
                   WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])) = %s
              AND i.indexprs IS NULL)
        """,
        (quote_table(table), sorted(key)),
    )
    if not found[0]:
        run(connection, f"CREATE UNIQUE INDEX ON {quote_table(table)} ({', '.join(quote(name) for name in key)})")
