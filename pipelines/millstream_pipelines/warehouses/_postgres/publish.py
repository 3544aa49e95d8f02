"""Transforms: build a view, a table or merged rows from SQL, and publish without a moment of nothing to see."""

from __future__ import annotations

from collections.abc import Callable

import psycopg2
from psycopg2.extensions import connection as Connection

from millstream_api.pipeline import TransformSpec
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.warehouses._postgres.connection import one, run, translating
from millstream_pipelines.warehouses._postgres.tables import comparable, read_shape, schema_statements, unique_index
from millstream_pipelines.warehouses.names import quote, quote_table
from millstream_pipelines.warehouses.select_statement import subquery

_WRONG_OBJECT = ("42809", "42P16", "42P07")
_PROBE = "pg_temp.millstream_probe"


def materialize(connection: Connection, spec: TransformSpec, checked: Callable[[], None], owner: str) -> int:
    """Build and publish one transform in one transaction; `checked` runs before the commit and may raise.

    Returns the rows in the result, 0 for a view.
    """
    build = {"view": _view, "table": _table, "incremental": _incremental}[spec.materialize]
    try:
        with translating(owner, f"transform '{spec.name}' into {spec.target}"):
            for statement in schema_statements(connection, spec.target):
                run(connection, statement)
            rows = build(connection, spec, subquery(spec.sql))
            checked()
            reached("transform-built")
            connection.commit()
        return rows
    except BaseException:
        if not connection.closed:
            connection.rollback()
        raise


def _view(connection: Connection, spec: TransformSpec, select: str) -> int:
    target = quote_table(spec.target)
    run(connection, "SAVEPOINT millstream_view")
    try:
        run(connection, f"CREATE OR REPLACE VIEW {target} AS {select}")
    except psycopg2.Error as error:
        if error.pgcode not in _WRONG_OBJECT:
            raise
        run(connection, "ROLLBACK TO SAVEPOINT millstream_view")
        _only_kind(connection, spec, "v", "view")
        grants = _grants(connection, spec.target)
        run(connection, f"DROP VIEW {target}")  # its columns changed; the new one is there at the same commit
        run(connection, f"CREATE VIEW {target} AS {select}")
        for grant in grants:
            run(connection, grant)
    return 0


def _table(connection: Connection, spec: TransformSpec, select: str) -> int:
    target = quote_table(spec.target)
    wanted = _fitted(connection, spec, select)
    if wanted is None:
        return run(connection, f"CREATE TABLE {target} AS {select}")
    # Columns come and go without a rewrite and rows by DELETE: readers with an older snapshot still see the old rows.
    run(connection, f"DELETE FROM {target}")
    names = ", ".join(quote(name) for name in wanted.names)
    return run(connection, f"INSERT INTO {target} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {select} q")


def _incremental(connection: Connection, spec: TransformSpec, select: str) -> int:
    target, key = quote_table(spec.target), tuple(spec.primary_key)
    wanted = _fitted(connection, spec, select, keep=True)
    if wanted is None:
        run(connection, f"CREATE TABLE {target} AS {select} WITH NO DATA")
        found = read_shape(connection, spec.target)
        wanted = found.schema if found else Schema(())
    missing = [name for name in key if wanted.get(name) is None]
    if missing:
        raise ConfigurationError(
            f"transform '{spec.name}': its SELECT has no column '{missing[0]}' of primaryKey; "
            f"it has: {', '.join(wanted.names)}"
        )
    for statement in unique_index(connection, spec.target, key):
        run(connection, statement)
    names = ", ".join(quote(name) for name in wanted.names)
    keys = ", ".join(quote(name) for name in key)
    run(
        connection,
        f"INSERT INTO {target} AS t ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {select} q "
        f"ON CONFLICT ({keys}) {_update_changed([column for column in wanted if column.name not in key])}",
    )
    return int(one(connection, f"SELECT count(*) FROM {target}")[0])


def _update_changed(columns: list[Column]) -> str:
    """Return the conflict action: rows that are the same are left alone, and make no dead versions."""
    if not columns:
        return "DO NOTHING"
    update = ", ".join(f"{quote(column.name)} = EXCLUDED.{quote(column.name)}" for column in columns)
    old = ", ".join(f"t.{quote(column.name)}{comparable(column)}" for column in columns)
    new = ", ".join(f"EXCLUDED.{quote(column.name)}{comparable(column)}" for column in columns)
    return f"DO UPDATE SET {update} WHERE ROW({old}) IS DISTINCT FROM ROW({new})"


def _fitted(connection: Connection, spec: TransformSpec, select: str, *, keep: bool = False) -> Schema | None:
    """Give the target the columns of the SELECT, and return them; None when there is no target yet.

    A column of another type is dropped and added, so that nothing is rewritten or cast in silence; grants, indexes on
    other columns, comments and dependents stay. `keep`: the old rows stay too, so only new columns are added.
    """
    if one(connection, "SELECT to_regclass(%s)", (quote_table(spec.target),))[0] is None:
        return None
    _only_kind(connection, spec, "rp", "table")
    present = read_shape(connection, spec.target)
    run(connection, f"CREATE TEMPORARY TABLE millstream_probe AS SELECT * FROM {select} q WITH NO DATA")
    described = read_shape(connection, _PROBE)
    run(connection, f"DROP TABLE {_PROBE}")
    before, wanted = (present.schema if present else Schema(())), (described.schema if described else Schema(()))
    target = quote_table(spec.target)
    changes = []
    for column in before:
        new = wanted.get(column.name)
        if not keep and (new is None or not _takes(column.type, new.type)):
            changes.append(f"DROP COLUMN {quote(column.name)}")
    for column in wanted:
        old = before.get(column.name)
        if old is None or (not keep and not _takes(old.type, column.type)):
            changes.append(f"ADD COLUMN {quote(column.name)} {column.type}")
    if changes:
        run(connection, f"ALTER TABLE {target} {', '.join(changes)}")
    return wanted


def _takes(present: str, wanted: str) -> bool:
    """Return whether a column takes values of another type as they are: the same type, or the same without a limit."""
    return present == wanted or (present == wanted.split("(")[0] and present in ("numeric", "character varying"))


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
            SELECT a.privilege_type, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END,
                   CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
            FROM pg_class c, aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
            WHERE c.oid = to_regclass(%s) AND (a.grantee = 0 OR r.rolname IS NOT NULL)
            """,
            (quote_table(table),),
        )
        return [
            f"GRANT {privilege} ON {quote_table(table)} TO {grantee}{option}"
            for privilege, grantee, option in cursor.fetchall()
        ]
