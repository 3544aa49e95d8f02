"""Partitions that are not where the grid has them: those of infinity, and those of days that began elsewhere."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from millstream_api import RunReport
from retention.policies import NOW, carried_out, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

DAYS = {"column": "at", "interval": "1 day"}
BOUNDS = """
SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'd'::regclass ORDER BY 1
"""


def carried(database: Postgres, days: int = 0, **by: str) -> RunReport:
    policy = spec(tables=[{"name": "d", "partitionBy": DAYS | by}], keep={"age": "3 months"})
    report = carried_out(database, policy, NOW + timedelta(days=days))
    assert report.exit_code == 0, report.message
    return report


@pytest.mark.parametrize("bounds", ["FROM ('infinity') TO (MAXVALUE)", "FROM (MINVALUE) TO ('-infinity')"])
@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
def test_a_partition_of_infinity_is_no_partition_of_all_rows(
    kind: str, bounds: str, postgres_database: Postgres
) -> None:
    postgres_database.execute(f"CREATE TABLE d (at {kind} NOT NULL) PARTITION BY RANGE (at)")
    postgres_database.execute(f"CREATE TABLE d_never PARTITION OF d FOR VALUES {bounds}")
    assert "made" in carried(postgres_database).message
    postgres_database.execute("INSERT INTO d VALUES ('2014-02-10 12:00Z')")


def test_days_that_begin_further_west_have_names_that_are_free(postgres_database: Postgres) -> None:
    postgres_database.execute("CREATE TABLE d (at timestamptz NOT NULL) PARTITION BY RANGE (at)")
    carried(postgres_database)
    for day in (2, 9):
        carried(postgres_database, day, timeZone="America/New_York")
    made = dict(postgres_database.execute(BOUNDS))
    between = "FOR VALUES FROM ('2014-02-14 00:00:00+00') TO ('2014-02-14 05:00:00+00')"
    assert made["d_p20140213_1900"] == between, made
    postgres_database.execute(
        "INSERT INTO d SELECT generate_series('2014-02-10 12:00Z'::timestamptz, '2014-02-19 12:00Z', '1 hour')"
    )


def test_the_rest_of_a_month_that_has_left_is_not_made_anew(postgres_database: Postgres, tmp_path: Path) -> None:
    """From months of New York to months of UTC: the first five hours of February are a partition of their own."""
    postgres_database.execute(
        "CREATE TABLE d (at timestamptz NOT NULL, id int) PARTITION BY RANGE (at); CREATE TABLE d_p20140201 PARTITION "
        "OF d FOR VALUES FROM ('2014-02-01 America/New_York') TO ('2014-03-01 America/New_York')"
    )
    table = {"name": "d", "partitionBy": {"column": "at", "interval": "1 month", "premake": 1}}
    policy = spec(tmp_path, tables=[table], keep={"age": "1 day"}, grace="7 days")
    report = carried_out(postgres_database, policy)
    assert report.message == "public.d: 2 made, 1 detached, 1 archived and verified"
    for days in (1, 8, 9):
        report = carried_out(postgres_database, policy, NOW + timedelta(days=days))
        assert (report.exit_code, "made" in report.message) == (0, False), report.message
    assert postgres_database.execute("SELECT partition, state FROM _millstream.retired") == [
        ("public.d_p20140201_2", "dropped")]  # fmt: skip
