"""These need a server with TimescaleDB, which the project does not bring: MILLSTREAM_TEST_TIMESCALEDB_DSN names one.

Without it nothing here is collected, so that nothing is skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from psycopg2.extensions import parse_dsn

from servers.postgres import Postgres

_DSN = os.environ.get("MILLSTREAM_TEST_TIMESCALEDB_DSN", "")
collect_ignore_glob = [] if _DSN else ["test_*.py"]


@pytest.fixture
def postgres_database() -> Iterator[Postgres]:
    """An empty database with the extension, dropped after the test."""
    given = parse_dsn(_DSN)
    server = Postgres(
        given.get("host", "localhost"), int(given.get("port", "5432")), given["user"], given.get("password", ""),
        given.get("dbname", "postgres"),
    )  # fmt: skip
    with server.fresh_database() as database:
        database.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        yield database
