"""Set checks on a real PostgreSQL: the same suite with another database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from millstream_pipelines.testing.check import Database, PlainQueries

if TYPE_CHECKING:
    from servers.postgres import PostgresServer


class OnPostgres:
    """Put before a SetCheckSuite to run it on PostgreSQL."""

    @pytest.fixture
    def database(self, postgres_server: PostgresServer) -> Iterator[Database]:
        """Return an empty database."""
        with postgres_server.database() as config:
            connection = psycopg2.connect(
                **{("dbname" if key == "database" else key): value for key, value in config.items()}
            )
            connection.autocommit = True

            def run(sql: str) -> list[tuple[Any, ...]]:
                with connection.cursor() as cursor:
                    cursor.execute(sql)
                    return cursor.fetchall() if cursor.description else []

            yield Database(run, PlainQueries("postgres", run))
            connection.close()
