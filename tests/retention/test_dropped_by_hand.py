"""A table that somebody drops during its grace: the archive is the only copy then, and stays whatever comes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from millstream_api import RunReport
from retention.policies import FLIGHTS, NOW, TABLE, carried_out, months, spec
from servers.plugin import newest_postgres_server, postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["newest_postgres_server", "postgres_database", "postgres_server"]

LATER = NOW + timedelta(days=8)
AUGUST = {"table": TABLE, "from": "2013-08-01", "to": "2013-09-01"}


@pytest.fixture
def flights(postgres_database: Postgres, tmp_path: Path) -> Postgres:
    """August and September are archived in `old`; then somebody drops August's table."""
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 9)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    done(carried_out(postgres_database, spec(tmp_path / "old")))
    postgres_database.execute("DROP TABLE raw.flights_p20130801")
    return postgres_database


def done(report: RunReport) -> str:
    assert report.exit_code == 0, report.message
    return report.message


def august(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and "from=2013-08" in str(path))


def test_a_url_that_was_wrong_for_a_day_costs_no_archive(flights: Postgres, tmp_path: Path) -> None:
    old = tmp_path / "old"
    before = august(old)
    report = carried_out(flights, spec(tmp_path / "new"), LATER)
    assert (report.exit_code, report.reason) == (65, "ArchiveMissing")
    assert "all that is left" in report.message
    assert str(old) in report.message, "where it lies"
    for _ in range(2):
        carried_out(flights, spec(old), LATER)
    assert august(old) == before
    assert "100 rows" in done(carried_out(flights, spec(old), LATER, restore=AUGUST))


def test_what_a_damaged_object_leaves_of_an_archive_stays(flights: Postgres, tmp_path: Path) -> None:
    old = tmp_path / "old"
    before = august(old)
    (part,) = [path for path in before if path.suffix == ".parquet"]
    sound = part.read_bytes()
    part.write_bytes(sound + b"x")
    for _ in range(3):
        report = carried_out(flights, spec(old), LATER)
        assert (report.exit_code, report.reason) == (65, "ArchiveMismatch"), report.message
        assert "archives it anew" not in report.message
    assert august(old) == before
    part.write_bytes(sound)
    assert "dropped" in done(carried_out(flights, spec(old), LATER))


def test_late_rows_take_no_place_of_an_archive(flights: Postgres, tmp_path: Path) -> None:
    old = tmp_path / "old"
    before = august(old)
    flights.execute(
        f"CREATE TABLE raw.flights_p20130801 PARTITION OF {TABLE} "
        "FOR VALUES FROM ('2013-08-01 America/New_York') TO ('2013-09-01 America/New_York'); "
        f"INSERT INTO {TABLE} VALUES ('2013-08-05', 1000, 'late')"
    )
    for _ in range(2):
        done(carried_out(flights, spec(old), LATER))
    assert set(before) < set(august(old))
    assert "101 rows" in done(carried_out(flights, spec(old), LATER, restore=AUGUST | {"into": "copies"}))
