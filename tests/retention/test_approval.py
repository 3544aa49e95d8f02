"""What an approval covers: the steps that were in the plan when somebody approved it, and no other."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from millstream_api import RetentionReport, RunReport
from retention.killed import killed_at
from retention.policies import FLIGHTS, NOW, TABLE, attached, carried_out, months, spec
from retention.test_meanwhile import before
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

LATER = NOW + timedelta(days=8)
MONTH_LATER = NOW + timedelta(days=28)


@pytest.fixture
def flights(postgres_database: Postgres) -> Postgres:
    """A table with a partition for each month of late 2013, in New York."""
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 12)
    return postgres_database


def done(report: RunReport) -> str:
    assert report.exit_code == 0, report.message
    return report.message


def told(report: RunReport) -> RetentionReport:
    assert report.retention is not None, report.message
    return report.retention


def erasing(*tails: str) -> list[dict[str, str]]:
    return [{"table": TABLE, "where": f"tail = '{tail}'", "reason": f"request {tail}"} for tail in tails]


def test_nothing_irreversible_without_approval(flights: Postgres, tmp_path: Path) -> None:
    policy = spec(tmp_path, approval="manual")
    done(carried_out(flights, policy))
    report = carried_out(flights, policy, LATER)
    assert "3 irreversible steps wait for approval" in done(report)
    assert report.retention is not None
    digest = report.retention.digest
    assert digest in report.message
    assert "3 irreversible" in done(carried_out(flights, policy, LATER, approved="0123456789ab"))
    assert done(carried_out(flights, policy, LATER, approved=digest)) == "raw.flights: 3 dropped"


def test_an_approval_is_for_one_departure(flights: Postgres, tmp_path: Path) -> None:
    """What was dropped with approval and brought back is not dropped again because it once was approved."""
    policy = spec(tmp_path, approval="manual", grace="0 days")
    report = carried_out(flights, policy)
    assert "3 irreversible steps wait" in done(report)
    assert report.retention is not None
    approved = report.retention.digest
    assert "3 dropped" in done(carried_out(flights, policy, approved=approved))
    back = {"table": TABLE, "from": "2013-08-01", "to": "2013-11-01"}
    assert "3 range(s)" in done(carried_out(flights, policy, restore=back))
    again = carried_out(flights, policy, LATER, approved=approved)
    assert "3 irreversible steps wait" in done(again)
    assert again.retention is not None
    assert again.retention.digest not in ("", approved)


@pytest.mark.parametrize("archived", [False, True])
def test_an_approval_covers_no_partition_that_became_due_since(
    flights: Postgres, tmp_path: Path, archived: bool
) -> None:
    """The run itself detaches it, and would drop it before anybody has seen it in a plan."""
    policy = spec(tmp_path if archived else None, approval="manual", grace="0 days")
    approved = told(carried_out(flights, policy)).digest
    assert "p20131101" in attached(flights)
    report = carried_out(flights, policy, MONTH_LATER, approved=approved)
    assert "3 dropped" in done(report)
    assert "1 irreversible steps wait for approval" in report.message
    assert told(report).digest in report.message
    assert (told(report).approved, told(report).digest != approved) == (False, True)
    assert flights.execute("SELECT count(*) FROM raw.flights_p20131101") == [(100,)]
    assert "p20131101" not in attached(flights)
    assert "1 dropped" in done(carried_out(flights, policy, MONTH_LATER, approved=told(report).digest))


def test_an_approval_covers_no_erasure_that_became_due_since(
    flights: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows come back when the run has made its plan; it looks again, since the partitions have changed."""
    done(carried_out(flights, spec(delete=erasing("N7"), keep={})))
    policy = spec(approval="manual", delete=erasing("N7", "N8"), keep={})
    approved = told(carried_out(flights, policy)).digest
    comes_back = "DROP TABLE raw.flights_p20130801; INSERT INTO raw.flights VALUES ('2013-10-05', 900, 'N7')"
    came = before(monkeypatch, "pg_try_advisory_lock", lambda: flights.execute(comes_back))
    assert "1 erasures carried out; 1 irreversible steps wait" in done(carried_out(flights, policy, approved=approved))
    assert came
    assert flights.execute("SELECT DISTINCT tail FROM raw.flights WHERE tail IN ('N7', 'N8')") == [("N7",)]


def test_a_report_tells_whether_something_waits(flights: Postgres) -> None:
    policy = spec(approval="manual")
    assert told(carried_out(flights, policy)).approved, "nothing irreversible is due yet"
    waiting = told(carried_out(flights, policy, LATER))
    assert not waiting.approved
    assert told(carried_out(flights, policy, LATER, approved=waiting.digest)).approved


DROPPED = "SELECT count(*) FROM _millstream.retired WHERE state = 'dropped'"


@pytest.mark.parametrize(("place", "gone"), [("dropping:1", 0), ("dropped:1", 1), ("dropped:2", 2)])
def test_an_approved_run_that_was_cut_short_is_finished_by_the_next(flights: Postgres, place: str, gone: int) -> None:
    """The rest of the plan has another digest; what became due meanwhile waits."""
    policy = spec(approval="manual", grace="0 days")
    approved = told(carried_out(flights, policy)).digest
    assert killed_at(place, flights, policy, NOW, approved=approved)[0] == -9
    assert flights.execute(DROPPED) == [(gone,)]
    assert f"{3 - gone} irreversible steps wait" in done(carried_out(flights, policy)), "the approval was taken back"
    rest = told(carried_out(flights, policy, dryRun=True, approved=approved))
    assert (rest.approved, rest.plan_count) == (True, 3 - gone)
    report = carried_out(flights, policy, MONTH_LATER, approved=approved)
    assert f"{3 - gone} dropped; 1 irreversible steps wait" in done(report)
    assert flights.execute("SELECT count(*) FROM raw.flights_p20131101") == [(100,)]
    assert "wait" in done(carried_out(flights, policy, MONTH_LATER, approved=approved))
    assert "1 dropped" in done(carried_out(flights, policy, MONTH_LATER, approved=told(report).digest))
    assert flights.execute("SELECT policy, digest FROM _millstream.approvals") == [
        ("default/keep", told(report).digest)
    ]


def test_what_is_left_of_an_approval_covers_no_range_that_was_attached_again(flights: Postgres) -> None:
    policy = spec(approval="manual", grace="0 days")
    approved = told(carried_out(flights, policy)).digest
    assert killed_at("dropped:1", flights, policy, NOW, approved=approved)[0] == -9
    flights.execute("ALTER TABLE raw.flights ATTACH PARTITION raw.flights_p20130901 "
                    "FOR VALUES FROM ('2013-09-01 04:00+00') TO ('2013-10-01 04:00+00')")  # fmt: skip
    report = carried_out(flights, policy, LATER, approved=approved)
    assert "1 detached, 1 dropped; 1 irreversible steps wait" in done(report)
    assert flights.execute("SELECT count(*) FROM raw.flights_p20130901") == [(100,)]


@pytest.mark.parametrize("place", ["", "erased:1", "erased:2"])
def test_an_approved_erasure_is_finished_and_covers_no_rows_that_come_back(flights: Postgres, place: str) -> None:
    policy = spec(approval="manual", delete=erasing("N7", "N8"), keep={})
    approved = told(carried_out(flights, policy)).digest
    if place:
        assert killed_at(place, flights, policy, NOW, approved=approved)[0] == -9
    assert "wait" not in done(carried_out(flights, policy, approved=approved))
    assert flights.execute("SELECT count(*) FROM raw.flights WHERE tail IN ('N7', 'N8')") == [(0,)]
    flights.execute("INSERT INTO raw.flights VALUES ('2013-10-05', 900, 'N7'), ('2013-10-05', 901, 'N8')")
    again = carried_out(flights, policy, approved=approved)
    assert "2 irreversible steps wait for approval" in done(again)
    assert "2 erasures" in done(carried_out(flights, policy, approved=told(again).digest))
    assert flights.execute("SELECT count(*) FROM raw.flights WHERE tail IN ('N7', 'N8')") == [(0,)]
