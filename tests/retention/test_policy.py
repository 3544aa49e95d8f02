"""A policy carried out on a real server: partitions ahead, archives proven, drops after the grace, and the way back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from millstream_api import RunReport
from retention.policies import FLIGHTS, NOW, TABLE, attached, carried_out, months, spec
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]

LATER = NOW + timedelta(days=8)


@pytest.fixture
def flights(any_postgres_database: Postgres) -> Postgres:
    """A table with a partition for each month of late 2013, in New York."""
    any_postgres_database.execute(FLIGHTS)
    months(any_postgres_database, 8, 12)
    return any_postgres_database


def done(report: RunReport) -> str:
    assert report.exit_code == 0, report.message
    return report.message


def waits_and_differs(report: RunReport) -> tuple[int, int]:
    """Return how many partitions have no archive yet, and how many archives were found different."""
    assert report.retention is not None
    sums = report.retention.summed()
    return sums.waiting, sums.verify_failures


def test_partitions_are_made_ahead(any_postgres_database: Postgres) -> None:
    any_postgres_database.execute(FLIGHTS)
    assert done(carried_out(any_postgres_database, spec(keep={}))) == "raw.flights: 4 made"
    assert attached(any_postgres_database) == ["p20140201", "p20140301", "p20140401", "p20140501"]
    bound = "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'flights_p20140301'"
    any_postgres_database.execute("SET timezone = 'UTC'")
    assert "05:00:00+00" in str(any_postgres_database.execute(f"SET timezone = 'UTC'; {bound}"))
    assert "04:00:00+00" in str(any_postgres_database.execute(f"SET timezone = 'UTC'; {bound}")), (
        "DST has begun by April"
    )
    assert done(carried_out(any_postgres_database, spec(keep={}))) == "nothing was due"
    report = carried_out(any_postgres_database, spec(keep={}))
    assert report.retention is not None
    assert (report.retention.tables[0].live, report.retention.tables[0].horizon) == (4, "2014-06-01 04:00:00+00")


def test_a_table_that_gets_no_partitions_has_no_horizon(flights: Postgres) -> None:
    """Whoever makes them makes them when they like: that the newest has ended is no alarm of ours."""
    report = carried_out(flights, spec(tables=[{"name": TABLE}], keep={}))
    assert done(report) == "nothing was due"
    assert report.retention is not None
    assert (report.retention.tables[0].live, report.retention.tables[0].horizon) == (5, None)


def test_what_is_too_old_is_archived_kept_for_the_grace_and_dropped(flights: Postgres, tmp_path: Path) -> None:
    policy = spec(tmp_path)
    assert done(carried_out(flights, policy)) == "raw.flights: 5 made, 3 detached, 3 archived and verified"
    assert attached(flights)[:3] == ["p20131101", "p20131201", "p20140101"]
    assert flights.execute("SELECT count(*) FROM raw.flights_p20130801") == [(100,)]
    assert len(list(tmp_path.rglob("_manifest.json"))) == 3
    assert done(carried_out(flights, policy)) == "nothing was due"
    report = carried_out(flights, policy, LATER)
    assert done(report) == "raw.flights: 3 dropped"
    assert flights.execute("SELECT to_regclass('raw.flights_p20130801')") == [(None,)]
    assert flights.execute("SELECT count(*) FROM raw.flights") == [(200,)]
    assert report.retention is not None
    table = report.retention.tables[0]
    assert (table.archived, table.dropped, table.detached, table.live) == (3, 3, 0, 7)
    assert table.archived_bytes > 0


def test_a_dry_run_changes_nothing_and_says_what_would_go(flights: Postgres, tmp_path: Path) -> None:
    policy = spec(tmp_path, costs={"warehouse": 100000.0, "archive": 0.0})
    report = carried_out(flights, policy, dryRun=True)
    assert report.retention is not None
    steps = report.retention.plan
    assert [step.step for step in steps] == ["create"] * 5 + ["detach"] * 3
    assert (steps[5].partition, steps[5].why) == ("raw.flights_p20130801", "older than 3 months")
    assert report.retention.bytes == sum(step.bytes for step in steps) > 0
    assert report.retention.saving.endswith(" USD")
    assert len(attached(flights)) == 5
    assert not list(tmp_path.iterdir())


def test_a_dry_run_tells_the_first_load_how_to_cut(any_postgres_database: Postgres) -> None:
    message = done(carried_out(any_postgres_database, spec(keep={}), dryRun=True))
    assert message.endswith("raw.flights: waits for its first load, which makes it with partitions")
    told = "SELECT table_name, column_name, kind FROM _millstream.partitioned"
    assert any_postgres_database.execute(told) == [("raw.flights", "time_hour", "")]


def test_a_dry_run_of_a_table_that_is_not_there_tells_no_plan(any_postgres_database: Postgres) -> None:
    report = carried_out(any_postgres_database, spec(tables=[{"name": "raw.fligths"}]), dryRun=True)
    assert (report.exit_code, report.message.endswith("load it first, or correct `tables`")) == (78, True)


def test_a_hold_keeps_a_range(flights: Postgres, tmp_path: Path) -> None:
    policy = spec(tmp_path, holds=[{"name": "case-1", "table": TABLE, "from": "2013-09-10", "to": "2013-10-01"}])
    report = carried_out(flights, policy)
    assert done(report).endswith("2 archived and verified; 1 blocked by hold 'case-1'")
    assert attached(flights)[0] == "p20130901"
    assert report.retention is not None
    assert (report.retention.tables[0].outcome, report.retention.tables[0].held) == ("blocked", 1)


def test_a_hold_that_comes_in_the_grace_stops_the_drop(flights: Postgres, tmp_path: Path) -> None:
    done(carried_out(flights, spec(tmp_path)))
    held = spec(tmp_path, holds=[{"name": "case-1", "table": TABLE, "to": "2013-08-02"}])
    assert "2 dropped; 1 blocked by hold 'case-1'" in done(carried_out(flights, held, LATER))
    assert flights.execute("SELECT count(*) FROM raw.flights_p20130801") == [(100,)]


def test_a_restore_of_what_never_left_names_what_is_back(flights: Postgres, tmp_path: Path) -> None:
    policy = spec(tmp_path)
    done(carried_out(flights, policy))
    everything = {"table": TABLE, "from": "2013-01-01", "to": "2014-01-01"}
    assert "3 range(s)" in done(carried_out(flights, policy, restore=everything))
    report = carried_out(flights, policy, restore={"table": TABLE, "from": "2011-01-01", "to": "2012-01-01"})
    assert report.exit_code == 78
    assert "there is: 2013-08-01 04:00:00+00..2013-09-01 04:00:00+00 (restored), " in report.message


def test_a_dependent_that_is_behind_blocks(flights: Postgres, tmp_path: Path) -> None:
    flights.execute("CREATE TABLE raw.daily AS SELECT timestamptz '2013-09-05' AS day")
    policy = spec(tmp_path, dependents=[{"table": TABLE, "name": "raw.daily", "column": "day"}])
    message = done(carried_out(flights, policy))
    assert "1 detached, 1 archived and verified; 2 blocked by raw.daily, which has come to 2013-09-05" in message


def test_undo_within_the_grace_is_a_re_attach(flights: Postgres, tmp_path: Path) -> None:
    policy = spec(tmp_path)
    done(carried_out(flights, policy))
    restore = {"table": TABLE, "from": "2013-09-01", "to": "2013-10-01"}
    assert "1 range(s) of raw.flights restored and attached, 100 rows" in done(
        carried_out(flights, policy, restore=restore)
    )
    assert attached(flights)[0] == "p20130901"
    assert "its restore: it stays for 7 days" in done(carried_out(flights, policy))
    assert flights.execute("SELECT count(*) FROM raw.flights") == [(300,)]


def test_what_was_dropped_comes_back_from_its_archive(flights: Postgres, tmp_path: Path) -> None:
    before = flights.execute("SELECT * FROM raw.flights ORDER BY 1, 2")
    policy = spec(tmp_path)
    done(carried_out(flights, policy))
    done(carried_out(flights, policy, LATER))
    done(carried_out(flights, policy, LATER, restore={"table": TABLE, "from": "2013-08-01", "to": "2013-11-01"}))
    assert flights.execute("SELECT * FROM raw.flights ORDER BY 1, 2") == before
    assert flights.execute(
        "SELECT count(*) FROM pg_constraint WHERE contype = 'p' AND conrelid = 'raw.flights_p20130801'::regclass"
    ) == [(1,)]


def test_indexes_are_built_behind_the_rows(flights: Postgres, tmp_path: Path) -> None:
    flights.execute(
        'CREATE INDEX by_tail ON raw.flights (lower(tail)) WHERE id > 3; CREATE INDEX "by ""id" ON raw.flights (id)'
        ";ALTER TABLE raw.flights ADD UNIQUE (id, time_hour) INCLUDE (tail)"
    )
    indexes = (
        "SELECT c.contype, regexp_replace(pg_get_indexdef(i.indexrelid), '^.* USING ', '') FROM pg_inherits p "
        "JOIN pg_index i ON i.indexrelid = p.inhrelid LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid "
        "WHERE i.indrelid = to_regclass('raw.flights_p20130801') ORDER BY 2"
    )
    before = flights.execute(indexes)
    for now in (NOW, LATER):
        done(carried_out(flights, spec(tmp_path), now))
    assert flights.execute(indexes) == []
    restore = {"table": TABLE, "from": "2013-08-01", "to": "2013-09-01"}
    done(carried_out(flights, spec(tmp_path), LATER, restore=restore))
    assert flights.execute(indexes) == before
    assert len(before) == 4


def test_a_range_comes_back_beside(flights: Postgres, tmp_path: Path) -> None:
    policy = spec(tmp_path)
    done(carried_out(flights, policy))
    done(carried_out(flights, policy, LATER))
    restore = {"table": TABLE, "from": "2013-08-15", "to": "2013-08-16", "into": "audit"}
    assert "into schema audit, 100 rows" in done(carried_out(flights, policy, LATER, restore=restore))
    assert flights.execute("SELECT count(*) FROM audit.flights_p20130801") == [(100,)]
    assert attached(flights)[0] == "p20131101"


def test_rows_that_came_after_the_archive_stop_the_drop(flights: Postgres, tmp_path: Path) -> None:
    policy = spec(tmp_path)
    done(carried_out(flights, policy))
    flights.execute("INSERT INTO raw.flights_p20130801 VALUES ('2013-08-20', 777, 'late')")
    report = carried_out(flights, policy, LATER)
    assert (report.exit_code, report.reason) == (65, "ChangedSinceArchive"), report.message
    assert "raw.flights_p20130801 has changed since it was archived" in report.message
    assert waits_and_differs(report) == (1, 0)
    assert flights.execute("SELECT count(*) FROM raw.flights_p20130801") == [(101,)]
    assert done(carried_out(flights, policy, LATER)) == "raw.flights: 1 archived and verified, 1 dropped"
    done(carried_out(flights, policy, LATER, restore={"table": TABLE, "from": "2013-08-01", "to": "2013-09-01"}))
    assert flights.execute("SELECT count(*) FROM raw.flights WHERE tail = 'late'") == [(1,)]


CHANGES = [
    ("INSERT INTO {} VALUES ('2013-08-20', 777, 'late')", "rows: 100 / 101"),
    ("UPDATE {} SET tail = 'N99' WHERE id = 7", "content hash"),
    ("UPDATE {0} t SET tail = o.tail FROM {0} o WHERE t.id + o.id = 9 AND t.id IN (4, 5)", "content hash"),
    ("DELETE FROM {0} WHERE id = 7; INSERT INTO {0} VALUES ('2013-08-20', 777, 'late')", "column 'id'"),
    ("ALTER TABLE {} ADD COLUMN note text DEFAULT 'new'", "tail text, note text"),
    ("ALTER TABLE {} ALTER id TYPE text", "columns: time_hour timestamptz, id bigint, tail text / "),
    ("ALTER TABLE {} RENAME tail TO registration", "registration text"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_what_changed_since_the_archive_is_told(change: str, words: str, flights: Postgres, tmp_path: Path) -> None:
    done(carried_out(flights, spec(tmp_path)))
    flights.execute(change.format("raw.flights_p20130801"))
    report = carried_out(flights, spec(tmp_path), LATER)
    assert (report.exit_code, report.reason, words in report.message) == (65, "ChangedSinceArchive", True), (
        report.message
    )


def test_a_damaged_archive_stops_the_drop(flights: Postgres, tmp_path: Path) -> None:
    policy = spec(tmp_path)
    assert waits_and_differs(carried_out(flights, policy)) == (0, 0)
    next((tmp_path / TABLE / "from=2013-08-01T04-00-00Z").rglob("*.parquet")).unlink()
    report = carried_out(flights, policy, LATER)
    assert (report.exit_code, report.reason) == (65, "ArchiveMismatch"), report.message
    assert "is gone" in report.message
    assert waits_and_differs(report) == (1, 1)
    assert "archived and verified" in done(carried_out(flights, policy, LATER))


def test_without_grace_one_run_does_it_all(flights: Postgres, tmp_path: Path) -> None:
    message = done(carried_out(flights, spec(tmp_path, grace="0 days")))
    assert message == "raw.flights: 5 made, 3 detached, 3 archived and verified, 3 dropped"


def test_a_run_that_was_killed_before_its_detach_leaves_the_decision_open(flights: Postgres, tmp_path: Path) -> None:
    done(carried_out(flights, spec(keep={})))
    flights.execute("""
        INSERT INTO _millstream.retired (policy, table_name, partition, oid, column_name, kind, low, high,
          time_zone, state)
        VALUES ('p', 'raw.flights', 'raw.flights_p20130801', 1, 'time_hour', 'timestamptz',
          '2013-08-01 04:00:00+00', '2013-09-01 04:00:00+00', 'America/New_York', 'retiring')
    """)
    held = spec(tmp_path, holds=[{"name": "case-1", "table": TABLE, "to": "2013-09-01"}])
    assert "2 detached, 2 archived and verified; 1 blocked by hold 'case-1'" in done(carried_out(flights, held))
    assert "1 detached, 1 archived" in done(carried_out(flights, spec(tmp_path)))


def test_limits_of_size_and_rows(flights: Postgres, tmp_path: Path) -> None:
    assert "2 detached" in done(carried_out(flights, spec(keep={"rows": 300})))
    assert "4 detached" in done(carried_out(flights, spec(tmp_path, keep={"size": "1k"})))
    assert attached(flights) == ["p20140201", "p20140301", "p20140401", "p20140501"]


def test_archives_expire_too(flights: Postgres, tmp_path: Path) -> None:
    policy = spec(tmp_path, archive={"url": f"file://{tmp_path}", "keep": {"age": "5 months"}})
    done(carried_out(flights, policy))
    assert "1 archives expired" in done(carried_out(flights, policy, LATER))
    assert len(list(tmp_path.rglob("_manifest.json"))) == 2
    assert not list((tmp_path / TABLE / "from=2013-08-01T04-00-00Z").rglob("*.parquet"))
