"""The old range of a converted table is split while it is read and written; killed anywhere, it goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
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
from retention.killed import gone
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]

TABLE = "public.events"
LATER = NOW + timedelta(days=8)
STATE = "SELECT state FROM _millstream.conversions"
LEFT = "SELECT relname FROM pg_class WHERE relname LIKE 'split%' AND relnamespace = '_millstream'::regnamespace"


def content(database: Postgres, table: str = "events") -> list[tuple[Any, ...]]:
    return database.execute(f"SELECT count(*), sum(hashtextextended(e::text, 0)) FROM {table} e")


def test_the_old_range_becomes_partitions(any_postgres_database: Postgres) -> None:
    with furnished(any_postgres_database), patient(any_postgres_database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        before = content(any_postgres_database)
        ddl.rows("SET client_min_messages = debug1")
        told = advance(ddl, TABLE, BY, 60, now=NOW)
        assert "is split into 8 partitions" in told
        assert "2000 rows were compared" in told
        switching = "".join(ddl.connection.notices)
        assert "verifying table" not in switching.rpartition("DETACH")[2]
        assert content(any_postgres_database) == before == content(any_postgres_database, "events_before")
        parts = table_facts(ddl, TABLE).partitions
        assert [part.name.removeprefix("public.events_") for part in parts] == [
            "p20260601", "p20260701", "p20260801", "p20260901", "p20261001", "p20261101", "p20261201", "p20270101",
            "p20270201", "p20270301",
        ]  # fmt: skip
        assert parts[0].low is None
        # Keys, indexes and settings are those of the table; nothing of the work is left.
        names = "SELECT count(*) FROM pg_indexes WHERE tablename = 'events_p20260701'"
        assert any_postgres_database.execute(names) == [(4,)]
        assert any_postgres_database.execute("SELECT reloptions FROM pg_class WHERE relname = 'events_p20260701'") == [
            (["fillfactor=90"],)
        ]
        assert any_postgres_database.execute(LEFT) == []
        assert any_postgres_database.execute("SELECT count(*) FROM pg_proc WHERE proname LIKE 'split_note%'") == [(0,)]
        checks = "SELECT count(*) FROM pg_constraint WHERE conname = 'millstream_range'"
        assert any_postgres_database.execute(checks) == [(0,)]
        key = "SELECT convalidated, obj_description(oid) FROM pg_constraint WHERE conname = 'of_event'"
        assert any_postgres_database.execute(key)[0] == (True, "what is paid back")
        any_postgres_database.execute("INSERT INTO events (at, kind) VALUES ('1999-01-01', 1)")
        # The old table goes when the grace period is over, not before.
        assert advance(ddl, TABLE, BY, 60, now=NOW + timedelta(days=6)) == ""
        assert "is dropped" in advance(ddl, TABLE, BY, 60, now=LATER)
        assert advance(ddl, TABLE, BY, 60, now=LATER) == ""
        assert any_postgres_database.execute("SELECT to_regclass('events_before')") == [(None,)]


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
        cursor.execute(
            "UPDATE events SET at = at + interval '40 days' * sign(extract(epoch FROM timestamptz '2026-10-01' - at)) "
            "WHERE id = %s", (n % 500 + 1000,),
        )  # fmt: skip

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


def test_nobody_notices(any_postgres_database: Postgres) -> None:
    with furnished(any_postgres_database), patient(any_postgres_database, 2.0) as ddl:
        any_postgres_database.execute("INSERT INTO events (at) SELECT '2026-05-01' FROM generate_series(1, 30000)")
        going = traffic(any_postgres_database)
        try:
            convert(ddl, table_facts(ddl, TABLE), BY)
            told = advance(ddl, TABLE, BY, 60)
        finally:
            going.stop()
        assert going.errors == []
        assert "is split" in told
        new, changed = any_postgres_database.execute(
            "SELECT count(*) FILTER (WHERE note = 'new'), count(*) FILTER (WHERE note = 'changed') FROM events"
        )[0]
        # Every insert was noted by the table's own trigger, which stays with it all the time. (What moves from one
        # partition to another is noted, too.)
        noted = any_postgres_database.execute("SELECT count(*), count(DISTINCT id) FROM audit WHERE id > 2000")
        assert noted == [(new + 30000, new + 30000)]
        assert new > 0
        assert changed > 0


# A server of forks, since most of a new process's time is its imports.
KILLED = """
import json, os, sys
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
by, now, later = PartitionBy.model_validate_json(sys.argv[1]), *map(datetime.fromisoformat, sys.argv[2:4])
def run(config, place):
    failpoints.arm(place)
    with Ddl(PostgresConfig.model_validate(config), "test", 1.0) as ddl:
        facts = table_facts(ddl, "public.events")
        if facts.shape == "plain":
            convert(ddl, facts, by, now)
        advance(ddl, "public.events", by, 60, now=now)
        advance(ddl, "public.events", by, 60, now=later)
for line in sys.stdin:
    if not (child := os.fork()):
        run(*json.loads(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
LIVES = [
    ["convert-checking", "partition-checked", "converting", "converted", "split-prepared", "split-begun", "split-batch",
     "split-batch", "split-copied", "split-indexed", "split-verified", "split-switching", "split-switched",
     "split-ending", "split-ended"],
    ["convert-validated", "split-renewed", "split-settled"],
    ["partition-made", "split-switching"],
]  # fmt: skip


@pytest.fixture(scope="module")
def killed() -> Iterator[Callable[[Postgres, str], int]]:
    """Turn and split `public.events` in a process that dies at a place; return its exit code."""
    words = [sys.executable, "-c", KILLED, BY.model_dump_json(), NOW.isoformat(), LATER.isoformat()]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        given, told = server.stdin, server.stdout

        def run(database: Postgres, place: str) -> int:
            print(json.dumps([database.config, place]), file=given, flush=True)
            return gone(database, int(told.readline()))

        yield run
        given.close()


@pytest.mark.parametrize("places", LIVES, ids=" ".join)
def test_killed_anywhere_it_goes_on(
    places: list[str], killed: Callable[[Postgres, str], int], any_postgres_database: Postgres
) -> None:
    """A table's conversion is killed at one place after the other, with rows written in between."""
    database = any_postgres_database
    with furnished(database):
        migrated(database)
        for place in places:
            assert killed(database, f"{place}:1:kill") == -signal.SIGKILL, place
            database.execute("INSERT INTO events (at, amount) VALUES ('2026-07-03', 5)")
            database.execute("UPDATE events SET note = note || '.' WHERE id IN (7, 1400)")
        before = content(database)
        assert killed(database, "") == 0
        assert content(database) == before
        assert database.execute("SELECT count(*) FROM events") == [(2000 + len(places),)]
        assert database.execute(STATE) == [("ended",)]
        assert database.execute(LEFT) == []
        assert database.execute("SELECT count(*) FROM pg_constraint WHERE conparentid = 0 AND NOT convalidated") == [
            (0,)
        ]
        with patient(database) as ddl:
            parts = table_facts(ddl, TABLE).partitions
            assert parts[0].low is None
            assert len(parts) >= 8  # those ahead of the old range are made by a policy's next run


def test_a_table_without_a_key_stays_whole(any_postgres_database: Postgres) -> None:
    any_postgres_database.execute("CREATE TABLE events AS SELECT now() AS at")
    with patient(any_postgres_database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY)
        told = advance(ddl, TABLE, BY, 60)
        assert "no primary key and no replica identity index" in told
        assert "leaves as a whole" in told
        assert advance(ddl, TABLE, BY, 60) == told
    assert any_postgres_database.execute("SELECT count(*) FROM events") == [(1,)]


def test_a_replica_identity_is_a_key(any_postgres_database: Postgres) -> None:
    any_postgres_database.execute("CREATE TABLE events AS SELECT n AS id, now() AS at FROM generate_series(1, 100) n")
    any_postgres_database.execute("ALTER TABLE events ALTER id SET NOT NULL, ALTER at SET NOT NULL")
    any_postgres_database.execute("CREATE UNIQUE INDEX one ON events (id, at)")
    any_postgres_database.execute("ALTER TABLE events REPLICA IDENTITY USING INDEX one")
    with patient(any_postgres_database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY)
        assert "is split" in advance(ddl, TABLE, BY, 60)
    assert any_postgres_database.execute("SELECT count(*) FROM events") == [(100,)]


def test_a_truncated_table_is_copied_anew(any_postgres_database: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream_pipelines.retention.copying._BATCH_ROWS", 500)
    with furnished(any_postgres_database), patient(any_postgres_database) as ddl:
        any_postgres_database.execute("ALTER TABLE refunds DROP CONSTRAINT of_event")
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        assert "0 rows of public.events_before are copied" in advance(ddl, TABLE, BY, -1, now=NOW)
        any_postgres_database.execute("INSERT INTO events (at) VALUES ('2026-08-01')")
        any_postgres_database.execute("TRUNCATE events")
        any_postgres_database.execute("INSERT INTO events (at) VALUES ('2026-09-01'), ('2026-10-01')")
        assert "is split" in advance(ddl, TABLE, BY, 60, now=NOW)
    assert any_postgres_database.execute("SELECT count(*) FROM events") == [(2,)]


def test_a_table_that_gets_a_column_is_copied_anew(any_postgres_database: Postgres) -> None:
    with furnished(any_postgres_database), patient(any_postgres_database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        advance(ddl, TABLE, BY, -1, now=NOW)
        any_postgres_database.execute("ALTER TABLE events ADD COLUMN colour text DEFAULT 'red'")
        before = content(any_postgres_database)
        assert "is split" in advance(ddl, TABLE, BY, 60, now=NOW)
    assert content(any_postgres_database) == before
    assert any_postgres_database.execute("SELECT DISTINCT colour FROM events") == [("red",)]


def test_a_copy_that_is_not_equal_is_thrown_away(any_postgres_database: Postgres) -> None:
    from millstream_pipelines.errors import DataError

    with furnished(any_postgres_database), patient(any_postgres_database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        advance(ddl, TABLE, BY, -1, now=NOW)
        target = f"_millstream.{any_postgres_database.execute(LEFT + ' ORDER BY length(relname)')[0][0]}"
        any_postgres_database.execute(f"INSERT INTO {target} (id, at, number) VALUES (9999999, '2026-07-01', 0)")
        with pytest.raises(DataError, match=r"has 2001 rows and hash .* begins anew"):
            advance(ddl, TABLE, BY, 60, now=NOW)
        assert any_postgres_database.execute(STATE) == [("attached",)]
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
