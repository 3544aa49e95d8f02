"""The old range of a converted table is split while it is read and written; killed anywhere, it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from millstream_pipelines.retention.convert import convert
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.spans import Grid, Span
from millstream_pipelines.retention.split import advance
from millstream_pipelines.retention.split_sql import Piece, pieces
from retained import BY, NOW, Traffic, furnished, migrated, patient
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

TABLE = "public.events"
LATER = NOW + timedelta(days=8)
STATE = "SELECT state FROM _millstream.conversions"
LEFT = "SELECT relname FROM pg_class WHERE relname LIKE 'split%' AND relnamespace = '_millstream'::regnamespace"


def content(database: Postgres, table: str = "events") -> list[tuple[Any, ...]]:
    return database.execute(f"SELECT count(*), sum(hashtextextended(e::text, 0)) FROM {table} e")


def test_the_old_range_becomes_partitions(postgres_database: Postgres) -> None:
    with furnished(postgres_database), patient(postgres_database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        before = content(postgres_database)
        ddl.rows("SET client_min_messages = debug1")
        told = advance(ddl, TABLE, BY, 60, now=NOW)
        assert "is split into 8 partitions" in told
        assert "2000 rows were compared" in told
        switching = "".join(ddl.connection.notices)
        assert "verifying table" not in switching.rpartition("DETACH")[2]
        assert content(postgres_database) == before == content(postgres_database, "events_before")
        parts = table_facts(ddl, TABLE).partitions
        assert [part.name.removeprefix("public.events_") for part in parts] == [
            "p20260601", "p20260701", "p20260801", "p20260901", "p20261001", "p20261101", "p20261201", "p20270101",
            "p20270201", "p20270301",
        ]  # fmt: skip
        assert parts[0].low is None
        # Keys, indexes and settings are those of the table; nothing of the work is left.
        names = "SELECT count(*) FROM pg_indexes WHERE tablename = 'events_p20260701'"
        assert postgres_database.execute(names) == [(4,)]
        assert postgres_database.execute("SELECT reloptions FROM pg_class WHERE relname = 'events_p20260701'") == [
            (["fillfactor=90"],)
        ]
        assert postgres_database.execute(LEFT) == []
        assert postgres_database.execute("SELECT count(*) FROM pg_proc WHERE proname LIKE 'split_note%'") == [(0,)]
        assert postgres_database.execute("SELECT count(*) FROM pg_constraint WHERE conname = 'millstream_range'") == [
            (0,)
        ]
        assert postgres_database.execute("SELECT convalidated FROM pg_constraint WHERE conname = 'of_event'")[0] == (
            True,
        )
        postgres_database.execute("INSERT INTO events (at, kind) VALUES ('1999-01-01', 1)")
        # The old table goes when the grace period is over, not before.
        assert advance(ddl, TABLE, BY, 60, now=NOW + timedelta(days=6)) == ""
        assert "is dropped" in advance(ddl, TABLE, BY, 60, now=LATER)
        assert advance(ddl, TABLE, BY, 60, now=LATER) == ""
        assert postgres_database.execute("SELECT to_regclass('events_before')") == [(None,)]


def traffic(database: Postgres) -> Traffic:
    """Four that write, four that read; each writer keeps its own count of what must be there."""
    going = Traffic(database)

    def insert(cursor: Any, n: int) -> None:
        cursor.execute(
            "INSERT INTO events (at, amount, note) VALUES (now() - %s * interval '3 hours', %s, 'new')", (n, n)
        )

    def update(cursor: Any, n: int) -> None:
        cursor.execute("UPDATE events SET amount = amount + 1, note = 'changed' WHERE id = %s", (n % 700 + 1,))

    def move(cursor: Any, n: int) -> None:
        cursor.execute("UPDATE events SET at = at + interval '40 days' WHERE id = %s", (n % 500 + 1000,))

    def delete(cursor: Any, n: int) -> None:
        cursor.execute("DELETE FROM events WHERE id = %s RETURNING id", (n % 500 + 1501,))

    def count(cursor: Any, _: int) -> None:
        cursor.execute("SELECT count(*) FROM events WHERE id BETWEEN 1 AND 1500")
        assert cursor.fetchone() == (1500,)

    def look(cursor: Any, n: int) -> None:
        cursor.execute("SELECT sum(amount) FROM bigger")
        cursor.execute("SELECT * FROM events WHERE id = %s", (n % 1500 + 1,))
        assert len(cursor.fetchall()) == 1

    going.start(insert, update, move, delete, count, count, look, look)
    return going


def test_nobody_notices(postgres_database: Postgres) -> None:
    with furnished(postgres_database), patient(postgres_database) as ddl:
        postgres_database.execute("INSERT INTO events (at) SELECT '2026-05-01' FROM generate_series(1, 30000)")
        going = traffic(postgres_database)
        try:
            convert(ddl, table_facts(ddl, TABLE), BY)
            told = advance(ddl, TABLE, BY, 60)
        finally:
            going.stop()
        assert going.errors == []
        assert "is split" in told
        new, changed = postgres_database.execute(
            "SELECT count(*) FILTER (WHERE note = 'new'), count(*) FILTER (WHERE note = 'changed') FROM events"
        )[0]
        # Every insert was noted by the table's own trigger, which stays with it all the time. (What moves from one
        # partition to another is noted, too.)
        noted = postgres_database.execute("SELECT count(*), count(DISTINCT id) FROM audit WHERE id > 2000")
        assert noted == [(new + 30000, new + 30000)]
        assert new > 0
        assert changed > 0


KILLED = """
import sys
from datetime import datetime
from millstream_api.retentionpolicy import PartitionBy
from millstream_pipelines import failpoints
from millstream_pipelines.retention import copying
from millstream_pipelines.retention.convert import convert
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.split import advance
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig
copying._BATCH_ROWS = 700
failpoints.arm(sys.argv[2])
by, now, later = PartitionBy.model_validate_json(sys.argv[3]), *map(datetime.fromisoformat, sys.argv[4:6])
with Ddl(PostgresConfig.model_validate_json(sys.argv[1]), "test", 1.0) as ddl:
    facts = table_facts(ddl, "public.events")
    if facts.shape == "plain":
        convert(ddl, facts, by, now)
    advance(ddl, "public.events", by, 60, now=now)
    advance(ddl, "public.events", by, 60, now=later)
"""
PLACES = [
    "partition-checked:1", "converting:1", "converted:1", "split-begun:1", "split-batch:2", "split-indexed:1",
    "split-switching:1", "split-switched:1", "split-ended:1",
]  # fmt: skip


def test_killed_anywhere_it_goes_on(postgres_server: Postgres) -> None:
    """One table is killed at each place in turn, every time by a new process, with a row written in between."""
    for place in PLACES:
        with postgres_server.fresh_database() as database, furnished(database):
            migrated(database)
            config = json.dumps(database.config)
            arguments = [BY.model_dump_json(), NOW.isoformat(), LATER.isoformat()]

            def run(failpoint: str) -> int:
                command = [sys.executable, "-c", KILLED, config, failpoint, *arguments]  # noqa: B023
                return subprocess.run(command, timeout=60, check=False, env=dict(os.environ)).returncode

            assert run(f"{place}:kill") == -signal.SIGKILL, place
            database.execute("INSERT INTO events (at, amount) VALUES ('2026-07-03', 5)")
            database.execute("UPDATE events SET note = 'since' WHERE id IN (7, 1400)")
            before = content(database)
            assert run("") == 0, place
            assert content(database) == before, place
            assert database.execute(STATE) == [("ended",)], place
            assert database.execute(LEFT) == [], place
            assert database.execute(
                "SELECT count(*) FROM pg_constraint WHERE conparentid = 0 AND NOT convalidated"
            ) == [(0,)], place
            with patient(database) as ddl:
                parts = table_facts(ddl, TABLE).partitions
                assert parts[0].low is None, place
                assert len(parts) >= 8, place  # those ahead of the old range are made by a policy's next run


def test_a_table_without_a_key_stays_whole(postgres_database: Postgres) -> None:
    postgres_database.execute("CREATE TABLE events AS SELECT now() AS at")
    with patient(postgres_database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY)
        told = advance(ddl, TABLE, BY, 60)
        assert "no primary key and no replica identity index" in told
        assert "leaves as a whole" in told
        assert advance(ddl, TABLE, BY, 60) == told
    assert postgres_database.execute("SELECT count(*) FROM events") == [(1,)]


def test_a_replica_identity_is_a_key(postgres_database: Postgres) -> None:
    postgres_database.execute("CREATE TABLE events AS SELECT n AS id, now() AS at FROM generate_series(1, 100) n")
    postgres_database.execute("ALTER TABLE events ALTER id SET NOT NULL, ALTER at SET NOT NULL")
    postgres_database.execute("CREATE UNIQUE INDEX one ON events (id, at)")
    postgres_database.execute("ALTER TABLE events REPLICA IDENTITY USING INDEX one")
    with patient(postgres_database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY)
        assert "is split" in advance(ddl, TABLE, BY, 60)
    assert postgres_database.execute("SELECT count(*) FROM events") == [(100,)]


def test_a_truncated_table_is_copied_anew(postgres_database: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream_pipelines.retention.copying._BATCH_ROWS", 500)
    with furnished(postgres_database), patient(postgres_database) as ddl:
        postgres_database.execute("ALTER TABLE refunds DROP CONSTRAINT of_event")
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        assert "0 rows of public.events_before are copied" in advance(ddl, TABLE, BY, -1, now=NOW)
        postgres_database.execute("INSERT INTO events (at) VALUES ('2026-08-01')")
        postgres_database.execute("TRUNCATE events")
        postgres_database.execute("INSERT INTO events (at) VALUES ('2026-09-01'), ('2026-10-01')")
        assert "truncated" in advance(ddl, TABLE, BY, 60, now=NOW)
        assert "is split" in advance(ddl, TABLE, BY, 60, now=NOW)
    assert postgres_database.execute("SELECT count(*) FROM events") == [(2,)]


def test_a_table_that_gets_a_column_is_copied_anew(postgres_database: Postgres) -> None:
    with furnished(postgres_database), patient(postgres_database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        advance(ddl, TABLE, BY, -1, now=NOW)
        postgres_database.execute("ALTER TABLE events ADD COLUMN colour text DEFAULT 'red'")
        before = content(postgres_database)
        assert "is split" in advance(ddl, TABLE, BY, 60, now=NOW)
    assert content(postgres_database) == before
    assert postgres_database.execute("SELECT DISTINCT colour FROM events") == [("red",)]


def test_a_copy_that_is_not_equal_is_thrown_away(postgres_database: Postgres) -> None:
    from millstream_pipelines.errors import DataError

    with furnished(postgres_database), patient(postgres_database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        advance(ddl, TABLE, BY, -1, now=NOW)
        target = f"_millstream.{postgres_database.execute(LEFT + ' ORDER BY length(relname)')[0][0]}"
        postgres_database.execute(f"INSERT INTO {target} (id, at, number) VALUES (9999999, '2026-07-01', 0)")
        with pytest.raises(DataError, match=r"has 2001 rows and hash .* begins anew"):
            advance(ddl, TABLE, BY, 60, now=NOW)
        assert postgres_database.execute(STATE) == [("attached",)]
        assert "is split" in advance(ddl, TABLE, BY, 60, now=NOW)


MONTHS = Grid("timestamp", Span.of("1 month"), ZoneInfo("Etc/UTC"))
TENS = Grid("integer", Span.of("10"), ZoneInfo("Etc/UTC"))


def month(number: int, year: int = 2026) -> datetime:
    return datetime(year, number, 1)


NOVEMBER = ("p20261101", None, month(12))
DECEMBER = ("p20261201", month(12), month(1, 2027))


@pytest.mark.parametrize(("cells", "now", "upper", "grid", "expected"), [
    # nothing is there: the current range and those made ahead
    ([], datetime(2026, 11, 23), month(1, 2027), MONTHS, [NOVEMBER, DECEMBER]),
    # a long stretch without rows is one partition
    ([month(1, 1970), month(10)], datetime(2026, 11, 23), month(12), MONTHS, [
        ("p19700101", None, month(2, 1970)), ("p19700201", month(2, 1970), month(10)),
        ("p20261001", month(10), month(11)), ("p20261101", month(11), month(12))]),
    # rows ahead of now
    ([month(12)], datetime(2026, 11, 23), month(1, 2027), MONTHS, [NOVEMBER, DECEMBER]),
    ([-10, 0, 50], 55, 80, TENS, [
        ("pm10", None, 0), ("p0", 0, 10), ("p10", 10, 50), ("p50", 50, 60), ("p60", 60, 70), ("p70", 70, 80)]),
    # the interval was changed since
    ([0, 10], 15, 25, TENS, [("p0", None, 10), ("p10", 10, 20), ("p20", 20, 25)]),
])  # fmt: skip
def test_pieces(cells: list[Any], now: Any, upper: Any, grid: Grid, expected: list[tuple[Any, ...]]) -> None:
    assert pieces("s.t", cells, now, upper, grid) == [Piece(f"s.t_{name}", low, high) for name, low, high in expected]
