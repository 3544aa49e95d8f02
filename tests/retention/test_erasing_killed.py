"""An erasure whose process dies anywhere is finished by the next run, exactly: no row stays, none more is counted."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from retention.killed import killed_at
from retention.policies import FLIGHTS, NOW, TABLE, carried_out, months, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

PLACES = ["erased:1", "erasing:2", "manifest-written:1", "superseded:1", "superseded:2"]  # 2: the second archive's


def archived(folder: Path, condition: str) -> int:
    files = [str(path) for path in folder.rglob("*.parquet")]
    ((count,),) = duckdb.sql(f"SELECT count(*) FROM read_parquet({files}) WHERE {condition}").fetchall()
    return int(count)


@pytest.fixture
def flights(postgres_database: Postgres, tmp_path: Path) -> Postgres:
    """One partition dropped and archived, one that waits for its drop with an archive, one attached."""
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 9, 11)
    for days in (31, 23, 0):
        carried_out(postgres_database, spec(tmp_path), NOW - timedelta(days=days))
    return postgres_database


def test_a_killed_erasure_is_finished(flights: Postgres, tmp_path: Path) -> None:
    states = flights.execute("SELECT state FROM _millstream.retired ORDER BY 1")
    assert states == [("archived",), ("dropped",)]
    for number, place in enumerate(PLACES):
        where = f"tail = 'N{number}'"
        policy = spec(tmp_path, delete=[{"table": TABLE, "where": where, "reason": place}])
        code, said = killed_at(place, flights, policy, NOW)
        assert code == -signal.SIGKILL, (place, said)
        report = carried_out(flights, policy, NOW)
        assert report.exit_code == 0, (place, report.message)
        assert archived(tmp_path, where) == 0, place
        assert archived(tmp_path, "true") == 2 * (99 - number), place
        assert len(list(tmp_path.rglob("_manifest.json"))) == 2, place
        assert report.retention is not None
        found = report.retention.erasures[-1]
        assert (found.live_rows, found.detached_rows, found.archived_rows) == (1, 1, 2), place
        assert found.done_at is not None, place
        assert flights.execute(f"SELECT count(*) FROM raw.flights WHERE {where}") == [(0,)]
        assert not flights.execute("SELECT 1 FROM pg_class WHERE relname LIKE 'erasing%'"), place
    left = 100 - len(PLACES)
    restored = carried_out(flights, policy, NOW, restore={"table": TABLE, "from": "2013-09-01", "to": "2013-11-01"})
    assert f"2 range(s) of raw.flights restored and attached, {2 * left} rows" in restored.message
    assert flights.execute("SELECT count(*) FROM raw.flights") == [(3 * left,)]


def test_an_archive_that_was_about_to_expire_stops_no_erasure(flights: Postgres, tmp_path: Path) -> None:
    """Its manifest was gone, and the record still said that it counts: every later run failed on it."""
    archive = {"url": f"file://{tmp_path}", "keep": {"age": "1 month"}}
    code, said = killed_at("deleting:1", flights, spec(keep={}, archive=archive), NOW)
    assert code == -signal.SIGKILL, said
    policy = spec(keep={}, archive=archive, delete=[{"table": TABLE, "where": "tail = 'N7'", "reason": "asked for"}])
    report = carried_out(flights, policy, NOW)
    assert report.exit_code == 0, report.message
    assert archived(tmp_path, "tail = 'N7'") == 0
    assert flights.execute("SELECT state FROM _millstream.retired ORDER BY 1") == [("archived",), ("expired",)]
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
