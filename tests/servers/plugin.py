"""Fixtures: real servers that start when a test first asks for them and end with the session.

A conftest takes them by `from servers.plugin import postgres_database, postgres_server, s3_bucket, s3_server`.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from servers import gcs, mariadb, newest_postgres, postgres, s3
from servers.gcs import GCS
from servers.mariadb import MariaDB
from servers.postgres import Postgres
from servers.s3 import S3

# Kept on the session, not in a fixture: several conftest files may import the fixtures and still share one server.
_POSTGRES = pytest.StashKey[Postgres]()
_NEWEST = pytest.StashKey[Postgres]()
_S3 = pytest.StashKey[S3]()
_GCS = pytest.StashKey[GCS]()
_MARIADB = pytest.StashKey[MariaDB]()


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Postgres:
    """A PostgreSQL server that pods reach too; tests share it, so each takes a database of its own."""
    stash = request.config.stash
    if _POSTGRES not in stash:
        stack = ExitStack()
        request.config.add_cleanup(stack.close)
        stash[_POSTGRES] = stack.enter_context(postgres.serving())
    return stash[_POSTGRES]


@pytest.fixture
def postgres_database(postgres_server: Postgres) -> Iterator[Postgres]:
    """An empty database, dropped after the test."""
    with postgres_server.fresh_database() as database:
        yield database


@pytest.fixture(scope="session")
def partman_server() -> Iterator[Postgres]:
    """A server that has the extension pg_partman."""
    with postgres.serving("127.0.0.1", postgres.with_partman()) as server:
        yield server


@pytest.fixture
def partman_database(partman_server: Postgres) -> Iterator[Postgres]:
    """An empty database with the extension pg_partman, in the schema that its manual names."""
    with partman_server.fresh_database() as database:
        database.execute("CREATE SCHEMA partman")
        database.execute("CREATE EXTENSION pg_partman SCHEMA partman")
        yield database


@pytest.fixture(scope="session")
def newest_postgres_server(request: pytest.FixtureRequest) -> Postgres:
    """A server of the newest release there is; the other one is the machine's."""
    stash = request.config.stash
    if _NEWEST not in stash:
        stack = ExitStack()
        request.config.add_cleanup(stack.close)
        stash[_NEWEST] = stack.enter_context(
            postgres.serving("127.0.0.1", stack.enter_context(newest_postgres.programs()))
        )
    return stash[_NEWEST]


@pytest.fixture(params=["postgres_server", "newest_postgres_server"], ids=["machine's release", "newest release"])
def any_postgres_database(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """An empty database, once of each release of PostgreSQL that can be had here."""
    server: Postgres = request.getfixturevalue(request.param)
    with server.fresh_database() as database:
        yield database


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> S3:
    """An S3 server that pods reach too; tests share it, so each takes a bucket of its own."""
    stash = request.config.stash
    if _S3 not in stash:
        stack = ExitStack()
        request.config.add_cleanup(stack.close)
        stash[_S3] = stack.enter_context(s3.serving())
    return stash[_S3]


@pytest.fixture
def s3_bucket(s3_server: S3) -> str:
    """The name of an empty bucket."""
    return s3_server.create_bucket()


@pytest.fixture(scope="session")
def mariadb_server(request: pytest.FixtureRequest) -> MariaDB:
    """A MariaDB server; tests share it, so each takes a database of its own."""
    stash = request.config.stash
    if _MARIADB not in stash:
        stack = ExitStack()
        request.config.add_cleanup(stack.close)
        stash[_MARIADB] = stack.enter_context(mariadb.serving())
    return stash[_MARIADB]


@pytest.fixture
def mariadb_database(mariadb_server: MariaDB) -> Iterator[MariaDB]:
    """An empty database, dropped after the test."""
    with mariadb_server.fresh_database() as database:
        yield database


@pytest.fixture(scope="session")
def gcs_server(request: pytest.FixtureRequest) -> GCS:
    """A server that speaks GCS; tests share it, so each takes a bucket of its own."""
    stash = request.config.stash
    if _GCS not in stash:
        stack = ExitStack()
        request.config.add_cleanup(stack.close)
        stash[_GCS] = stack.enter_context(gcs.serving())
    return stash[_GCS]


@pytest.fixture
def gcs_bucket(gcs_server: GCS) -> str:
    """The name of an empty bucket."""
    return gcs_server.create_bucket()
