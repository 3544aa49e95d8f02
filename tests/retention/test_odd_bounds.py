"""Partitions that are not where the grid has them: those of infinity, and those of days that began elsewhere."""

from __future__ import annotations

from datetime import timedelta

import pytest

from millstream_api import RunReport
from retention.policies import NOW, carried_out, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

DAYS = {"column": "at", "interval": "1 day"}


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
