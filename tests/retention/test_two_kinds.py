"""A table whose ranges are of two kinds: counted otherwise since, or made anew with another type. Both kinds go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from millstream_api import RunReport
from retention.policies import FLIGHTS, NOW, TABLE, carried_out, months, spec
from servers.plugin import newest_postgres_server, postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["newest_postgres_server", "postgres_database", "postgres_server"]

AUGUST = {"table": TABLE, "from": "2013-08-01", "to": "2013-09-01"}
ANEW = f"""
DROP TABLE {TABLE};
CREATE TABLE {TABLE} (time_hour timestamp NOT NULL, id bigint, tail text) PARTITION BY RANGE (time_hour);
CREATE TABLE raw.flights_p20130901 PARTITION OF {TABLE} FOR VALUES FROM ('2013-09-01') TO ('2013-10-01');
INSERT INTO {TABLE} VALUES ('2013-09-05', 1, 'a')
"""
BY_MONTH = {"column": "time_hour", "interval": "1 month", "timeZone": "America/New_York"}


def done(report: RunReport) -> str:
    assert report.exit_code == 0, report.message
    return report.message


def test_numbers_that_are_told_to_be_days_later(postgres_database: Postgres, tmp_path: Path) -> None:
    postgres_database.execute("CREATE TABLE days (id integer NOT NULL, name text) PARTITION BY RANGE (id)")
    for low, high in ((20130901, 20131001), (20131001, 20131101), (20131101, 20131201), (20131201, 20140101)):
        postgres_database.execute(f"CREATE TABLE days_p{low} PARTITION OF days FOR VALUES FROM ({low}) TO ({high})")
        postgres_database.execute(f"INSERT INTO days SELECT {low} + g, 'x' FROM generate_series(0, 27) g")
    numbers = {"name": "days", "partitionBy": {"column": "id", "interval": "100"}}
    done(carried_out(postgres_database, spec(tmp_path, tables=[numbers], keep={"rows": 90})))
    days = {"name": "days", "partitionBy": {"column": "id", "interval": "1 month", "timeAs": "yyyymmdd"}}
    hold = {"name": "case-1", "table": "days", "from": "2013-01-01", "to": "2013-02-01"}
    for grace in ("7 days", "0 days"):
        policy = spec(tmp_path, tables=[days], keep={"age": "2 months"}, grace=grace, holds=[hold])
        report = carried_out(postgres_database, policy)
        done(report)
    assert "blocked by hold 'case-1'" in report.message, "dates do not say whether they hold a number"
    kinds = "SELECT kind, state FROM _millstream.retired ORDER BY low"
    assert postgres_database.execute(kinds) == [
        ("integer", "archived"), ("yyyymmdd", "dropped"), ("yyyymmdd", "dropped")]  # fmt: skip
    back = {"table": "days", "from": "2013-10-01", "to": "2013-11-01", "into": "back"}
    assert "1 range(s)" in done(carried_out(postgres_database, policy, restore=back))
    assert "1 range(s)" in done(
        carried_out(postgres_database, policy, restore=back | {"from": "20130901", "to": "20131001"})
    )


@pytest.fixture
def anew(postgres_database: Postgres, tmp_path: Path) -> Postgres:
    """Flights of August are archived and dropped; then the table is made anew, with times that have no zone."""
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 8)
    done(carried_out(postgres_database, spec(tmp_path, grace="0 days")))
    postgres_database.execute(ANEW)
    return postgres_database


def test_a_table_made_anew_with_another_type(anew: Postgres, tmp_path: Path) -> None:
    policy = spec(tmp_path, grace="0 days")
    assert "1 archived and verified, 1 dropped" in done(carried_out(anew, policy))
    assert "100 rows" in done(carried_out(anew, policy, restore=AUGUST | {"into": "back"}))
    september = {"from": "2013-09-02", "to": "2013-10-01"}
    assert "1 rows" in done(carried_out(anew, policy, restore=AUGUST | {"into": "back"} | september))
    report = carried_out(anew, policy, restore=AUGUST | {"from": "2013-09-02T00:00:00Z", "to": "2013-09-03"})
    assert (report.exit_code, "has a time zone, and the column has none" in report.message) == (78, True)


def test_a_table_that_cannot_be_told_takes_no_other_with_it(postgres_database: Postgres, tmp_path: Path) -> None:
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 8)
    postgres_database.execute("CREATE TABLE raw.other (LIKE raw.flights) PARTITION BY RANGE (time_hour)")
    both = [{"name": name, "partitionBy": BY_MONTH} for name in (TABLE, "raw.other")]
    policy = spec(tmp_path, tables=both)
    done(carried_out(postgres_database, policy, NOW))
    postgres_database.execute("UPDATE _millstream.retired SET low = 'gone mad'")
    report = carried_out(postgres_database, policy)
    assert report.exit_code != 0
    assert report.retention is not None
    assert {table.name: table.outcome for table in report.retention.tables} == {TABLE: "failed", "raw.other": "done"}
