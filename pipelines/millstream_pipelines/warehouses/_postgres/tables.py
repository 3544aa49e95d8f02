"""Target tables: read their shape, create them, and let them evolve under the contract."""

from __future__ import annotations

from collections.abc import Callable

from psycopg2.extensions import connection as Connection

from millstream_api.stream import Contract
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.schema import Column, Schema, normalized
from millstream_pipelines.warehouses._postgres.connection import one, run
from millstream_pipelines.warehouses._postgres.cut import cut_of, cut_statements
from millstream_pipelines.warehouses.base import LoadSpec
from millstream_pipelines.warehouses.fitting import TableShape, allow_new_table, fitted, has_key
from millstream_pipelines.warehouses.names import quote, quote_table

_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
# Types without an operator `=` (or, for `box`, with one that compares areas): their texts are compared.
_BY_TEXT = ("json", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle")
_MAX_NAME_BYTES = 63  # NAMEDATALEN - 1 of every server that was not built by hand


def read_shape(connection: Connection, table: str) -> TableShape | None:
    """Return the shape of a table, or None when there is none of that name."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                   a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '', a.attgenerated <> '', c.relkind
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE c.oid = to_regclass(%s) ORDER BY a.attnum
            """,
            (quote_table(table),),
        )
        found = cursor.fetchall()
    if not found:
        return None
    if found[0][5] not in ("r", "p"):
        raise ConfigurationError(f"target {table} is not a table; rows can only be loaded into a table")
    return TableShape(
        Schema(tuple(Column(name, normalized(kind), not required) for name, kind, required, *_ in found)),
        frozenset(name for name, _, required, default, *_ in found if required and not default),
        frozenset(name for name, *_, computed, _ in found if computed),
        frozenset(name for name, _, _, default, *_ in found if default),
    )


def comparable(column: Column) -> str:
    """Return what to write behind a column so that two of its values can be compared: a cast, or nothing."""
    return "::text" if column.type.removesuffix("[]") in _BY_TEXT else ""


def create_statements(table: str, schema: Schema, primary_key: tuple[str, ...], cut_by: str | None = None) -> list[str]:
    """Return the DDL that makes a table of this shape. `cut_by`: the column whose ranges are to be its partitions."""
    required = {*primary_key, cut_by}
    columns = [f"{quote(item.name)} {item.type}{' NOT NULL' if item.name in required else ''}" for item in schema]
    if primary_key:
        columns.append(f"PRIMARY KEY ({', '.join(quote(name) for name in primary_key)})")
    ending = ""
    more: list[str] = []
    if cut_by is not None:
        ending, *more = cut_statements(table, schema, primary_key, cut_by)
    return [f"CREATE TABLE IF NOT EXISTS {quote_table(table)} ({', '.join(columns)}){ending}", *more]


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
    has_key(table, schema, primary_key)
    _bounded(table, schema)
    shape = read_shape(connection, table)
    if shape is None:
        allow_new_table(table, contract)
        created = create_statements(table, schema, primary_key, cut_of(connection, table))
        return schema, [*schema_statements(connection, table), *created]
    fit = fitted(table, shape, schema, contract)
    alter = f"ALTER TABLE {quote_table(table)}"
    return fit.sent, [
        *(f"{alter} ADD COLUMN {quote(column.name)} {column.type}" for column in fit.added),
        *(f"{alter} ALTER COLUMN {quote(column.name)} TYPE {column.type}" for column in fit.widened),
    ]


def fit_keyed(connection: Connection, spec: LoadSpec, schema: Schema, key: tuple[str, ...]) -> tuple[Schema, list[str]]:
    """Decide as `fit` does for this load's target; a merge needs a unique index on its key besides."""
    sent, statements = fit(connection, spec.target, schema, spec.contract, key)
    if key and spec.disposition == "merge" and not any(item.startswith("CREATE TABLE") for item in statements):
        statements += unique_index(connection, spec.target, key)
    return sent, statements


def shaped(connection: Connection, table: str, fitted: Callable[[], tuple[Schema, list[str]]]) -> Schema:
    """Run the DDL that `fitted` decides on, and return the columns to send.

    Whoever else shapes the same table waits for the end of this transaction, and decides on what it finds then: a
    column that two pipelines add is added once.
    """
    sent, statements = fitted()
    if statements:
        one(connection, "SELECT pg_advisory_xact_lock(hashtextextended(%s, 1))", (f"millstream/shape/{table}",))
        sent, statements = fitted()
    for statement in statements:
        run(connection, statement)
    return sent


def _bounded(table: str, schema: Schema) -> None:
    """Refuse names that the server would cut off: two of them could become one, and each run would add them anew."""
    for part in table.split("."):
        if len(part.encode()) > _MAX_NAME_BYTES:
            raise ConfigurationError(f"target {table}: the name '{part}' is longer than {_MAX_NAME_BYTES} bytes")
    for name in schema.names:
        why = "is longer than 63 bytes" if len(name.encode()) > _MAX_NAME_BYTES else ""
        why = why or ("is one of PostgreSQL's own" if name in _SYSTEM_COLUMNS else "")
        if why:
            raise ConfigurationError(
                f"target {table}: column name '{name}' {why}; rename it under the stream's `columns`"
            )


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
