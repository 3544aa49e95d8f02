"""Set checks on a real PostgreSQL: the same suite with another database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from millstream_pipelines.testing.check import Database, PlainQueries
from servers.postgres import Postgres


class OnPostgres:
    """Put before a SetCheckSuite to run it on PostgreSQL."""

    @pytest.fixture
    def database(self, postgres_server: Postgres) -> Iterator[Database]:
        """Return an empty database."""
        with postgres_server.fresh_database() as server:
            yield Database(server.execute, PlainQueries("postgres", server.execute))
