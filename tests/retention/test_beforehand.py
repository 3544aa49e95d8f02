"""What the database refuses in a run, the plan has named before: a dry run beside the real one."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg2
import pytest

from millstream_api import RunReport
from retention.policies import FLIGHTS, NOW, TABLE, attached, carried_out, months, spec
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_database", "postgres_server"]

LATER = NOW + timedelta(days=8)
ONLY = [{"name": TABLE}]
AUGUST = "raw.flights_p20130801"


def blocked(report: RunReport) -> dict[tuple[str, str], str]:
    assert report.retention is not None, report.message
    return {(step.step, step.partition): step.blocked_by for step in report.retention.plan if step.blocked_by}


BOUND: list[tuple[str, str, str]] = [
    ("CREATE VIEW raw.v AS SELECT id FROM {t}", "view raw.v depends on table {t}", "DROP VIEW raw.v"),
    ("CREATE MATERIALIZED VIEW raw.m AS SELECT id FROM {t}", "materialized view raw.m depends on table {t}",
     "DROP MATERIALIZED VIEW raw.m"),
    ("CREATE FUNCTION raw.f() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM {t}; END",
     "function raw.f() depends on table {t}", "DROP FUNCTION raw.f"),
    ("CREATE FUNCTION raw.g({t}) RETURNS bigint LANGUAGE sql AS 'SELECT 1'", "function raw.g({t}) depends on table {t}",
     "DROP FUNCTION raw.g"),
    ("CREATE TABLE raw.o (r {t})", "column r of table raw.o depends on table {t}", "DROP TABLE raw.o"),
    ("CREATE TABLE raw.k (h timestamptz, i bigint, CONSTRAINT to_part FOREIGN KEY (h, i) REFERENCES {t})",
     "constraint to_part on table raw.k depends on table {t}", "DROP TABLE raw.k"),
]  # fmt: skip


@pytest.mark.parametrize(("made", "words", "gone"), BOUND)
def test_what_is_bound_to_a_partition_is_named_before_it_leaves(
    made: str, words: str, gone: str, postgres_database: Postgres
) -> None:
    database = postgres_database
    database.execute(FLIGHTS)
    months(database, 8, 9)
    database.execute(made.format(t=AUGUST))
    policy = spec(tables=ONLY, grace="0 days")
    expected = {("detach", AUGUST): words.format(t=AUGUST)}
    assert blocked(carried_out(database, policy, dryRun=True)) == expected
    report = carried_out(database, policy)
    assert report.message == f"raw.flights: 1 detached, 1 dropped; 1 blocked by {expected['detach', AUGUST]}"
    assert blocked(report) == expected
    database.execute(gone)
    assert carried_out(database, policy).message == "raw.flights: 1 detached, 1 dropped"


def test_what_comes_in_the_grace_blocks_the_drop(postgres_database: Postgres) -> None:
    database = postgres_database
    database.execute(FLIGHTS)
    months(database, 8, 9)
    policy = spec(tables=ONLY)
    assert carried_out(database, policy).message == "raw.flights: 2 detached"
    database.execute(f"CREATE VIEW raw.v AS SELECT id FROM {AUGUST}")
    database.execute("CREATE VIEW raw.w AS SELECT id FROM raw.v")
    expected = {("drop", AUGUST): f"view raw.v depends on table {AUGUST}"}
    assert blocked(carried_out(database, policy, LATER, dryRun=True)) == expected
    report = carried_out(database, policy, LATER)
    assert (report.message.split(";")[0], blocked(report)) == ("raw.flights: 1 dropped", expected)


LEGS = """
CREATE TABLE raw.legs (n int PRIMARY KEY, at timestamptz, flight bigint,
  CONSTRAINT of_flight FOREIGN KEY (at, flight) REFERENCES raw.flights (time_hour, id))
"""


def test_rows_that_refer_to_a_range(any_postgres_database: Postgres) -> None:
    database = any_postgres_database
    database.execute(FLIGHTS)
    months(database, 8, 11)
    database.execute(LEGS)
    database.execute("INSERT INTO raw.legs SELECT 1, time_hour, id FROM raw.flights_p20130901 LIMIT 1")
    database.execute("INSERT INTO raw.legs VALUES (2, '2013-08-02', NULL)")  # refers to nothing
    policy = spec(tables=ONLY, keep={"age": "2 months"}, grace="0 days")
    expected = {
        ("detach", "raw.flights_p20130901"): "constraint of_flight of table raw.legs, which still refers to its rows"
    }
    assert blocked(carried_out(database, policy, dryRun=True)) == expected
    report = carried_out(database, policy)
    assert report.message.startswith("raw.flights: 3 detached, 3 dropped; 1 blocked by constraint of_flight")
    assert blocked(report) == expected


PARTITIONED_LEGS = """
CREATE TABLE raw.legs (at timestamptz NOT NULL, flight bigint NOT NULL,
  CONSTRAINT of_flight FOREIGN KEY (at, flight) REFERENCES raw.flights (time_hour, id)) PARTITION BY RANGE (at);
CREATE TABLE raw.legs_p20130801 PARTITION OF raw.legs
  FOR VALUES FROM ('2013-08-01 00:00-04') TO ('2013-09-01 00:00-04');
INSERT INTO raw.legs SELECT time_hour, id FROM raw.flights WHERE time_hour < '2013-09-01 00:00-04';
"""
BOTH = [{"name": TABLE}, {"name": "raw.legs"}]
KEY = "constraint of_flight of table raw.legs, which still refers to its rows"
OWN_KEY = "constraint of_flight of table raw.legs_p20130801, which still refers to its rows"


def test_who_refers_leaves_first_and_the_plan_knows(any_postgres_database: Postgres, tmp_path: Path) -> None:
    database = any_postgres_database
    database.execute(FLIGHTS)
    months(database, 8, 9)
    database.execute(PARTITIONED_LEGS)
    at_once = spec(tmp_path, tables=BOTH, grace="0 days")
    planned = carried_out(database, at_once, dryRun=True)
    assert blocked(planned) == {}
    assert planned.retention is not None
    assert [(step.table, step.partition, step.why) for step in planned.retention.plan][:2] == [
        ("raw.legs", "raw.legs_p20130801", "older than 3 months"),
        (TABLE, AUGUST, "older than 3 months; after the rows that refer to it by constraint of_flight"),
    ]
    later = spec(tmp_path, tables=BOTH, grace="7 days")
    assert blocked(carried_out(database, later, dryRun=True)) == {("detach", AUGUST): KEY}
    assert blocked(carried_out(database, later)) == {("detach", AUGUST): OWN_KEY}
    assert attached(database) == ["p20130801"]
    assert blocked(carried_out(database, later, dryRun=True)) == {("detach", AUGUST): OWN_KEY}
    assert blocked(carried_out(database, later, LATER, dryRun=True)) == {}
    report = carried_out(database, later, LATER)
    assert "raw.legs: 1 dropped" in report.message
    assert "raw.flights: 1 detached" in report.message
    assert attached(database) == []


def test_a_hold_of_who_refers_is_seen_by_whom_it_refers_to(postgres_database: Postgres) -> None:
    database = postgres_database
    database.execute(FLIGHTS)
    months(database, 8, 8)
    database.execute(PARTITIONED_LEGS)
    policy = spec(tables=BOTH, grace="0 days", holds=[{"name": "case-1", "table": "raw.legs"}])
    expected = {("detach", "raw.legs_p20130801"): "hold 'case-1'", ("detach", AUGUST): KEY}
    assert blocked(carried_out(database, policy, dryRun=True)) == expected
    assert blocked(carried_out(database, policy)) == expected


def pending(database: Postgres, partition: str) -> None:
    """Begin a detach that cannot end, since an older transaction reads the table."""
    with closing(psycopg2.connect(database.dsn)) as reader, closing(psycopg2.connect(database.dsn)) as owner:
        reader.cursor().execute(f"SELECT count(*) FROM {TABLE}")
        owner.autocommit = True
        owner.cursor().execute("SET lock_timeout = '50ms'")
        begun = f"SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = '{partition}'::regclass"
        for _ in range(50):  # an autoanalyze may hold the partition for a moment, so that nothing begins
            with pytest.raises(psycopg2.errors.LockNotAvailable):
                owner.cursor().execute(f"ALTER TABLE {TABLE} DETACH PARTITION {partition} CONCURRENTLY")
            if database.execute(begun) == [(True,)]:
                break
        assert database.execute(begun) == [(True,)]


def test_a_detach_that_somebody_left_is_named(postgres_database: Postgres) -> None:
    database = postgres_database
    database.execute(FLIGHTS)
    months(database, 8, 13)
    pending(database, "raw.flights_p20140101")
    policy = spec(tables=ONLY)
    why = blocked(carried_out(database, policy, dryRun=True))
    assert set(why) == {("detach", f"raw.flights_p2013{month}01") for month in ("08", "09", "10")}
    cure = 'ALTER TABLE "raw"."flights" DETACH PARTITION "raw"."flights_p20140101" FINALIZE'
    assert all(cure in text for text in why.values())
    assert blocked(carried_out(database, policy)) == why
    database.execute(cure)
    assert "3 detached" in carried_out(database, policy).message


def test_a_detach_that_was_left_is_ended_before_another_begins(postgres_database: Postgres) -> None:
    database = postgres_database
    database.execute(FLIGHTS)
    months(database, 8, 12)
    pending(database, "raw.flights_p20130901")
    report = carried_out(database, spec(tables=ONLY))
    assert (report.exit_code, report.message) == (0, "raw.flights: 3 detached")


def test_a_detach_that_a_killed_run_began_is_ended_before_another_begins(postgres_database: Postgres) -> None:
    database = postgres_database
    database.execute(FLIGHTS)
    months(database, 8, 12)
    policy = spec(tables=ONLY)
    carried_out(database, policy, dryRun=True)
    database.execute("""
        INSERT INTO _millstream.retired (policy, table_name, partition, oid, column_name, kind, low, high,
          time_zone, state)
        VALUES ('default/keep', 'raw.flights', 'raw.flights_p20130901', 1, 'time_hour', 'timestamptz',
          '2013-09-01 04:00:00+00', '2013-10-01 04:00:00+00', 'America/New_York', 'retiring')
    """)
    pending(database, "raw.flights_p20130901")
    report = carried_out(database, policy)
    assert (report.exit_code, report.message) == (0, "raw.flights: 3 detached")


def test_the_tables_of_another_role(postgres_database: Postgres) -> None:
    database = postgres_database
    database.execute(FLIGHTS)
    months(database, 8, 9)
    role = f"loader_{database.database}"
    database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        for grant in (f"DATABASE {database.database}", "SCHEMA raw"):
            database.execute(f"GRANT ALL ON {grant} TO {role}")
        narrow = Postgres(database.host, database.port, role, "x", database.database)
        for options in ({"dryRun": True}, {}):
            report = carried_out(narrow, spec(tables=ONLY), **options)
            assert report.exit_code == 78
            assert "it belongs to role millstream; log in as that role or as a member of it" in report.message
        database.execute(f"ALTER TABLE {TABLE} OWNER TO {role}")
        expected = f"table {AUGUST}, which belongs to role millstream; log in as that role or as a member of it"
        database.execute(f"ALTER TABLE raw.flights_p20130901 OWNER TO {role}")
        policy = spec(tables=ONLY, grace="0 days")
        assert blocked(carried_out(narrow, policy, dryRun=True)) == {("detach", AUGUST): expected}
        assert carried_out(narrow, policy).message == f"raw.flights: 1 detached, 1 dropped; 1 blocked by {expected}"
        database.execute(f"REVOKE CREATE ON SCHEMA raw FROM {role}")
        for options in ({"dryRun": True}, {}):
            assert f"role {role} may not make tables in schema raw" in carried_out(narrow, spec(), **options).message
    finally:
        database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
