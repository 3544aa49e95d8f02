"""Transforms: build a view, a table or merged rows from SQL, and publish without a moment of nothing to see."""

from __future__ import annotations

from collections.abc import Callable

import psycopg2
from psycopg2.extensions import connection as Connection

from millstream_api.pipeline import TransformSpec
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.schema import Column, Schema, normalized
from millstream_pipelines.warehouses._postgres.connection import one, quote, quote_table, run, translating
from millstream_pipelines.warehouses._postgres.tables import TableShape, ensure_unique, read_shape

_WRONG_OBJECT = ("42809", "42P16", "42P07")


def materialize(connection: Connection, spec: TransformSpec, checked: Callable[[], None], owner: str) -> int:
    """Build and publish one transform in one transaction; `checked` runs before the commit and may raise.

    Returns the rows in the result, 0 for a view.
    """
    build = {"view": _view, "table": _table, "incremental": _incremental}[spec.materialize]
    try:
        with translating(owner, f"transform '{spec.name}' into {spec.target}"):
            if "." in spec.target:
                run(connection, f"CREATE SCHEMA IF NOT EXISTS {quote(spec.target.split('.', 1)[0])}")
            rows = build(connection, spec)
            checked()
            connection.commit()
        return rows
    except BaseException:
        if not connection.closed:
            connection.rollback()
        raise


def statement(spec: TransformSpec) -> str:
    """Return the SELECT without its closing semicolon."""
    return spec.sql.strip().rstrip(";").strip()


def _view(connection: Connection, spec: TransformSpec) -> int:
    target = quote_table(spec.target)
    run(connection, "SAVEPOINT millstream_view")
    try:
        run(connection, f"CREATE OR REPLACE VIEW {target} AS {statement(spec)}")
    except psycopg2.Error as error:
        if error.pgcode not in _WRONG_OBJECT:
            raise
        run(connection, "ROLLBACK TO SAVEPOINT millstream_view")
        _only_kind(connection, spec, "v", "view")
        run(connection, f"DROP VIEW {target}")  # its columns changed; the new one is there at the same commit
        run(connection, f"CREATE VIEW {target} AS {statement(spec)}")
    return 0


def _table(connection: Connection, spec: TransformSpec) -> int:
    present, wanted = _shapes(connection, spec)
    target, names = quote_table(spec.target), ", ".join(quote(name) for name in wanted.names)
    if present is not None and _same(present, wanted):
        run(connection, f"DELETE FROM {target}")
        return run(connection, f"INSERT INTO {target} ({names}) SELECT {names} FROM ({statement(spec)}) q")
    if present is None:
        return run(connection, f"CREATE TABLE {target} AS {statement(spec)}")
    grants = _grants(connection, spec.target)
    run(connection, f"DROP TABLE {target}")
    rows = run(connection, f"CREATE TABLE {target} AS {statement(spec)}")
    for grant in grants:
        run(connection, grant)
    return rows


def _incremental(connection: Connection, spec: TransformSpec) -> int:
    present, wanted = _shapes(connection, spec)
    target, key = quote_table(spec.target), tuple(spec.primary_key)
    missing = [name for name in key if wanted.get(name) is None]
    if missing:
        raise ConfigurationError(f"transform '{spec.name}': its SELECT has no column '{missing[0]}' of primaryKey")
    if present is None:
        run(connection, f"CREATE TABLE {target} AS {statement(spec)} WITH NO DATA")
    else:
        for column in wanted:
            if present.schema.get(column.name) is None:
                run(connection, f"ALTER TABLE {target} ADD COLUMN {quote(column.name)} {column.type}")
    ensure_unique(connection, spec.target, key)
    names = ", ".join(quote(name) for name in wanted.names)
    others = [name for name in wanted.names if name not in key]
    update = ", ".join(f"{quote(name)} = EXCLUDED.{quote(name)}" for name in others)
    old = ", ".join(f"t.{quote(name)}" for name in others)
    new = ", ".join(f"EXCLUDED.{quote(name)}" for name in others)
    action = f"DO UPDATE SET {update} WHERE ({old}) IS DISTINCT FROM ({new})" if others else "DO NOTHING"
    keys = ", ".join(quote(name) for name in key)
    run(
        connection,
        f"INSERT INTO {target} AS t ({names}) SELECT {names} FROM ({statement(spec)}) q ON CONFLICT ({keys}) {action}",
    )
    return int(one(connection, f"SELECT count(*) FROM {target}")[0])


def _shapes(connection: Connection, spec: TransformSpec) -> tuple[TableShape | None, Schema]:
    present = None
    if one(connection, "SELECT to_regclass(%s)", (quote_table(spec.target),))[0] is not None:
        _only_kind(connection, spec, "rp", "table")
        present = read_shape(connection, spec.target)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM ({statement(spec)}) q LIMIT 0")
        described = cursor.description or ()
        columns = []
        for item in described:
            cursor.execute("SELECT format_type(%s, %s)", (item.type_code, _modifier(item)))
            columns.append(Column(item.name, normalized(str((cursor.fetchone() or ("text",))[0]))))
    return present, Schema(tuple(columns))


def _modifier(item: object) -> int | None:
    """Return the type modifier psycopg2 gives in parts, or None where it does not matter for comparing."""
    precision, scale = getattr(item, "precision", None), getattr(item, "scale", None)
    if precision is not None and scale is not None and precision != 65535:
        return int((precision << 16) | (scale & 0x7FF)) + 4
    return None


def _same(present: TableShape, wanted: Schema) -> bool:
    def base(column: Column) -> tuple[str, str]:
        return column.name, column.type.split("(")[0].removesuffix("[]")

    return [base(column) for column in present.schema] == [base(column) for column in wanted]


def _only_kind(connection: Connection, spec: TransformSpec, kinds: str, what: str) -> None:
    row = one(connection, "SELECT relkind FROM pg_class WHERE oid = to_regclass(%s)", (quote_table(spec.target),))
    if row is not None and row[0] not in kinds:
        raise ConfigurationError(
            f"transform '{spec.name}': {spec.target} exists and is not a {what}; drop it or change `materialize`"
        )


def _grants(connection: Connection, table: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT a.privilege_type, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END
            FROM pg_class c, aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
            WHERE c.oid = to_regclass(%s)
            """,
            (quote_table(table),),
        )
        return [f"GRANT {privilege} ON {quote_table(table)} TO {grantee}" for privilege, grantee in cursor.fetchall()]
