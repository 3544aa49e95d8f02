"""A table is split by its key, of whatever types that is."""

from __future__ import annotations

from typing import Any

import pytest

from millstream_pipelines.retention import copying
from millstream_pipelines.retention.convert import convert
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.split import advance
from retained import BY, NOW, patient
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]

TABLE = "public.events"


def test_dates_of_the_first_centuries(any_postgres_database: Postgres) -> None:
    any_postgres_database.execute(
        "CREATE TABLE events (id int, at date NOT NULL, PRIMARY KEY (id, at)); "
        "INSERT INTO events VALUES (1, '0012-03-15'), (2, '0020-03-15'), (3, '2026-06-01')"
    )
    with patient(any_postgres_database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        assert "is split into" in advance(ddl, TABLE, BY, 60, now=NOW)
        names = [part.name for part in table_facts(ddl, TABLE).partitions]
    assert names[:4] == [f"{TABLE}_p{start}" for start in ("00120301", "00120401", "00200301", "00200401")]
    assert any_postgres_database.execute("SELECT count(*) FROM events") == [(3,)]


@pytest.mark.parametrize("schema", ["public", "Ext"])
def test_a_key_of_an_extensions_type(
    schema: str, any_postgres_database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = any_postgres_database
    database.execute(
        f'CREATE SCHEMA IF NOT EXISTS "{schema}"; CREATE EXTENSION ltree SCHEMA "{schema}"; '
        f'SET search_path = public, "{schema}"; CREATE DOMAIN place AS ltree; '
        "CREATE TABLE events (place place, at timestamptz NOT NULL, n int, PRIMARY KEY (place, at)); "
        "INSERT INTO events SELECT text2ltree('a.b' || n), timestamptz '2026-06-15 00:00+00' + n * interval '2 hours' "
        "FROM generate_series(1, 1000) n"
    )

    def changing(place: str) -> None:
        if place == "split-begun":  # all that is written is noted from here on
            database.execute("UPDATE events SET n = 1 WHERE at < '2026-07-01'")
            database.execute("UPDATE events SET at = at + interval '1 hour' WHERE at < '2026-06-20'")
            database.execute("DELETE FROM events WHERE at > '2026-09-01'")

    monkeypatch.setattr(copying, "reached", changing)
    monkeypatch.setattr(copying, "_BATCH_ROWS", 300)
    seen: list[Any] = []
    with patient(database) as ddl:
        seen += ddl.rows("SHOW search_path")
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        assert "is split" in advance(ddl, TABLE, BY, 60, now=NOW)
        seen += ddl.rows("SHOW search_path")
    assert seen[0] == seen[1]
    assert database.execute("SELECT count(*), sum(n), count(*) FILTER (WHERE at < '2026-06-20') FROM events") == [
        (936, 191, 59)
    ]
