"""Which tables a policy has, in which order they lose rows, and what in the database stands in the way, by name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from millstream_api import Endpoint, RunPlan, RunReport
from millstream_pipelines.retention.request import RetentionRequest
from millstream_pipelines.retention.run import retain
from retention.policies import FLIGHTS, NOW, TABLE, attached, carried_out, months, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

LATER = NOW + timedelta(days=8)


@pytest.fixture
def flights(postgres_database: Postgres) -> Postgres:
    """A table with a partition for September to November 2013, of which two are too old."""
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 9, 11)
    return postgres_database


def done(report: RunReport) -> str:
    assert report.exit_code == 0, report.message
    return report.message


def named(name: str, database: Postgres, **more: Any) -> RunReport:
    plan = RunPlan(
        action="retain", namespace="default", name=name, policy=spec(keep={}, **more),
        warehouse=Endpoint(name="dw", type="postgres", config=database.config),
    )  # fmt: skip
    return retain(RetentionRequest(plan, {}, "run-1", now=NOW))


def test_a_table_has_one_policy(flights: Postgres) -> None:
    assert named("first", flights).exit_code == 0
    refused = named("second", flights)
    assert (refused.exit_code, refused.reason) == (78, "ManagedByOther")
    assert "table raw.flights is managed by RetentionPolicy 'default/first'" in refused.message
    flights.execute("CREATE TABLE raw.other (at date NOT NULL) PARTITION BY RANGE (at)")
    assert named("first", flights, tables=[{"name": "raw.other"}]).exit_code == 0
    assert named("second", flights).exit_code == 0, "the first has let go of it"


def test_a_policy_with_a_new_name_takes_its_tables_over(flights: Postgres) -> None:
    assert named("first", flights).exit_code == 0
    refused = named("second", flights, formerNames=["other"])
    assert (refused.exit_code, refused.reason) == (78, "ManagedByOther")
    assert "put 'first' into formerNames" in refused.message
    assert named("second", flights, formerNames=["other", "first"]).exit_code == 0
    assert named("second", flights).exit_code == 0, "once taken over, the table is its own"
    late = named("first", flights)
    assert "managed by RetentionPolicy 'default/second'" in late.message


def test_selectors_and_limits_of_their_own(flights: Postgres) -> None:
    for name in ("old_a", "old_b", "new"):
        flights.execute(
            f"CREATE TABLE raw.{name} (at date NOT NULL) PARTITION BY RANGE (at);"
            f"CREATE TABLE raw.{name}_1 PARTITION OF raw.{name} FOR VALUES FROM ('2013-01-01') TO ('2014-01-01')"
        )
    flights.execute("CREATE SCHEMA other; CREATE TABLE other.old_c (at date) PARTITION BY RANGE (at)")
    tables = [
        {"schema": "raw", "pattern": "old_*", "keep": {"age": "1 month"}},
        {"name": "raw.old_b", "keep": {"age": "5 weeks"}},
        {"name": "raw.new"},
    ]
    report = carried_out(flights, spec(tables=tables, keep={"age": "13 months"}), dryRun=True)
    done(report)
    assert report.retention is not None
    assert [item.name for item in report.retention.tables] == ["raw.old_a", "raw.old_b", "raw.new"]
    assert [(step.table, step.why) for step in report.retention.plan] == [
        ("raw.old_a", "older than 1 month"), ("raw.old_b", "older than 5 weeks")]  # fmt: skip
    twice = carried_out(
        flights, spec(tables=[{"schema": "raw", "pattern": "old_*"}, {"schema": "raw", "pattern": "*_a"}])
    )
    assert twice.exit_code == 78
    assert "table raw.old_a is chosen twice" in twice.message


LEGS = """
CREATE TABLE raw.legs (time_hour timestamptz NOT NULL, id bigint NOT NULL,
  CONSTRAINT of_flight FOREIGN KEY (time_hour, id) REFERENCES raw.flights) PARTITION BY RANGE (time_hour);
CREATE TABLE raw.legs_09 PARTITION OF raw.legs FOR VALUES FROM ('2013-09-01') TO ('2013-10-01');
CREATE TABLE raw.legs_11 PARTITION OF raw.legs FOR VALUES FROM ('2013-10-01') TO ('2013-12-01');
INSERT INTO raw.legs SELECT time_hour, id FROM raw.flights WHERE id = 7 AND time_hour < '2013-09-30'
"""


def test_rows_that_refer_leave_first(flights: Postgres) -> None:
    flights.execute(LEGS)
    policy = spec(tables=[{"name": TABLE}, {"name": "raw.legs"}])
    message = done(carried_out(flights, policy))
    assert message.startswith(
        "raw.legs: 1 detached; raw.flights: 1 detached; 1 blocked by constraint of_flight of table"
    )
    assert "raw.legs_09" in message, "which keeps its foreign key until it is dropped"
    assert done(carried_out(flights, policy, LATER)) == "raw.legs: 1 dropped; raw.flights: 1 detached, 1 dropped"
    assert attached(flights) == ["p20131101"]


def test_a_foreign_key_blocks_only_its_range(flights: Postgres) -> None:
    flights.execute(LEGS)
    report = carried_out(flights, spec(tables=[{"name": TABLE}]))
    message = "1 detached; 1 blocked by constraint of_flight of table raw.legs, which still refers to its rows"
    assert message in done(report)
    assert attached(flights) == ["p20130901", "p20131101"]
    flights.execute("DELETE FROM raw.legs")
    assert "1 detached" in done(carried_out(flights, spec(tables=[{"name": TABLE}])))


def test_a_view_of_a_partition_blocks_its_drop(flights: Postgres) -> None:
    policy = spec(tables=[{"name": TABLE}])
    done(carried_out(flights, policy))
    flights.execute("CREATE VIEW raw.september AS SELECT * FROM raw.flights_p20130901")
    message = "1 dropped; 1 blocked by view raw.september depends on table raw.flights_p20130901"
    assert message in done(carried_out(flights, policy, LATER))
    flights.execute("DROP VIEW raw.september")
    assert "1 dropped" in done(carried_out(flights, policy, LATER))


def test_a_table_cut_by_a_number(postgres_database: Postgres) -> None:
    postgres_database.execute(
        "CREATE SCHEMA raw; CREATE TABLE raw.events (id bigint NOT NULL) PARTITION BY RANGE (id);"
        "CREATE TABLE raw.events_p0 PARTITION OF raw.events FOR VALUES FROM (0) TO (1000);"
        "CREATE TABLE raw.events_p1000 PARTITION OF raw.events FOR VALUES FROM (1000) TO (2000);"
        "INSERT INTO raw.events SELECT * FROM generate_series(0, 1500)"
    )
    by = {"column": "id", "interval": "1000", "premake": 2}
    policy = spec(tables=[{"name": "raw.events", "partitionBy": by}], keep={"rows": 600})
    report = carried_out(postgres_database, policy)
    assert done(report) == "raw.events: 2 made, 1 detached"
    assert report.retention is not None
    table = report.retention.tables[0]
    assert (table.oldest, table.horizon) == ("1000", "4000")
    wrong = spec(tables=[{"name": "raw.events", "partitionBy": by | {"interval": "1 month"}}])
    assert "give a bare number such as '100000'" in carried_out(postgres_database, wrong).message
