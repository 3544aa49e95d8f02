"""A range that comes back has the table's foreign keys before it is attached, so that nobody waits for their scan."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from millstream_pipelines.retention import partitions
from retention.policies import FLIGHTS, NOW, attached, carried_out, months, spec
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]

KEYS = """
SELECT oid, confrelid::regclass::text, convalidated, conparentid <> 0 FROM pg_constraint
WHERE conrelid = to_regclass('raw.flights_p20130901') AND contype = 'f' ORDER BY 2
"""
BACK = {"table": "raw.flights", "from": "2013-09-01", "to": "2013-10-01"}


@pytest.fixture
def referring(any_postgres_database: Postgres) -> Postgres:
    """Months of flights that refer to planes, and to numbers, which are partitioned themselves."""
    database = any_postgres_database
    database.execute(FLIGHTS)
    database.execute(
        "CREATE TABLE raw.planes (tail text PRIMARY KEY); INSERT INTO raw.planes SELECT 'N' || n FROM "
        "generate_series(0, 99) n; CREATE TABLE raw.numbers (id bigint PRIMARY KEY) PARTITION BY RANGE (id); "
        "CREATE TABLE raw.numbers_low PARTITION OF raw.numbers FOR VALUES FROM (0) TO (1000); "
        "INSERT INTO raw.numbers SELECT generate_series(0, 99); "
        "ALTER TABLE raw.flights ADD CONSTRAINT of_plane FOREIGN KEY (tail) REFERENCES raw.planes, "
        "ADD CONSTRAINT of_number FOREIGN KEY (id) REFERENCES raw.numbers ON DELETE CASCADE DEFERRABLE"
    )
    months(database, 9, 13)
    return database


def test_keys_are_validated_before_the_range_is_attached(
    referring: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = spec(tmp_path, grace="0 days")
    assert carried_out(referring, policy, NOW).exit_code == 0
    assert referring.execute(KEYS) == []
    seen: list[Any] = []
    monkeypatch.setattr(partitions, "reached", lambda place: seen.append((place, referring.execute(KEYS))))
    report = carried_out(referring, policy, NOW + timedelta(hours=1), restore=BACK)
    assert report.exit_code == 0, report.message
    before = dict(seen)["partition-checked"]
    assert {row[1:] for row in before if row[1] != "raw.numbers_low"} == {
        ("raw.planes", True, False), ("raw.numbers", True, False)}  # fmt: skip
    after = referring.execute(KEYS)
    assert {row[0] for row in after} <= {row[0] for row in before}  # ATTACH made none of its own
    assert [(refers, of_parent) for _, refers, _, of_parent in after] == [
        ("raw.numbers", True), ("raw.planes", True)]  # fmt: skip
    assert referring.execute("SELECT count(*) FROM raw.flights_p20130901") == [(100,)]


def test_a_key_that_was_made_anew_while_a_range_was_out(referring: Postgres, tmp_path: Path) -> None:
    policy = spec(tmp_path)
    carried_out(referring, policy, NOW)
    referring.execute(
        "ALTER TABLE raw.flights DROP CONSTRAINT of_plane, DROP CONSTRAINT of_number, ADD CONSTRAINT of_plane "
        "FOREIGN KEY (tail) REFERENCES raw.planes ON UPDATE CASCADE"
    )
    report = carried_out(referring, policy, NOW + timedelta(hours=1), restore=BACK)
    assert report.exit_code == 0, report.message
    told = "SELECT count(*) FROM pg_constraint WHERE conrelid = 'raw.flights_p20130901'::regclass AND confupdtype = 'c'"
    assert referring.execute(f"{told} AND contype = 'f' AND conparentid <> 0") == [(1,)]


def test_a_row_whose_plane_has_gone_keeps_the_range_away(referring: Postgres, tmp_path: Path) -> None:
    policy = spec(tmp_path, grace="0 days")
    carried_out(referring, policy, NOW)
    referring.execute("SET session_replication_role = replica; DELETE FROM raw.planes WHERE tail = 'N7'")
    report = carried_out(referring, policy, NOW + timedelta(hours=1), restore=BACK)
    assert (report.exit_code, "of_plane" in report.message) == (65, True), report.message
    assert "p20130901" not in attached(referring)
    referring.execute("INSERT INTO raw.planes VALUES ('N7')")
    assert carried_out(referring, policy, NOW + timedelta(hours=2), restore=BACK).exit_code == 0
    assert "p20130901" in attached(referring)
