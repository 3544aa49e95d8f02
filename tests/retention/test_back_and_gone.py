"""A range that came back, or waits for its drop, and that somebody drops by hand: its archive stays, and is reached."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from millstream_api import RunReport
from millstream_api.retentionpolicy import RetentionPolicySpec
from retention.policies import FLIGHTS, NOW, TABLE, attached, carried_out, months, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

AUGUST: dict[str, Any] = {"table": TABLE, "from": "2013-08-01", "to": "2013-09-01"}
STATES = "SELECT state, rows FROM _millstream.retired ORDER BY id"
LATE_ROWS = (
    "CREATE TABLE raw.flights_p20130801 PARTITION OF raw.flights FOR VALUES "
    "FROM ('2013-08-01 America/New_York') TO ('2013-09-01 America/New_York'); "
    "INSERT INTO raw.flights VALUES ('2013-08-05', 1000, 'late')"
)


@pytest.fixture
def policy(tmp_path: Path) -> RetentionPolicySpec:
    return spec(tmp_path, grace="0 days")


@pytest.fixture
def dropped(postgres_database: Postgres, policy: RetentionPolicySpec) -> Postgres:
    """August came back from its archive, and was dropped by hand."""
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 8)
    done(carried_out(postgres_database, policy))
    done(carried_out(postgres_database, policy, restore=AUGUST))
    postgres_database.execute("DROP TABLE raw.flights_p20130801")
    return postgres_database


def done(report: RunReport) -> str:
    assert report.exit_code == 0, report.message
    return report.message


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_it_comes_back_again(dropped: Postgres, policy: RetentionPolicySpec, tmp_path: Path) -> None:
    later = NOW + timedelta(days=1)
    assert "1 range(s) of raw.flights restored" in done(carried_out(dropped, policy, later, restore=AUGUST))
    assert dropped.execute("SELECT count(*) FROM raw.flights") == [(100,)]
    assert dropped.execute("SELECT restored_at FROM _millstream.retired") == [(later,)], "its grace begins anew"
    assert "is back already" in done(carried_out(dropped, policy, later, restore=AUGUST))
    done(carried_out(dropped, policy, later + timedelta(hours=1)))
    assert len([name for name in files(tmp_path) if name.endswith("_manifest.json")]) == 1, (
        "the newer one stands for it"
    )


def test_late_rows_leave_beside_it(dropped: Postgres, policy: RetentionPolicySpec, tmp_path: Path) -> None:
    before = files(tmp_path)
    dropped.execute(LATE_ROWS)
    for _ in range(2):
        done(carried_out(dropped, policy))
    assert dropped.execute("SELECT rows FROM _millstream.retired WHERE state = 'dropped'") == [(1,)]
    assert before < files(tmp_path)
    twice = carried_out(dropped, policy, restore=AUGUST)
    assert (twice.exit_code, "has left 2 times" in twice.message) == (78, True), twice.message
    assert "101 rows" in done(carried_out(dropped, policy, restore=AUGUST | {"into": "back"}))


def test_its_archive_is_judged_by_an_erasure(dropped: Postgres, policy: RetentionPolicySpec) -> None:
    dropped.execute(LATE_ROWS)
    done(carried_out(dropped, policy))
    erasure = {"table": TABLE, "where": "id IN (7, 1000)", "reason": "request"}
    done(carried_out(dropped, policy.model_copy(update={"delete": spec(delete=[erasure]).delete})))
    assert dropped.execute("SELECT archived_rows, done_at IS NOT NULL FROM _millstream.erasures") == [(2, True)]
    assert "99 rows" in done(carried_out(dropped, policy, restore=AUGUST | {"into": "back"}))


def test_its_archive_expires(dropped: Postgres, policy: RetentionPolicySpec, tmp_path: Path) -> None:
    given = policy.model_dump(by_alias=True)
    given["archive"]["keep"] = {"age": "4 months"}
    assert "1 archives expired" in done(carried_out(dropped, RetentionPolicySpec.model_validate(given)))
    assert (dropped.execute(STATES), files(tmp_path)) == ([("expired", 100)], set())


def test_in_a_copy_of_the_database_it_counts_as_back(dropped: Postgres, policy: RetentionPolicySpec) -> None:
    """There all tables have other numbers, which say nothing of what was dropped."""
    dropped.execute("UPDATE _millstream.retired SET back_as[1] = 0")
    assert "is back already" in done(carried_out(dropped, policy, restore=AUGUST))


def test_what_was_archived_and_dropped_by_hand_keeps_its_archive(postgres_database: Postgres, tmp_path: Path) -> None:
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 8)
    done(carried_out(postgres_database, spec(tmp_path)))
    before = files(tmp_path)
    postgres_database.execute("DROP TABLE raw.flights_p20130801")
    postgres_database.execute(LATE_ROWS)
    for days in (1, 9, 17):
        done(carried_out(postgres_database, spec(tmp_path), NOW + timedelta(days=days)))
    assert postgres_database.execute(STATES) == [("dropped", 100), ("dropped", 1)]
    assert before < files(tmp_path)
    assert "p20130801" not in attached(postgres_database)


def test_a_range_that_late_rows_made_anew_is_not_to_be_dropped(
    postgres_database: Postgres, policy: RetentionPolicySpec
) -> None:
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 8)
    done(carried_out(postgres_database, policy))
    postgres_database.execute(LATE_ROWS)
    report = carried_out(postgres_database, policy, restore=AUGUST)
    words = "raw.flights_p20130801 is a partition of raw.flights again, with rows that came late: leave it as it is"
    assert (report.exit_code, words in report.message) == (78, True), report.message
    into = AUGUST | {"into": "back"}
    done(carried_out(postgres_database, policy, restore=into))
    assert "100 rows" in done(carried_out(postgres_database, policy, restore=into)), "a retry knows its own work"
    table = "back.flights_p20130801"
    for comment, words in (
        ("restored by millstream, run other", f"there is a table {table} already, restored by millstream, run other"),
        ("mine", f"there is a table {table} already, which no restore has made"),
    ):
        postgres_database.execute(f"COMMENT ON TABLE {table} IS '{comment}'")
        report = carried_out(postgres_database, policy, restore=into)
        assert (report.exit_code, words in report.message) == (78, True), report.message
