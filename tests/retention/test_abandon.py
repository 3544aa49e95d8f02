"""A conversion that is given up, by hand or since nobody goes on with it, leaves every row and nothing of ours."""

from __future__ import annotations

from typing import Any

import pytest

from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_pipelines.retention.convert import convert
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.split import advance
from millstream_pipelines.retention.split_sql import Splitting
from retained import BY, patient
from retention.killed import killed_at
from retention.policies import NOW, TABLE, attached, carried_out, spec
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_database", "postgres_server"]

OURS = """
SELECT 'table', c.oid::regclass::text FROM pg_class c WHERE relnamespace = '_millstream'::regnamespace
  AND relname LIKE 'split%' AND relkind IN ('r', 'p', 'i', 'I')
UNION ALL SELECT 'function', proname FROM pg_proc WHERE proname LIKE 'split_note%'
UNION ALL SELECT 'trigger', tgname FROM pg_trigger WHERE tgname LIKE 'millstream%'
UNION ALL SELECT 'constraint', conname FROM pg_constraint WHERE conname LIKE 'millstream%'
UNION ALL SELECT 'piece', c.oid::regclass::text FROM pg_class c WHERE relname LIKE 'flights_p%' AND relkind = 'r'
  AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid AND inhparent = 'raw.flights'::regclass)
"""
CLAIMS = "SELECT table_name, policy FROM _millstream.retention_claims"
ROWS = "SELECT count(*), count(DISTINCT id), sum(id)::int FROM raw.flights"
SPLITTING = ("split-prepared", "split-begun", "split-batch", "split-indexed", "split-verified", "split-switching")


def policy(**by: Any) -> RetentionPolicySpec:
    given = {"column": "time_hour", "interval": "1 month", "timeZone": "America/New_York", "convert": True}
    return spec(tables=[{"name": TABLE, "partitionBy": given | by}], keep={})


OTHER = spec(tables=[{"name": "raw.other", "partitionBy": {"column": "at", "interval": "1 month"}}], keep={})


def plain(database: Postgres) -> None:
    database.execute("CREATE SCHEMA raw")
    database.execute(
        "CREATE TABLE raw.flights (time_hour timestamptz NOT NULL, id bigint NOT NULL, PRIMARY KEY (time_hour, id))"
    )
    database.execute(
        "INSERT INTO raw.flights SELECT '2013-09-01 America/New_York'::timestamptz + n * interval '1 day', n "
        "FROM generate_series(0, 149) n"
    )


def test_killed_anywhere_and_abandoned(any_postgres_database: Postgres) -> None:
    database = any_postgres_database
    plain(database)
    assert killed_at("convert-checking:1", database, policy(), NOW)[0] == -9
    assert database.execute(OURS) == [("constraint", "millstream_before")]
    report = carried_out(database, policy(), abandon=True)
    assert (report.exit_code, report.reason) == (0, "Abandoned"), report.message
    assert "is not turned into a partitioned table" in report.message
    assert (database.execute(OURS), database.execute(CLAIMS)) == ([], [])

    assert carried_out(database, policy()).exit_code == 0
    for place in SPLITTING:
        assert killed_at(f"{place}:1", database, policy(), NOW)[0] == -9, place
        database.execute("UPDATE raw.flights SET id = id WHERE id < 5")
        assert database.execute(OURS) != [], place
        report = carried_out(database, policy(), abandon=True, tables=[TABLE])
        assert "is no longer split, since it was abandoned" in report.message, place
        assert (database.execute(OURS), database.execute(CLAIMS)) == ([], []), place
        assert database.execute(ROWS) == [(150, 150, 11175)], place
        assert attached(database)[0] == "before", place
        assert "nothing is under way" in carried_out(database, policy(), abandon=True, tables=[TABLE]).message, place

    done = carried_out(database, policy())  # who changes his mind has it split after all
    assert "is split into 9 partitions" in done.message
    assert database.execute(OURS) == []
    told = carried_out(database, policy(), abandon=True).message
    assert "raw.flights_before, its rows as they were before, stays" in told
    assert database.execute(ROWS) == [(150, 150, 11175)]


def begun(database: Postgres) -> None:
    plain(database)
    carried_out(database, policy())
    by = policy().tables[0].partition_by
    assert by is not None
    with patient(database) as ddl:
        assert "rows of raw.flights_before are copied" in advance(ddl, TABLE, by, -1, now=NOW)
    assert database.execute(OURS) != []


@pytest.mark.parametrize(("changed", "why"), [
    (OTHER, "no policy names it any more"),
    (spec(tables=[{"name": TABLE}], keep={}), "partitionBy is gone"),
    (policy(column="other"), "partitionBy.column is 'other' now"),
])  # fmt: skip
def test_a_policy_that_changes_its_mind(changed: RetentionPolicySpec, why: str, postgres_database: Postgres) -> None:
    begun(postgres_database)
    report = carried_out(postgres_database, changed)
    assert f"raw.flights_before is no longer split, since {why}" in report.message
    assert postgres_database.execute(OURS) == []
    assert postgres_database.execute(ROWS) == [(150, 150, 11175)]
    assert "no longer split" not in carried_out(postgres_database, changed).message


def keys_pending(database: Postgres) -> None:
    plain(database)
    database.execute("CREATE TABLE raw.ids (id bigint PRIMARY KEY)")
    database.execute("INSERT INTO raw.ids SELECT generate_series(0, 149)")
    database.execute("ALTER TABLE raw.flights ADD CONSTRAINT known FOREIGN KEY (id) REFERENCES raw.ids")
    carried_out(database, policy())
    assert killed_at("split-switched:1", database, policy(), NOW)[0] == -9


@pytest.mark.parametrize(("changed", "abandoned"), [
    (OTHER, False),
    (spec(tables=[{"name": TABLE}], keep={}), False),
    (policy(), True),
])  # fmt: skip
def test_a_table_that_is_split_has_its_foreign_key_again(
    changed: RetentionPolicySpec, abandoned: bool, postgres_database: Postgres
) -> None:
    keys_pending(postgres_database)
    holds = "bool_and(convalidated), bool_or(conrelid = 'raw.flights'::regclass)"
    keys = f"SELECT {holds} FROM pg_constraint WHERE contype = 'f'"
    assert postgres_database.execute(keys) == [(False, False)]
    report = carried_out(postgres_database, changed, abandon=abandoned)
    assert report.exit_code == 0, report.message
    assert "foreign keys of raw.flights were validated" in report.message
    assert postgres_database.execute(keys) == [(True, True)]
    assert postgres_database.execute("SELECT keys FROM _millstream.conversions") == [(None,)]
    assert "validated" not in carried_out(postgres_database, changed, abandon=abandoned).message


@pytest.mark.parametrize("changed", [OTHER, policy()])
def test_rows_that_break_the_foreign_key_hold_no_other_table_up(
    changed: RetentionPolicySpec, postgres_database: Postgres
) -> None:
    keys_pending(postgres_database)
    postgres_database.execute("SET session_replication_role = replica; DELETE FROM raw.ids WHERE id = 7")
    report = carried_out(postgres_database, changed)
    assert "violates foreign key constraint" in report.message
    assert report.exit_code == (0 if changed is OTHER else 65)


def test_any_policy_gives_up_what_nobody_goes_on_with(postgres_database: Postgres) -> None:
    begun(postgres_database)
    postgres_database.execute("UPDATE _millstream.retention_claims SET policy = 'default/gone'")
    assert "no longer split" not in carried_out(postgres_database, OTHER).message
    postgres_database.execute("UPDATE _millstream.conversions SET touched_at = now() - interval '15 days'")
    report = carried_out(postgres_database, OTHER)
    assert "since policy default/gone has not gone on with it for 14 days" in report.message
    assert postgres_database.execute(OURS) == []
    refused = carried_out(postgres_database, policy())
    assert "millstream retention abandon --table raw.flights" in refused.message
    carried_out(postgres_database, policy(), abandon=True, tables=[TABLE])
    assert "is split into 9 partitions" in carried_out(postgres_database, policy()).message


@pytest.mark.parametrize("change", ["DROP TABLE raw.flights", "ALTER TABLE raw.flights RENAME TO moved"])
def test_the_table_is_gone(change: str, postgres_database: Postgres) -> None:
    begun(postgres_database)
    postgres_database.execute(change)
    assert "is no longer split" in carried_out(postgres_database, policy(), abandon=True).message
    left = [row for row in postgres_database.execute(OURS.replace("'raw.flights'::regclass", "inhparent")) if row]
    assert left == []


def test_a_conversion_that_is_refused_later_takes_its_check_away(postgres_database: Postgres) -> None:
    plain(postgres_database)
    assert killed_at("convert-checking:1", postgres_database, policy(), NOW)[0] == -9
    postgres_database.execute("CREATE MATERIALIZED VIEW raw.seen AS SELECT count(*) FROM raw.flights")
    assert carried_out(postgres_database, policy()).exit_code == 78
    assert postgres_database.execute(OURS) == []


def test_nobody_waits_while_a_copy_is_dropped() -> None:
    """Hundreds of partitions take a while; only what comes behind them locks the table."""
    found = Splitting("public.events", "public.events_before").dropped()
    assert found[0].startswith('DROP TABLE IF EXISTS "_millstream"."split_')
    assert all("events_before" in text or "_note_" in text or "_log_" in text for text in found[1:])


def test_a_run_at_the_table_is_left_alone(postgres_database: Postgres) -> None:
    from millstream_pipelines.retention.ddl import alone

    postgres_database.execute("CREATE TABLE events AS SELECT now() AS at")
    with patient(postgres_database) as ddl, alone(ddl, "events"):
        convert(ddl, table_facts(ddl, "public.events"), BY)
        report = carried_out(postgres_database, policy(), abandon=True, tables=["events"])
    assert (report.exit_code, report.reason) == (75, "TableBusy")
