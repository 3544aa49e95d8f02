"""A range that comes back to a table that was altered meanwhile: its values are what they were, or it stays away."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from retention.policies import FLIGHTS, NOW, TABLE, attached, carried_out, months, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

AUGUST = {"table": TABLE, "from": "2013-08-01", "to": "2013-09-01"}
INTO = "restore with `into` a schema"


@pytest.fixture
def flights(postgres_database: Postgres) -> Postgres:
    postgres_database.execute(FLIGHTS + "; ALTER TABLE raw.flights ADD COLUMN seen timestamp, ADD COLUMN old text")
    months(postgres_database, 8, 8)
    return postgres_database


REFUSED = [
    (
        "ALTER COLUMN seen TYPE timestamptz USING seen AT TIME ZONE 'America/New_York'",
        "'seen': timestamp / timestamptz",
    ),
    ("DROP COLUMN tail", "column 'tail': text / absent"),
    ("RENAME COLUMN tail TO tail_number", "column 'tail': text / absent"),
    ("ALTER COLUMN id TYPE numeric(12,2)", "column 'id': bigint / numeric(12,2)"),
    ("ADD COLUMN seats int NOT NULL", "column 'seats': absent / integer"),
    ("ALTER COLUMN old SET NOT NULL", "column 'old': "),
]


@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_what_does_not_fit_any_more_is_told_by_its_columns(
    change: str, words: str, flights: Postgres, tmp_path: Path
) -> None:
    carried_out(flights, spec(tmp_path, grace="0 days"))
    flights.execute(f"ALTER TABLE raw.flights {change}")
    report = carried_out(flights, spec(tmp_path), restore=AUGUST)
    assert (report.exit_code, words in report.message, INTO in report.message) == (78, True, True), report.message
    assert "p20130801" not in attached(flights)
    report = carried_out(flights, spec(tmp_path), restore=AUGUST | {"into": "back"})
    assert report.exit_code == 0, report.message


@pytest.mark.parametrize(("change", "words"), [*REFUSED, ("ADD COLUMN seats int", "column 'seats': absent / integer")])
def test_within_the_grace_too(change: str, words: str, flights: Postgres, tmp_path: Path) -> None:
    carried_out(flights, spec(tmp_path))
    flights.execute(f"ALTER TABLE raw.flights {change}")
    report = carried_out(flights, spec(tmp_path), restore=AUGUST)
    assert (report.exit_code, words in report.message, INTO in report.message) == (78, True, True), report.message
    assert 'alter "raw"."flights_p20130801" alike' in report.message
    assert "p20130801" not in attached(flights)


@pytest.mark.parametrize(
    "change",
    ["ADD COLUMN seats int", "ADD COLUMN seats int NOT NULL DEFAULT 5",
     "ADD COLUMN seats bigint GENERATED ALWAYS AS (id * 2) STORED"],
)  # fmt: skip
def test_columns_that_fill_themselves_may_have_come(change: str, flights: Postgres, tmp_path: Path) -> None:
    carried_out(flights, spec(tmp_path, grace="0 days"))
    flights.execute(f"ALTER TABLE raw.flights {change}")
    report = carried_out(flights, spec(tmp_path), restore=AUGUST)
    assert report.exit_code == 0, report.message
    assert flights.execute("SELECT count(*) FROM raw.flights") == [(100,)]


@pytest.mark.parametrize("grace", ["0 days", "7 days"])
def test_rows_that_a_constraint_refuses_are_not_shown(grace: str, flights: Postgres, tmp_path: Path) -> None:
    carried_out(flights, spec(tmp_path, grace=grace))
    flights.execute("CREATE TABLE raw.planes (tail text PRIMARY KEY)")
    flights.execute("ALTER TABLE raw.flights ADD CONSTRAINT of_plane FOREIGN KEY (tail) REFERENCES raw.planes")
    flights.execute("ALTER TABLE raw.flights ADD CONSTRAINT few CHECK (id < 5)")
    if grace == "7 days":
        flights.execute("ALTER TABLE raw.flights DROP CONSTRAINT few")
    report = carried_out(flights, spec(tmp_path), NOW + timedelta(hours=1), restore=AUGUST)
    assert (report.exit_code, report.reason) == (65, "RefusedByWarehouse"), report.message
    assert INTO in report.message
    assert "N" not in report.message.partition("flights_p20130801")[2].replace("Nothing", ""), report.message
    assert "p20130801" not in attached(flights)
