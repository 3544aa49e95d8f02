"""Two warehouses whose archives lie in one store, for tables of one name: neither touches what is the other's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from millstream_api import RunReport
from millstream_pipelines import failpoints
from millstream_pipelines.retention import archive as archives
from retention.policies import FLIGHTS, NOW, TABLE, carried_out, months, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

LATER = NOW + timedelta(days=8)
SEVEN = {"table": TABLE, "where": "tail = 'N7'", "reason": "request 1"}
BACK = {"table": TABLE, "from": "2013-09-01", "to": "2013-11-01"}


def done(report: RunReport) -> str:
    assert report.exit_code == 0, report.message
    return report.message


@pytest.fixture
def mine(postgres_database: Postgres) -> Postgres:
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 9, 11)
    return postgres_database


@pytest.fixture
def other(postgres_server: Postgres) -> Iterator[Postgres]:
    with postgres_server.fresh_database() as database:
        database.execute(FLIGHTS)
        months(database, 9, 11)
        yield database


def test_an_archive_that_another_warehouse_is_making_stays(
    mine: Postgres, other: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(carried_out(mine, spec(tmp_path)))

    def broken(place: str) -> None:
        if place == "exported":
            raise failpoints.FailpointError(place)

    monkeypatch.setattr(archives, "reached", broken)
    assert carried_out(other, spec(tmp_path)).exit_code != 0
    monkeypatch.setattr(archives, "reached", failpoints.reached)
    half_made = [path for path in tmp_path.rglob("*.parquet") if not (path.parent / "_manifest.json").exists()]
    assert len(half_made) == 1
    report = carried_out(mine, spec(tmp_path, delete=[SEVEN]))
    assert "1 erasures" in done(report)
    assert half_made[0].exists()
    assert report.retention is not None
    assert any(half_made[0].parent.name in words for words in report.retention.erasures[-1].unjudged)


def test_each_has_its_own_archives(mine: Postgres, other: Postgres, tmp_path: Path) -> None:
    other.execute("DELETE FROM raw.flights WHERE id = 5")
    for database in (mine, other):
        done(carried_out(database, spec(tmp_path)))
        done(carried_out(database, spec(tmp_path), LATER))
    names = {json.loads(path.read_text())["warehouse"] for path in tmp_path.rglob("_manifest.json")}
    assert len(names) == 2
    folders = {path.parent.name.partition("-")[0] for path in tmp_path.rglob("_manifest.json")}
    assert folders == names, "whose an attempt is can be told before it has a manifest"
    expiring = spec(keep={}, archive={"url": f"file://{tmp_path}", "keep": {"age": "1 day"}})
    assert "2 archives expired" in done(carried_out(mine, expiring, LATER))
    assert "198 rows" in done(carried_out(other, spec(tmp_path), LATER, restore=BACK))


def test_a_manifest_of_another_warehouse_proves_nothing(mine: Postgres, other: Postgres, tmp_path: Path) -> None:
    for database in (mine, other):
        done(carried_out(database, spec(tmp_path)))
    mine.execute("UPDATE _millstream.warehouse SET id = gen_random_uuid()")
    report = carried_out(mine, spec(tmp_path), LATER)
    assert (report.exit_code, report.reason) == (65, "ArchiveMismatch"), report.message
    assert "is an archive of another warehouse" in report.message
    assert mine.execute("SELECT count(*) FROM raw.flights_p20130901") == [(100,)]


def test_a_copy_of_a_warehouse_that_has_got_a_name_of_its_own_leaves_its_origin_alone(
    mine: Postgres, tmp_path: Path
) -> None:
    for now in (NOW, LATER):
        done(carried_out(mine, spec(tmp_path), now))
    mine.execute("UPDATE _millstream.warehouse SET id = gen_random_uuid()")
    before = sorted(tmp_path.rglob("*"))
    expiring = {"keep": {}, "archive": {"url": f"file://{tmp_path}", "keep": {"age": "1 day"}}}
    for policy in (spec(tmp_path, **expiring), spec(tmp_path, delete=[SEVEN])):
        report = carried_out(mine, policy, LATER)
        assert (report.exit_code, "of another warehouse" in report.message) == (65, True), report.message
        assert sorted(tmp_path.rglob("*")) == before
        assert mine.execute("SELECT DISTINCT state FROM _millstream.retired") == [("dropped",)]


def test_an_archive_from_before_warehouses_had_names(mine: Postgres, tmp_path: Path) -> None:
    for now in (NOW, LATER):
        done(carried_out(mine, spec(tmp_path), now))
    for path in list(tmp_path.rglob("_manifest.json")):
        new, old = path.parent.name, path.parent.name.partition("-")[2]
        document = json.loads(path.read_text().replace(new, old))
        del document["warehouse"]
        path.write_text(json.dumps(document))
        path.parent.rename(path.parent.parent / old)
        for column in ("manifest", "attempts"):
            kind = "text[]" if column == "attempts" else "text"
            mine.execute(f"UPDATE _millstream.retired SET {column} = replace({column}::text, '{new}', '{old}')::{kind}")
    assert "1 erasures" in done(carried_out(mine, spec(tmp_path, delete=[SEVEN]), LATER))
    assert len(list(tmp_path.rglob("_manifest.json"))) == 2
    assert all("-" in path.parent.name for path in tmp_path.rglob("_manifest.json")), "rewritten, they have a name"
    assert "198 rows" in done(carried_out(mine, spec(tmp_path), LATER, restore=BACK))
