"""Who looks at a table with a snapshot from before its split sees all of its rows, whatever happens meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import pytest

from millstream_pipelines.errors import RetriableError
from millstream_pipelines.retention.convert import convert
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.snapshots import wait_for_older
from millstream_pipelines.retention.split import advance
from retained import BY, NOW, migrated, patient
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]

TABLE = "public.events"
PLAIN = """
CREATE TABLE events (id bigint, at timestamptz NOT NULL, n int DEFAULT 0, PRIMARY KEY (id, at));
INSERT INTO events SELECT n, timestamptz '2026-06-15 00:00+00' + n * interval '2 hours' FROM generate_series(1, 1000) n
"""


@contextmanager
def looking(database: Postgres) -> Iterator[Any]:
    """Yield a cursor of a transaction that has its snapshot, and has not touched the table."""
    with closing(psycopg2.connect(database.dsn)) as connection, connection, connection.cursor() as cursor:
        connection.set_session(isolation_level="REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM pg_class")
        yield cursor


def test_an_older_snapshot_sees_all_rows(any_postgres_database: Postgres) -> None:
    database = any_postgres_database
    database.execute(PLAIN)
    with Ddl(migrated(database), "test", 0.5, patience_s=1) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        with looking(database) as cursor:
            with pytest.raises(RetriableError, match=r"held by pid .* SELECT count\(\*\) FROM pg_class") as refused:
                advance(ddl, TABLE, BY, 60, now=NOW)
            assert refused.value.reason == "TableLocked"
            assert ddl.waited_s >= 1
            cursor.execute("SELECT count(*) FROM events")
            assert cursor.fetchone() == (1000,)
            cursor.execute("UPDATE events SET n = 1")
            assert cursor.rowcount == 1000
        assert "is split" in advance(ddl, TABLE, BY, 60, now=NOW)
    assert database.execute("SELECT count(*), sum(n) FROM events") == [(1000, 1000)]


def test_a_function_that_looks_late_sees_all_rows(any_postgres_database: Postgres) -> None:
    database, seen = any_postgres_database, []
    database.execute(PLAIN)
    database.execute(
        "CREATE FUNCTION counted() RETURNS bigint STABLE LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(3); RETURN (SELECT count(*) FROM events); END $$"
    )
    with patient(database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        late = threading.Thread(target=lambda: seen.extend(database.execute("SELECT counted()")))
        late.start()
        assert "is split" in advance(ddl, TABLE, BY, 60, now=NOW)
        late.join()
    assert seen == [(1000,)]


def test_who_is_waited_for(any_postgres_database: Postgres) -> None:
    """Other roles, whose queries a plain role does not see; nobody elsewhere, or whose next look is a new one."""
    database, role = any_postgres_database, f"{any_postgres_database.database}_plain"
    database.execute(f"CREATE ROLE {role}")
    try:
        with Ddl(migrated(database), "test", 0.5, patience_s=0.2) as ddl:
            ddl.rows(f"SET ROLE {role}")
            with looking(database), pytest.raises(RetriableError, match=r"held by pid \d+ \(\w+, since unknown\)"):
                wait_for_older(ddl, "looking")
            with database.fresh_database() as other, looking(other):
                wait_for_older(ddl, "looking")
            with closing(psycopg2.connect(database.dsn)) as idle, idle.cursor() as cursor:
                cursor.execute("SELECT pg_current_xact_id()")  # a writer, idle in READ COMMITTED
                wait_for_older(ddl, "looking")
    finally:
        database.execute(f"DROP ROLE {role}")
