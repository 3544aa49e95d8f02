"""The words of an erasure mean the same rows in every place, whatever database, role and columns have set."""

from __future__ import annotations

from pathlib import Path

import pytest

from millstream_api import RunReport
from retention.policies import FLIGHTS, TABLE, carried_out, months, spec
from servers.plugin import newest_postgres_server, postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["newest_postgres_server", "postgres_database", "postgres_server"]

_DAYS = f"""
INSERT INTO {TABLE} SELECT day, 1000, 'a' FROM unnest(ARRAY['2013-08-09 12:00Z', '2013-08-10 12:00Z',
  '2013-11-12 12:00Z', '2013-11-11 12:00Z']::timestamptz[]) day
"""


def done(report: RunReport) -> str:
    assert report.exit_code == 0, report.message
    return report.message


def erasure(where: str) -> dict[str, str]:
    return {"table": TABLE, "where": where, "reason": "request 1"}


@pytest.mark.parametrize("style", ["ISO, MDY", "ISO, DMY", "German, DMY"])
def test_a_day_is_the_same_one_in_partitions_and_archives(
    style: str, postgres_database: Postgres, tmp_path: Path
) -> None:
    postgres_database.execute(FLIGHTS)
    postgres_database.execute(f"ALTER DATABASE {postgres_database.database} SET datestyle = '{style}'")
    months(postgres_database, 8, 13)
    postgres_database.execute(_DAYS)
    policy = spec(tmp_path, grace="0 days")
    done(carried_out(postgres_database, policy))
    where = "id = 1000 AND to_char(time_hour, 'DD/MM/YYYY')::date > time_hour + interval '2 days'"  # as months first
    done(carried_out(postgres_database, spec(tmp_path, grace="0 days", delete=[erasure(where)])))
    found = postgres_database.execute("SELECT live_rows, archived_rows FROM _millstream.erasures")
    assert found == [(1, 2)]


def test_a_day_that_could_be_two_is_refused(postgres_database: Postgres, tmp_path: Path) -> None:
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 13)
    policy = spec(tmp_path, delete=[erasure("time_hour::date = '09/08/2013'")])
    report = carried_out(postgres_database, policy)
    assert report.exit_code == 78
    assert "'09/08/2013'" in report.message
    assert "2013-08-09" in report.message
    done(carried_out(postgres_database, spec(tmp_path, delete=[erasure("time_hour::date = '2013-08-09'")])))


def test_equal_is_what_the_columns_collation_calls_so(postgres_database: Postgres, tmp_path: Path) -> None:
    """In archives, too, and of a copy that `into` brings back."""
    postgres_database.execute(
        "CREATE SCHEMA raw; "
        "CREATE COLLATION raw.\"Any case\" (provider = icu, locale = 'und-u-ks-level2', deterministic = false); "
        f'CREATE TABLE {TABLE} (time_hour timestamptz NOT NULL, id bigint, tail text COLLATE raw."Any case") '
        "PARTITION BY RANGE (time_hour)"
    )
    months(postgres_database, 8, 13)
    postgres_database.execute(f"UPDATE {TABLE} SET tail = 'bob' WHERE id IN (7, 8)")
    done(carried_out(postgres_database, spec(tmp_path, grace="0 days")))
    policy = spec(tmp_path, grace="0 days", delete=[erasure("tail = 'BOB' AND id = 7")])
    done(carried_out(postgres_database, policy))
    found = postgres_database.execute("SELECT live_rows, archived_rows FROM _millstream.erasures")
    assert found == [(3, 3)]
    august = {"table": TABLE, "from": "2013-08-01", "to": "2013-09-01"}
    done(carried_out(postgres_database, policy, restore=august | {"into": "copies"}))
    assert postgres_database.execute("SELECT id FROM copies.flights_p20130801 WHERE tail = 'BOB'") == [(8,)]
