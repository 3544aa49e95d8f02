"""A reader that does not let go: each step of a split gives up in time, names it, and goes on when it has gone."""

from __future__ import annotations

from contextlib import closing

import psycopg2
import pytest

from millstream_pipelines.errors import RetriableError
from millstream_pipelines.retention import split
from millstream_pipelines.retention.convert import convert
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.split import advance
from retained import BY, NOW, Traffic, migrated, patient
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]

TABLE = "public.events"


def test_who_is_idle_in_a_transaction_is_named(
    any_postgres_database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = any_postgres_database
    database.execute(
        "CREATE TABLE events (id int, at timestamptz, PRIMARY KEY (id, at)); "
        "INSERT INTO events SELECT n, timestamptz '2026-06-15' + n * interval '1 hour' FROM generate_series(1, 2000) n"
    )
    going = Traffic(database)
    going.start(lambda cursor, n: cursor.execute("UPDATE events SET at = at WHERE id = %s", (n % 2000 + 1,)))
    holder, asleep = psycopg2.connect(database.dsn), []

    def reached(place: str) -> None:
        if place == "split-verified" and not asleep:
            with holder.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM events")  # and stays in its transaction
            asleep.append(place)

    monkeypatch.setattr(split, "reached", reached)
    try:
        with closing(holder), patient(database) as usual, Ddl(migrated(database), "test", 0.4, patience_s=0.5) as ddl:
            convert(usual, table_facts(usual, TABLE), BY, NOW)
            with pytest.raises(
                RetriableError, match=r"in the place of public.events_before.* held by pid .* SELECT count"
            ):
                advance(ddl, TABLE, BY, 60, now=NOW)
            assert ddl.waited_s >= 0.05
            assert database.execute("SELECT state FROM _millstream.conversions") == [("indexed",)]
            done = going.done
            holder.rollback()
            assert "is split" in advance(usual, TABLE, BY, 60, now=NOW)
    finally:
        going.stop()
    assert going.errors == []
    assert going.done >= done
    assert database.execute("SELECT count(*) FROM events") == [(2000,)]
