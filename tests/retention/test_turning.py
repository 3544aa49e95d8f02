"""A policy turns a plain table, splits it in later runs, and lets its partitions leave; loads go on all the time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_pipelines.retention.split import advance
from retained import patient
from retention.policies import NOW, TABLE, attached, carried_out, spec
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]


def policy(convert: bool = True, folder: Path | None = None, **more: Any) -> RetentionPolicySpec:
    by = {"column": "time_hour", "interval": "1 month", "timeZone": "America/New_York", "convert": convert}
    return spec(folder, tables=[{"name": TABLE, "partitionBy": by}], **more)


def plain(database: Postgres, key: str = "PRIMARY KEY (time_hour, id)") -> None:
    database.execute("CREATE SCHEMA raw")
    database.execute(f"CREATE TABLE raw.flights (time_hour timestamptz NOT NULL, id bigint NOT NULL, {key})")
    database.execute(
        "INSERT INTO raw.flights SELECT '2013-09-01 America/New_York'::timestamptz + n * interval '1 day', n "
        "FROM generate_series(0, 149) n"
    )


def test_from_a_plain_table_to_expired_partitions(any_postgres_database: Postgres, tmp_path: Path) -> None:
    plain(any_postgres_database)
    planned = carried_out(any_postgres_database, policy(folder=tmp_path), dry_run=True)
    assert planned.retention is not None
    assert [(step.step, step.partition) for step in planned.retention.plan] == [("convert", "raw.flights_before")]
    assert "of the disk" in planned.retention.plan[0].why

    turned = carried_out(any_postgres_database, policy(folder=tmp_path))
    assert turned.exit_code == 0, turned.message
    assert "is partitioned now" in turned.message
    assert attached(any_postgres_database)[0] == "before"

    split = carried_out(any_postgres_database, policy(folder=tmp_path))
    assert split.exit_code == 0, split.message
    assert "is split into 9 partitions" in split.message
    assert "2 detached" in split.message  # September and October: older than three months
    assert attached(any_postgres_database)[:2] == ["p20131101", "p20131201"]
    assert any_postgres_database.execute("SELECT count(*), min(id) FROM raw.flights") == [(89, 61)]

    later = NOW + timedelta(days=8)
    waiting = carried_out(any_postgres_database, policy(folder=tmp_path, approval="manual"), now=later)
    assert waiting.retention is not None
    assert ("drop", "raw.flights_before") in {(step.step, step.partition) for step in waiting.retention.plan}
    assert any_postgres_database.execute("SELECT count(*) FROM raw.flights_before") == [(150,)]
    done = carried_out(any_postgres_database, policy(folder=tmp_path), now=later)
    assert "raw.flights_before, whose rows lie in partitions of raw.flights, is dropped" in done.message
    assert any_postgres_database.execute("SELECT to_regclass('raw.flights_before')") == [(None,)]


def test_a_table_that_cannot_be_turned_says_all_that_stands_in_the_way(any_postgres_database: Postgres) -> None:
    plain(any_postgres_database, "PRIMARY KEY (id)")
    any_postgres_database.execute("CREATE MATERIALIZED VIEW raw.seen AS SELECT count(*) FROM raw.flights")
    report = carried_out(any_postgres_database, policy())
    assert (report.exit_code, report.reason) == (78, "InvalidConfiguration")
    assert "primary key flights_pkey (id) does not contain 'time_hour'" in report.message
    assert "materialized view raw.seen" in report.message
    assert "Nothing was changed" in report.message


@pytest.mark.parametrize("by", [False, True])
def test_a_plain_table_without_convert(by: bool, any_postgres_database: Postgres) -> None:
    plain(any_postgres_database)
    chosen = policy(convert=False) if by else spec(tables=[{"name": TABLE}])
    report = carried_out(any_postgres_database, chosen)
    assert report.exit_code == 78
    assert "convert: true" in report.message


def test_loads_hear_how_a_table_is_cut(any_postgres_database: Postgres) -> None:
    plain(any_postgres_database)
    carried_out(any_postgres_database, policy())
    carried_out(any_postgres_database, policy())
    kept = 'SELECT table_name, "interval", time_zone FROM _millstream.partitioned'
    assert any_postgres_database.execute(kept) == [(TABLE, "1 month", "America/New_York")]
    carried_out(any_postgres_database, spec(tables=[{"name": TABLE}]))
    assert any_postgres_database.execute(kept) == []


def test_a_split_whose_policy_changed_its_mind_leaves_nothing_behind(any_postgres_database: Postgres) -> None:
    plain(any_postgres_database)
    carried_out(any_postgres_database, policy())
    assert policy().tables[0].partition_by is not None
    with patient(any_postgres_database) as ddl:
        advance(ddl, TABLE, policy().tables[0].partition_by, -1, now=NOW)  # type: ignore[arg-type]
    left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'split%' AND relnamespace = '_millstream'::regnamespace"
    assert any_postgres_database.execute(left) != [(0,)]
    report = carried_out(any_postgres_database, spec(tables=[{"name": TABLE}], keep={}))
    assert report.exit_code == 0, report.message
    assert "is no longer split" in report.message
    assert any_postgres_database.execute(left) == [(0,)]
    assert attached(any_postgres_database)[0] == "before"
    assert any_postgres_database.execute("SELECT count(*) FROM raw.flights") == [(150,)]
    assert any_postgres_database.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'millstream%'") == [(0,)]


def test_a_pattern_leaves_out_what_waits_for_its_drop(any_postgres_database: Postgres) -> None:
    """The old table of a split and detached partitions are tables of the schema, but none that is to be turned."""
    plain(any_postgres_database)
    by = policy().tables[0].partition_by
    chosen = spec(tables=[{"schema": "raw", "partitionBy": by.model_dump(by_alias=True) if by else None}])
    for _ in range(3):
        report = carried_out(any_postgres_database, chosen)
        assert report.exit_code == 0, report.message
        assert report.retention is not None
        assert [table.name for table in report.retention.tables] == [TABLE]
    apart = (
        "SELECT relname, relkind FROM pg_class WHERE relnamespace = 'raw'::regnamespace AND NOT relispartition "
        "AND relkind IN ('r', 'p') ORDER BY 1"
    )
    assert [tuple(row) for row in any_postgres_database.execute(apart)] == [
        ("flights", "p"), ("flights_before", "r"), ("flights_p20130901", "r"), ("flights_p20131001", "r"),
    ]  # fmt: skip
