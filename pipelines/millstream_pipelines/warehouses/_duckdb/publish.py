"""Transforms in DuckDB: a view, a table or merged rows, published by one commit."""

from __future__ import annotations

from collections.abc import Callable

import duckdb

from millstream_api.pipeline import TransformSpec
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.warehouses._duckdb.connection import rows, run, translating
from millstream_pipelines.warehouses._duckdb.tables import SCHEMA, kind_of, parts
from millstream_pipelines.warehouses.names import quote, quote_table
from millstream_pipelines.warehouses.select_statement import subquery

_BUILT = "temp.main.millstream_built"


def materialize(
    connection: duckdb.DuckDBPyConnection, spec: TransformSpec, checked: Callable[[], None], owner: str
) -> int:
    """Build and publish one transform in one transaction; `checked` runs before the commit and may raise.

    Returns the rows in the result, 0 for a view.
    """
    build = {"view": _view, "table": _table, "incremental": _incremental}[spec.materialize]
    with translating(owner, f"transform '{spec.name}' into {spec.target}"):
        connection.execute("BEGIN")
        try:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(parts(spec.target)[0])}")
            count = build(connection, spec, subquery(spec.sql))
            checked()
            reached("transform-built")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
    return count


def _view(connection: duckdb.DuckDBPyConnection, spec: TransformSpec, select: str) -> int:
    _only(connection, spec, "view")
    connection.execute(f"CREATE OR REPLACE VIEW {quote_table(spec.target, SCHEMA)} AS {select}")
    return 0


def _table(connection: duckdb.DuckDBPyConnection, spec: TransformSpec, select: str) -> int:
    target = quote_table(spec.target, SCHEMA)
    _build(connection, select)
    if _only(connection, spec, "table") is not None and _columns(connection, target) == _columns(connection, _BUILT):
        connection.execute(f"DELETE FROM {target}")  # the table stays, and with it constraints, indexes, comments
        return run(connection, f"INSERT INTO {target} BY NAME FROM {_BUILT}")
    connection.execute(f"CREATE OR REPLACE TABLE {target} AS FROM {_BUILT}")
    return _count(connection, target)


def _incremental(connection: duckdb.DuckDBPyConnection, spec: TransformSpec, select: str) -> int:
    target, key = quote_table(spec.target, SCHEMA), tuple(spec.primary_key)
    _build(connection, select)
    wanted = _columns(connection, _BUILT)
    missing = [name for name in key if name.lower() not in {column.lower() for column in wanted}]
    if missing:
        raise ConfigurationError(
            f"transform '{spec.name}': its SELECT has no column '{missing[0]}' of primaryKey; "
            f"it has: {', '.join(wanted)}"
        )
    keys = ", ".join(quote(name) for name in key)
    twice = rows(connection, f"SELECT {keys} FROM {_BUILT} GROUP BY ALL HAVING count(*) > 1 LIMIT 1")
    if twice:
        raise DataError(f"transform '{spec.name}': two rows of one key ({keys}): {twice[0]}; make the key unique")
    if _only(connection, spec, "table") is None:
        connection.execute(f"CREATE TABLE {target} AS FROM {_BUILT}")
        return _count(connection, target)
    present = {name.lower() for name in _columns(connection, target)}
    for name, kind in wanted.items():
        if name.lower() not in present:
            connection.execute(f"ALTER TABLE {target} ADD COLUMN {quote(name)} {kind}")
    _merge(connection, target, key, list(wanted))
    return _count(connection, target)


def _merge(connection: duckdb.DuckDBPyConnection, target: str, key: tuple[str, ...], names: list[str]) -> None:
    same = " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in key)
    changed = [name for name in names if name.lower() not in {item.lower() for item in key}]
    if changed:
        update = ", ".join(f"{quote(name)} = s.{quote(name)}" for name in changed)
        connection.execute(f"UPDATE {target} t SET {update} FROM {_BUILT} s WHERE {same}")
    connection.execute(
        f"INSERT INTO {target} BY NAME SELECT * FROM {_BUILT} s "
        f"WHERE NOT EXISTS (SELECT 1 FROM {target} t WHERE {same})"
    )


def _build(connection: duckdb.DuckDBPyConnection, select: str) -> None:
    connection.execute(f"CREATE OR REPLACE TEMPORARY TABLE millstream_built AS {select}")


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    described = connection.sql(f"SELECT * FROM {table} LIMIT 0")
    return {name: str(kind) for name, kind in zip(described.columns, described.types, strict=True)}


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(rows(connection, f"SELECT count(*) FROM {table}")[0][0])


def _only(connection: duckdb.DuckDBPyConnection, spec: TransformSpec, kind: str) -> str | None:
    found = kind_of(connection, spec.target)
    if found not in (None, kind):
        raise ConfigurationError(
            f"transform '{spec.name}': {spec.target} exists and is not a {kind}; drop it or change `materialize`"
        )
    return found
