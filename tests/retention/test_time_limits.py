"""A role's limits of time are for what people ask; what a policy does takes as long as the table is large."""

from __future__ import annotations

from contextlib import closing

from millstream_pipelines.retention.convert import convert
from millstream_pipelines.retention.ddl import session
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.sessions import Sessions
from millstream_pipelines.retention.split import advance
from retained import BY, NOW, migrated, patient
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]

LIMITED = "SELECT name FROM pg_settings WHERE name ~ '^(statement|transaction|idle.*)_timeout$' AND setting <> '0'"
SLOW = """
CREATE TABLE events (id bigint, at timestamptz NOT NULL, PRIMARY KEY (id, at));
INSERT INTO events SELECT n, timestamptz '2026-06-15' + n * interval '8 hours' FROM generate_series(1, 300) n;
CREATE FUNCTION slow(n bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_sleep(0.003); RETURN n; END $$;
CREATE INDEX ON events (slow(id))
"""


def test_a_step_may_take_longer(any_postgres_database: Postgres) -> None:
    database = any_postgres_database
    database.execute(SLOW)
    migrated(database)
    database.execute(f"ALTER DATABASE {database.database} SET statement_timeout = '500ms'")
    with patient(database) as ddl:
        convert(ddl, table_facts(ddl, "public.events"), BY, NOW)
        assert "is split" in advance(ddl, "public.events", BY, 60, now=NOW)


def test_no_session_of_a_policy_has_a_limit(any_postgres_database: Postgres) -> None:
    database = any_postgres_database
    config = migrated(database)
    newer = int(database.execute("SHOW server_version_num")[0][0]) >= 170000
    names = ["statement", "idle_in_transaction_session", "idle_session", *(["transaction"] if newer else [])]
    for name in names:
        database.execute(f"ALTER DATABASE {database.database} SET {name}_timeout = '50s'")
    assert len(database.execute(LIMITED)) == len(names)
    with closing(session(config, "test")) as connection, connection.cursor() as cursor:
        cursor.execute(LIMITED)
        assert cursor.fetchall() == []
    with Sessions(config, "test") as sessions:
        for opened in (sessions.judge(), sessions.reader()):
            with opened.cursor() as cursor:
                cursor.execute(LIMITED)
                assert cursor.fetchall() == []
