"""Tables that wait for their archive or drop, and that somebody drops, renames or attaches elsewhere by hand."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from millstream_api import RunReport
from millstream_pipelines.failpoints import FailpointError
from millstream_pipelines.retention import leaving
from retention.policies import FLIGHTS, NOW, TABLE, attached, carried_out, months, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

LATER = NOW + timedelta(days=8)
STATES = "SELECT right(partition, 9), state FROM _millstream.retired ORDER BY low"
AUGUST = "raw.flights_p20130801"
GIVE_UP = "or give it up: millstream retention abandon --table raw.flights"
HISTORY = (
    "CREATE TABLE raw.history (LIKE raw.flights) PARTITION BY RANGE (time_hour); "
    f"ALTER TABLE raw.history ATTACH PARTITION {AUGUST} FOR VALUES "
    "FROM ('2013-08-01 America/New_York') TO ('2013-09-01 America/New_York')"
)


@pytest.fixture
def detached(postgres_database: Postgres, tmp_path: Path) -> Postgres:
    """August and September, detached and not archived, since the archive could not be written."""
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 9)
    (tmp_path / "file").write_text("no folder")
    assert carried_out(postgres_database, spec(tmp_path / "file")).exit_code != 0
    assert postgres_database.execute(STATES) == [("p20130801", "detached"), ("p20130901", "detached")]
    return postgres_database


def blocked(report: RunReport) -> str:
    assert report.exit_code == 0, report.message
    assert report.retention is not None
    assert [item.outcome for item in report.retention.tables] == ["blocked"], report.message
    (step,) = [step for step in report.retention.plan if step.partition == AUGUST]
    return step.blocked_by


def test_a_dropped_table_blocks_itself_until_it_is_given_up(detached: Postgres, tmp_path: Path) -> None:
    detached.execute(f"DROP TABLE {AUGUST}")
    good = tmp_path / "good"
    good.mkdir()
    for _ in range(2):
        why = blocked(carried_out(detached, spec(good)))
        assert why == f"table {AUGUST}, which is gone: dropped before it was archived. Bring it back, {GIVE_UP}"
        assert detached.execute(STATES) == [("p20130801", "detached"), ("p20130901", "archived")]
    assert "p20130901" not in attached(detached)
    report = carried_out(detached, spec(good), abandon=True)
    assert (report.message, detached.execute(STATES)[0]) == (
        "nothing is under way on raw.flights", ("p20130801", "detached"))  # fmt: skip
    report = carried_out(detached, spec(good), abandon=True, tables=[TABLE])
    assert report.message == f"{AUGUST} is given up, it is gone"
    report = carried_out(detached, spec(good), LATER)
    assert (report.exit_code, report.message) == (0, "raw.flights: 1 dropped")
    assert detached.execute(STATES) == [("p20130801", "expired"), ("p20130901", "dropped")]
    everything = {"table": TABLE, "from": "2013-01-01", "to": "2014-01-01"}
    assert "1 range(s) of raw.flights restored" in carried_out(detached, spec(good), restore=everything).message


def test_a_renamed_table_goes_on_once_it_has_its_name_again(detached: Postgres, tmp_path: Path) -> None:
    detached.execute(f"ALTER TABLE {AUGUST} RENAME TO august")
    why = blocked(carried_out(detached, spec(tmp_path)))
    assert why == (
        f"table {AUGUST}, which was renamed to raw.august before it was archived: "
        f'ALTER TABLE raw.august RENAME TO "flights_p20130801" (in its schema), {GIVE_UP}'
    )
    detached.execute("ALTER TABLE raw.august RENAME TO flights_p20130801")
    report = carried_out(detached, spec(tmp_path), LATER)
    assert (report.exit_code, detached.execute(STATES)[0]) == (0, ("p20130801", "dropped")), report.message


def test_a_renamed_table_that_is_given_up_stays(detached: Postgres, tmp_path: Path) -> None:
    detached.execute(f"ALTER TABLE {AUGUST} RENAME TO august")
    report = carried_out(detached, spec(tmp_path), abandon=True, tables=[TABLE])
    assert report.message == f"{AUGUST} is given up; its rows stay in raw.august"
    assert carried_out(detached, spec(tmp_path), LATER).exit_code == 0
    assert detached.execute("SELECT count(*) FROM raw.august") == [(100,)]


def test_a_partition_dropped_while_its_detach_was_broken_off(
    postgres_database: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 9)

    def broken(place: str) -> None:
        if place == "detached":
            raise FailpointError(place)

    with monkeypatch.context() as patch:
        patch.setattr(leaving, "reached", broken)
        assert carried_out(postgres_database, spec(tmp_path)).exit_code != 0
    assert postgres_database.execute(STATES) == [("p20130801", "retiring")]
    postgres_database.execute(f"DROP TABLE {AUGUST}")
    assert "which is gone" in blocked(carried_out(postgres_database, spec(tmp_path)))
    assert postgres_database.execute(STATES) == [("p20130801", "retiring"), ("p20130901", "archived")]


def test_a_dropped_table_without_an_archive_is_just_dropped(postgres_database: Postgres) -> None:
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 9)
    assert carried_out(postgres_database, spec()).exit_code == 0
    postgres_database.execute(f"DROP TABLE {AUGUST}")
    report = carried_out(postgres_database, spec(), LATER)
    assert (report.exit_code, report.message) == (0, "raw.flights: 2 dropped")


@pytest.mark.parametrize("is_archived", [False, True])
def test_a_table_attached_elsewhere_blocks_only_itself(
    postgres_database: Postgres, tmp_path: Path, is_archived: bool
) -> None:
    database = postgres_database
    database.execute(FLIGHTS)
    months(database, 8, 9)
    carried_out(database, spec(tmp_path if is_archived else None, grace="7 days"))
    database.execute(HISTORY)
    why = blocked(carried_out(database, spec(tmp_path), LATER))
    assert why == (
        f"table {AUGUST}, which somebody attached to raw.history: "
        f'ALTER TABLE raw.history DETACH PARTITION "raw"."flights_p20130801", {GIVE_UP}'
    )
    assert database.execute(STATES)[1] == ("p20130901", "dropped")
    report = carried_out(database, spec(tmp_path), abandon=True, tables=[TABLE])
    more = "; its archive stays" if is_archived else ""
    assert report.message == f"{AUGUST} is given up; its rows stay in raw.history{more}"
    assert carried_out(database, spec(tmp_path), LATER).message == "nothing was due"
    assert database.execute(STATES)[0] == ("p20130801", "dropped" if is_archived else "expired")
    assert database.execute("SELECT count(*) FROM raw.history") == [(100,)]
