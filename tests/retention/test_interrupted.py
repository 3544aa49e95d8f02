"""What a broken-off run, a twin, a person or a late row leaves between two steps: the next run understands it."""

from __future__ import annotations

import shutil
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg2
import pytest

from millstream_api import RunReport
from millstream_pipelines import failpoints
from millstream_pipelines.retention import archive as archives
from millstream_pipelines.retention import partitions
from retention.policies import FLIGHTS, TABLE, attached, carried_out, months, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

NOW = datetime(2013, 12, 10, tzinfo=UTC)
LATER = NOW + timedelta(days=8)
NEXT_MONTH = NOW + timedelta(days=31)
AUGUST = {"table": TABLE, "from": "2013-08-01", "to": "2013-09-01"}
MAKE_AUGUST = (
    "CREATE TABLE raw.flights_p20130801 PARTITION OF raw.flights "
    "FOR VALUES FROM ('2013-08-01 04:00+00') TO ('2013-09-01 04:00+00')"
)
STATES = "SELECT state FROM _millstream.retired ORDER BY id"


@pytest.fixture
def flights(postgres_database: Postgres) -> Postgres:
    """A table with five months, of which August is too old."""
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 12)
    return postgres_database


def done(report: RunReport) -> str:
    assert report.exit_code == 0, report.message
    return report.message


def failing_at(monkeypatch: pytest.MonkeyPatch, module: object, place: str) -> None:
    """Let the next run break off at a place, once."""

    def broken(found: str) -> None:
        if found == place:
            monkeypatch.setattr(module, "reached", failpoints.reached)
            raise failpoints.FailpointError(place)

    monkeypatch.setattr(module, "reached", broken)


def test_a_long_reader_does_not_stop_a_detach(flights: Postgres, tmp_path: Path) -> None:
    """A try of DETACH CONCURRENTLY that ends at the lock time-out has begun, and cannot be begun again."""
    with closing(psycopg2.connect(flights.dsn)) as reader:
        reader.cursor().execute("SELECT count(*) FROM raw.flights")
        threading.Timer(1.0, reader.rollback).start()
        assert "1 detached, 1 archived" in done(carried_out(flights, spec(tmp_path, lockTimeout="200ms"), NOW))


def test_a_detach_that_was_begun_is_finished_and_undone(flights: Postgres) -> None:
    policy = spec(approval="manual")
    done(carried_out(flights, policy, NOW))
    flights.execute("ALTER TABLE raw.flights ATTACH PARTITION raw.flights_p20130801 "
                    "FOR VALUES FROM ('2013-08-01 04:00+00') TO ('2013-09-01 04:00+00')")  # fmt: skip
    with closing(psycopg2.connect(flights.dsn)) as reader, closing(psycopg2.connect(flights.dsn)) as detaching:
        reader.cursor().execute("SELECT count(*) FROM raw.flights")
        detaching.autocommit = True
        begun = "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = 'raw.flights_p20130801'::regclass"
        for _ in range(50):  # an autoanalyze may hold the partition for a moment, so that nothing begins
            with pytest.raises(psycopg2.errors.LockNotAvailable):
                _detached(detaching)
            if flights.execute(begun) == [(True,)]:
                break
        assert flights.execute(begun) == [(True,)]
    assert flights.execute("SELECT count(*) FROM raw.flights") == [(400,)]
    done(carried_out(flights, policy, NOW, restore=AUGUST))
    assert flights.execute("SELECT count(*) FROM raw.flights") == [(500,)]


def _detached(connection: psycopg2.extensions.connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = 100")
        cursor.execute("ALTER TABLE raw.flights DETACH PARTITION raw.flights_p20130801 CONCURRENTLY")


def test_what_a_broken_attempt_put_is_removed(
    flights: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_at(monkeypatch, archives, "exported")
    assert carried_out(flights, spec(tmp_path), NOW).exit_code != 0
    done(carried_out(flights, spec(tmp_path), NOW, restore=AUGUST))
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    done(carried_out(flights, spec(tmp_path), NOW))
    assert not list(tmp_path.rglob("*.parquet"))


def test_rows_that_come_after_the_drop_have_an_archive_of_their_own(flights: Postgres, tmp_path: Path) -> None:
    policy = spec(tmp_path)
    done(carried_out(flights, policy, NOW))
    done(carried_out(flights, policy, LATER))
    flights.execute(MAKE_AUGUST)
    flights.execute("INSERT INTO raw.flights VALUES ('2013-08-20', 777, 'late')")
    assert "1 detached, 1 archived and verified" in done(carried_out(flights, policy, LATER))
    assert flights.execute(STATES) == [("dropped",), ("archived",)]
    assert flights.execute("SELECT count(*) FROM raw.flights_p20130801") == [(1,)], "its own grace has just begun"
    assert len(list(tmp_path.rglob("_manifest.json"))) == 2
    refused = carried_out(flights, policy, LATER, restore=AUGUST)
    assert (refused.exit_code, "has left 2 times" in refused.message) == (78, True), refused.message
    done(carried_out(flights, policy, LATER + timedelta(days=8)))
    assert "101 rows" in done(carried_out(flights, policy, LATER, restore=AUGUST | {"into": "back"}))
    assert flights.execute("SELECT count(*) FROM back.flights_p20130801") == [(100,)]
    assert flights.execute("SELECT tail FROM back.flights_p20130801_2") == [("late",)]


def test_a_partition_attached_again_by_hand_begins_anew(flights: Postgres, tmp_path: Path) -> None:
    policy = spec(tmp_path)
    done(carried_out(flights, policy, NOW))
    flights.execute("ALTER TABLE raw.flights ATTACH PARTITION raw.flights_p20130801 "
                    "FOR VALUES FROM ('2013-08-01 04:00+00') TO ('2013-09-01 04:00+00')")  # fmt: skip
    flights.execute("INSERT INTO raw.flights VALUES ('2013-08-20', 777, 'late')")
    assert done(carried_out(flights, policy, LATER)) == "raw.flights: 1 detached, 1 archived and verified"
    assert flights.execute("SELECT count(*) FROM raw.flights_p20130801") == [(101,)], "its grace has just begun"
    assert len(list(tmp_path.rglob("_manifest.json"))) == 1


def test_a_manifest_in_the_place_of_another_stops_the_drop(flights: Postgres, tmp_path: Path) -> None:
    done(carried_out(flights, spec(tmp_path), NEXT_MONTH))
    august, september = sorted(tmp_path.rglob("_manifest.json"))
    shutil.copy(september, august)
    report = carried_out(flights, spec(tmp_path), NEXT_MONTH + timedelta(days=8))
    assert (report.exit_code, report.reason) == (65, "ArchiveMismatch")
    assert "is the manifest of something else: from: 2013-08-01 04:00:00+00 / 2013-09-01" in report.message
    assert flights.execute("SELECT count(*) FROM raw.flights_p20130801") == [(100,)]


def test_a_restore_leaves_a_table_under_work_alone(flights: Postgres, tmp_path: Path) -> None:
    done(carried_out(flights, spec(tmp_path), NOW))
    with closing(psycopg2.connect(flights.dsn)) as twin:
        twin.cursor().execute("SELECT pg_advisory_lock(hashtextextended('millstream retention raw.flights', 0))")
        report = carried_out(flights, spec(tmp_path), NOW, restore=AUGUST)
    assert (report.exit_code, report.reason) == (75, "TableBusy")
    assert "p20130801" not in attached(flights)


@pytest.fixture
def dropped(flights: Postgres, tmp_path: Path) -> Postgres:
    """The month is in the archive only."""
    done(carried_out(flights, spec(tmp_path), NOW))
    done(carried_out(flights, spec(tmp_path), LATER))
    return flights


def test_a_restore_goes_on_from_a_broken_one(
    dropped: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_at(monkeypatch, partitions, "partition-checked")
    assert carried_out(dropped, spec(tmp_path), LATER, restore=AUGUST).exit_code != 0
    done(carried_out(dropped, spec(tmp_path), LATER, restore=AUGUST))
    assert dropped.execute("SELECT count(*) FROM raw.flights") == [(500,)]
    assert dropped.execute("SELECT obj_description('raw.flights_p20130801'::regclass)") == [(None,)]
    assert dropped.execute("SELECT conname FROM pg_constraint WHERE conname = 'millstream_range'") == []


@pytest.mark.parametrize("into", [{}, {"into": "back"}])
def test_a_restore_that_was_done_is_done_when_it_is_tried_again(
    into: dict[str, str], dropped: Postgres, tmp_path: Path
) -> None:
    for _ in range(2):
        done(carried_out(dropped, spec(tmp_path), LATER, restore=AUGUST | into))
    back = "back.flights_p20130801" if into else "raw.flights_p20130801"
    assert dropped.execute(f"SELECT count(*) FROM {back}") == [(100,)]


def test_a_restore_leaves_a_table_of_that_name_alone(dropped: Postgres, tmp_path: Path) -> None:
    dropped.execute("CREATE TABLE raw.flights_p20130801 AS SELECT 1 AS mine")
    report = carried_out(dropped, spec(tmp_path), LATER, restore=AUGUST)
    assert (report.exit_code, "a table raw.flights_p20130801 already" in report.message) == (78, True), report.message
    assert dropped.execute("SELECT mine FROM raw.flights_p20130801") == [(1,)]


def test_an_archive_that_the_policy_no_longer_names_is_not_forgotten(flights: Postgres, tmp_path: Path) -> None:
    done(carried_out(flights, spec(tmp_path), NOW))
    report = carried_out(flights, spec(), LATER)
    assert (report.exit_code, "names no `archive` any more" in report.message) == (78, True), report.message
    assert done(carried_out(flights, spec(tmp_path), LATER)) == "raw.flights: 1 dropped"


def test_an_erasure_in_one_archive_of_a_range_leaves_the_other(dropped: Postgres, tmp_path: Path) -> None:
    dropped.execute(MAKE_AUGUST)
    dropped.execute("INSERT INTO raw.flights VALUES ('2013-08-20', 777, 'late')")
    done(carried_out(dropped, spec(tmp_path), LATER))
    done(carried_out(dropped, spec(tmp_path), LATER + timedelta(days=8)))
    erased = spec(tmp_path, delete=[{"table": TABLE, "where": "id = 5", "reason": "asked for"}])
    done(carried_out(dropped, erased, LATER + timedelta(days=8)))
    assert len(list(tmp_path.rglob("_manifest.json"))) == 2
    message = done(carried_out(dropped, erased, LATER + timedelta(days=8), restore=AUGUST | {"into": "back"}))
    assert "100 rows" in message, "99 of the first, one of the second"
