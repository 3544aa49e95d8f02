"""The policy names another `archive.url`: what lies at the one of before is neither forgotten nor taken for gone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from millstream_api import RunReport
from retention.policies import FLIGHTS, NOW, TABLE, attached, carried_out, months, spec
from servers.plugin import newest_postgres_server, postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["newest_postgres_server", "postgres_database", "postgres_server"]

LATER = NOW + timedelta(days=8)
AUGUST = {"table": TABLE, "from": "2013-08-01", "to": "2013-09-01"}
SEVEN = {"table": TABLE, "where": "id = 7", "reason": "request 1"}


class Moved:
    """August to October, archived in `old`; the policy may name `new`."""

    def __init__(self, database: Postgres, folder: Path) -> None:
        self.database, self.old, self.new = database, folder / "old", folder / "new"
        database.execute(FLIGHTS)
        months(database, 8, 10)
        self.old.mkdir()
        self.new.mkdir()

    def run(self, place: Path, more: dict[str, Any] | None = None, **options: Any) -> RunReport:
        return carried_out(self.database, spec(place, **{"grace": "0 days"} | (more or {})), **options)

    def done(self, place: Path, more: dict[str, Any] | None = None, **options: Any) -> str:
        report = self.run(place, more, **options)
        assert report.exit_code == 0, report.message
        return report.message

    def states(self) -> set[str]:
        return {row[0] for row in self.database.execute("SELECT state FROM _millstream.retired")}

    def is_erased(self) -> bool:
        ((done_at,),) = self.database.execute("SELECT done_at FROM _millstream.erasures")
        return done_at is not None


@pytest.fixture
def moved(postgres_database: Postgres, tmp_path: Path) -> Moved:
    return Moved(postgres_database, tmp_path)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_no_archive_expires_where_it_is_not(moved: Moved) -> None:
    moved.done(moved.old)
    before = files(moved.old)
    kept = {"keep": {"age": "3 months"}}
    report = moved.run(moved.new, {"keep": {}, "archive": {"url": f"file://{moved.new}", **kept}})
    assert (report.exit_code, report.reason) == (65, "ArchiveMissing"), report.message
    assert f"'file://{moved.old}'" in report.message
    assert f"'file://{moved.new}'" in report.message
    assert (moved.states(), files(moved.old)) == ({"dropped"}, before)
    assert "3 archives expired" in moved.done(
        moved.old, {"keep": {}, "archive": {"url": f"file://{moved.old}", **kept}}
    )
    assert files(moved.old) == []


def test_a_restore_names_the_url_to_name(moved: Moved) -> None:
    moved.done(moved.old)
    report = moved.run(moved.new, restore=AUGUST)
    assert report.exit_code == 65
    assert f"name 'file://{moved.old}' again" in report.message
    without = carried_out(moved.database, spec(), restore=AUGUST)
    assert f"'file://{moved.old}'" in without.message
    assert "100 rows" in moved.done(moved.old, restore=AUGUST)


def test_an_erasure_is_not_done_before_it_reached_the_archive_of_a_range_that_came_back(moved: Moved) -> None:
    moved.done(moved.old)
    moved.done(moved.old, restore=AUGUST | {"to": "2013-12-01"})
    stay = {"keep": {"age": "20 years"}, "delete": [SEVEN]}
    report = moved.run(moved.new, stay)
    assert report.retention is not None
    assert report.exit_code == 0, report.message
    (found,) = report.retention.erasures
    assert (found.live_rows, found.done_at) == (3, None)
    assert len(found.unjudged) == 3
    assert f"in file://{moved.old}" in found.unjudged[0]
    moved.done(moved.old, stay)
    assert moved.is_erased()
    assert moved.database.execute("SELECT archived_rows FROM _millstream.erasures") == [(3,)]


def test_what_counts_no_more_is_deleted_once_its_url_is_named_again(moved: Moved) -> None:
    """All are archived anew at the new url in the run after the first, however many were due."""
    grace = {"grace": "7 days"}
    moved.done(moved.old, grace)
    before = files(moved.old)
    report = moved.run(moved.new, grace, now=LATER)
    assert (report.exit_code, report.reason) == (65, "ArchiveMissing")
    assert report.message.count("archives it anew") == 3
    assert moved.done(moved.new, grace, now=LATER).endswith("3 archived and verified, 3 dropped")
    assert files(moved.old) == before
    assert moved.done(moved.new, {"delete": [SEVEN]}, now=LATER)
    assert not moved.is_erased(), "the old archives hold the rows"
    moved.done(moved.old, {"keep": {"age": "20 years"}}, now=LATER)
    assert files(moved.old) == []
    moved.done(moved.new, {"delete": [SEVEN]}, now=LATER)
    assert moved.is_erased()


def test_the_archives_of_other_ranges_are_dropped_in_the_run_in_which_one_differs(moved: Moved) -> None:
    grace = {"grace": "7 days"}
    moved.done(moved.old, grace)
    for month in ("08", "10"):
        (part,) = (path for path in files(moved.old) if f"from=2013-{month}" in str(path) and path.suffix == ".parquet")
        part.write_bytes(b"damaged")
    report = moved.run(moved.old, grace, now=LATER)
    assert (report.exit_code, report.reason) == (65, "ArchiveMismatch")
    for month, is_here in (("08", True), ("09", False), ("10", True)):
        assert (f"p2013{month}01: its archive" in report.message) == is_here
        found = moved.database.execute(f"SELECT to_regclass('raw.flights_p2013{month}01') IS NOT NULL")
        assert found == [(is_here,)]
    assert moved.done(moved.old, grace, now=LATER).endswith("2 archived and verified, 2 dropped")
    assert "p20130801" not in attached(moved.database)
