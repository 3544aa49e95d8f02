"""A restore that dies and is never tried again leaves nothing: the next run, or the next restore, finds its table."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from millstream_api import RunReport
from millstream_pipelines.retention.ddl import Ddl, alone
from retention.archives import config_of
from retention.killed import killed_at
from retention.policies import FLIGHTS, NOW, TABLE, attached, carried_out, months, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

LATER = NOW + timedelta(days=8)
SEPTEMBER: dict[str, Any] = {"table": TABLE, "from": "2013-09-01", "to": "2013-10-01"}
OCTOBER = SEPTEMBER | {"from": "2013-10-01", "to": "2013-11-01"}
INTO = {"into": "back"}
TABLES = "SELECT relnamespace::regnamespace || '.' || relname FROM pg_class WHERE relname ~ 'p20130901$' ORDER BY 1"


def done(report: RunReport) -> str:
    assert report.exit_code == 0, report.message
    return report.message


@pytest.fixture
def flights(postgres_database: Postgres, tmp_path: Path) -> Postgres:
    """Two months are in the archive only, one is attached."""
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 9, 11)
    for now in (NOW, LATER):
        done(carried_out(postgres_database, spec(tmp_path), now))
    return postgres_database


CASES = [("restoring:1", {}), ("in-copy:1", {}), ("restored:1", {}), ("partition-checked:1", {}), ("in-copy:1", INTO)]


@pytest.mark.parametrize(("place", "into"), CASES)
def test_the_next_run_removes_what_it_left(place: str, into: dict[str, str], flights: Postgres, tmp_path: Path) -> None:
    code, said = killed_at(place, flights, spec(tmp_path), LATER, restore=SEPTEMBER | into)
    assert code == -signal.SIGKILL, said
    name = "back.flights_p20130901" if into else "raw.flights_p20130901"
    assert flights.execute(TABLES) == [(name,)]
    flights.execute("CREATE TABLE raw.mine_p20130901 AS SELECT 1 AS n")
    message = done(carried_out(flights, spec(tmp_path), LATER))
    assert f"removed {name}, which a restore that never ended had left" in message
    assert flights.execute(TABLES) == [("raw.mine_p20130901",)]
    assert "100 rows" in done(carried_out(flights, spec(tmp_path), LATER, restore=SEPTEMBER | into))


def test_a_pattern_leaves_out_the_table_that_a_restore_fills(flights: Postgres, tmp_path: Path) -> None:
    """It was taken for one of the policy's, and turned into a partitioned one under the restore's hands."""
    by = {"column": "time_hour", "interval": "1 month", "timeZone": "America/New_York", "convert": True}
    policy = spec(tmp_path, tables=[{"schema": "raw", "pattern": "flights*", "partitionBy": by}])
    killed_at("restoring:1", flights, policy, LATER, restore=SEPTEMBER)
    with Ddl(config_of(flights), "a restore", 1) as ddl, alone(ddl, TABLE):
        report = carried_out(flights, policy, LATER)
    assert report.retention is not None
    assert [table.name for table in report.retention.tables] == [TABLE]
    assert flights.execute(TABLES) == [("raw.flights_p20130901",)]
    assert "removed raw.flights_p20130901" in done(carried_out(flights, policy, LATER))


def test_the_next_restore_removes_what_it_left(flights: Postgres, tmp_path: Path) -> None:
    killed_at("restored:1", flights, spec(tmp_path), LATER, restore=SEPTEMBER)
    assert "100 rows" in done(carried_out(flights, spec(tmp_path), LATER, restore=OCTOBER))
    assert flights.execute(TABLES) == []
    assert attached(flights)[:2] == ["p20131001", "p20131101"]


def test_what_was_attached_by_hand_stays(flights: Postgres, tmp_path: Path) -> None:
    killed_at("restored:1", flights, spec(tmp_path), LATER, restore=SEPTEMBER)
    flights.execute("ALTER TABLE raw.flights ATTACH PARTITION raw.flights_p20130901 "
                    "FOR VALUES FROM ('2013-09-01 04:00+00') TO ('2013-10-01 04:00+00')")  # fmt: skip
    report = carried_out(flights, spec(tmp_path), LATER)
    assert "removed" not in done(report)
    assert report.retention is not None


def test_a_restore_that_differs_leaves_no_table(flights: Postgres, tmp_path: Path) -> None:
    path = next(path for path in tmp_path.rglob("_manifest.json") if "2013-09" in str(path))
    path.write_text(path.read_text().replace('"max": "99"', '"max": "98"'))
    report = carried_out(flights, spec(tmp_path), LATER, restore=SEPTEMBER)
    assert (report.exit_code, report.reason, "column 'id'" in report.message) == (65, "ArchiveMismatch", True)
    assert flights.execute(TABLES) == []
