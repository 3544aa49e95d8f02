"""The log of rows that change while they are copied takes what users do to the table, whatever its columns are."""

from __future__ import annotations

import pytest

from millstream_pipelines.retention.convert import convert
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.split import advance
from retained import BY, NOW, patient
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]

TABLE = "public.events"


@pytest.mark.parametrize("domain", ["number AS bigint NOT NULL", "number AS bigint CHECK (VALUE IS NOT NULL)"])
def test_a_table_whose_key_is_of_a_domain_is_truncated(domain: str, any_postgres_database: Postgres) -> None:
    database = any_postgres_database
    database.execute(f"CREATE DOMAIN {domain}; CREATE DOMAIN code AS varchar(8); CREATE DOMAIN short AS code NOT NULL")
    database.execute("CREATE TABLE events (id number, code short, at timestamptz, PRIMARY KEY (code, id, at))")
    rows = "SELECT n, 'c' || n % 7, timestamptz '2026-06-15' + n * interval '2 hours' FROM generate_series(1, 900) n"
    database.execute(f"INSERT INTO events {rows}")
    with patient(database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        assert "0 rows of public.events_before are copied" in advance(ddl, TABLE, BY, -1, now=NOW)
        database.execute("UPDATE events SET id = id + 10000 WHERE id % 5 = 0")
        database.execute("TRUNCATE events")
        database.execute(f"INSERT INTO events {rows}")
        advance(ddl, TABLE, BY, -1, now=NOW)
        database.execute("DELETE FROM events WHERE id % 3 = 0")
        assert "600 rows were compared" in advance(ddl, TABLE, BY, 60, now=NOW)
    assert database.execute("SELECT count(*), sum(id)::int FROM events") == [(600, 270_000)]


@pytest.mark.parametrize("key", [
    "ALTER TABLE events ADD PRIMARY KEY (id, at)",
    "CREATE UNIQUE INDEX one ON events (id, at); ALTER TABLE events REPLICA IDENTITY USING INDEX one",
])  # fmt: skip
def test_a_publication_of_all_tables_comes_while_a_table_is_split(key: str, any_postgres_database: Postgres) -> None:
    database = any_postgres_database
    database.execute("CREATE TABLE events (id bigint NOT NULL, at timestamptz NOT NULL)")
    database.execute(key)
    database.execute(
        "INSERT INTO events SELECT n, timestamptz '2026-06-15' + n * interval '2 hours' FROM generate_series(1, 900) n"
    )
    with patient(database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        advance(ddl, TABLE, BY, -1, now=NOW)
        database.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        database.execute("DELETE FROM events WHERE id % 3 = 0")
        assert "600 rows were compared" in advance(ddl, TABLE, BY, 60, now=NOW)
    database.execute("UPDATE events SET at = at + interval '1 second'")
    identity = "SELECT DISTINCT relreplident FROM pg_class WHERE relname LIKE 'events%' AND relkind IN ('r', 'p')"
    assert database.execute(identity) == [("d" if "PRIMARY" in key else "i",)]
