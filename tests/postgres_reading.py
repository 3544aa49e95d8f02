"""How the tests of the postgres source open it, and a second way to the same database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2.extensions import make_dsn

from millstream_pipelines.batch import Batch, Position
from millstream_pipelines.registry import configured
from millstream_pipelines.sources.base import ReadRequest
from millstream_pipelines.sources.postgres import PostgresSource
from servers.postgres import Postgres

OWNER = "source 'shop'"
_NAMES = {"host": "host", "port": "port", "user": "user", "password": "password", "database": "dbname"}
Connect = Callable[[], Any]
Sql = Callable[..., list[tuple[Any, ...]]]


def config_of(database: Postgres) -> dict[str, Any]:
    """Return the fields of a configuration that reach a database."""
    return {name: getattr(database, name) for name in _NAMES}


def connected(config: Mapping[str, Any]) -> Any:
    """Open a session of our own; it commits only when told to."""
    return psycopg2.connect(make_dsn(None, **{_NAMES[key]: config[key] for key in _NAMES if config.get(key)}))


def execute(connection: Any, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run SQL and return the rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def running_sql(config: Mapping[str, Any]) -> Iterator[Sql]:
    """Give a function that runs SQL, each call a transaction."""
    connection = connected(config)
    connection.autocommit = True
    try:
        yield lambda statement, *parameters: execute(connection, statement, *parameters)
    finally:
        connection.close()


def source(config: Mapping[str, Any], **changes: Any) -> PostgresSource:
    """Open the source as the runner does."""
    return PostgresSource(configured(PostgresSource.Config, {**config, **changes}, {}, OWNER), OWNER)


def read(config: Mapping[str, Any], stream: str = "public.t", **changes: Any) -> list[Batch]:
    """Read a stream to its end."""
    reader = source(config)
    try:
        return list(reader.read(ReadRequest(stream, **changes)))
    finally:
        reader.close()


def read_new(config: Mapping[str, Any], position: Position | None = None, **changes: Any) -> list[Batch]:
    """Read what is behind a position; the cursor is `id`."""
    wanted = {"mode": "incremental", "cursor_field": "id", "position": position, **changes}
    return read(config, wanted.pop("stream", "public.t"), **wanted)


def values(batches: list[Batch], column: str = "id") -> list[Any]:
    """Return a column of all batches."""
    return [value for batch in batches for value in batch.data.column(column).to_pylist()]
