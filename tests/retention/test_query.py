"""Questions to archives: every type as it was stored, rows named as often as one likes, an object at a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from millstream_api import Endpoint, RunPlan
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.retention import readback
from millstream_pipelines.retention.query import query
from millstream_pipelines.retention.request import RetentionRequest
from retention.archives import EVERY_TYPE, ROWS
from retention.policies import FLIGHTS, NOW, TABLE, carried_out, months, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

Ask = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def ask(postgres_database: Postgres, tmp_path: Path) -> Ask:
    """Ask the archives of a table."""

    def call(sql: str, table: str = TABLE, **more: Any) -> list[tuple[Any, ...]]:
        plan = RunPlan(
            action="retain", namespace="default", name="keep", policy=spec(tmp_path, **more),
            warehouse=Endpoint(name="dw", type="postgres", config=postgres_database.config),
        )  # fmt: skip
        return query(RetentionRequest(plan, {}, "run-1"), table, None, None, sql).rows

    return call


@pytest.fixture
def flights(postgres_database: Postgres, tmp_path: Path) -> Postgres:
    """Three months are archived."""
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 10)
    assert carried_out(postgres_database, spec(tmp_path)).exit_code == 0
    return postgres_database


@pytest.mark.usefixtures("flights")
def test_rows_can_be_named_more_than_once(ask: Ask) -> None:
    assert ask("SELECT count(*), min(tail), max(id) FROM archive") == [(300, "N0", 99)]
    twice = "SELECT count(*) FROM archive a JOIN archive b USING (id) WHERE a.id < 10 AND a.time_hour < b.time_hour"
    assert ask(twice) == [(30,)]
    assert ask("WITH n AS (FROM archive) SELECT (SELECT count(*) FROM n), (SELECT sum(id) FROM archive)") == [
        (300, 14850)
    ]


@pytest.mark.usefixtures("flights")
def test_times_are_answered_in_utc(ask: Ask) -> None:
    assert ask("SELECT min(time_hour) FROM archive") == [(datetime(2013, 8, 1, 4, tzinfo=UTC),)]


def test_archives_of_other_columns_go_together(flights: Postgres, ask: Ask, tmp_path: Path) -> None:
    flights.execute(
        "ALTER TABLE raw.flights ADD COLUMN note text DEFAULT 'new'; ALTER TABLE raw.flights ALTER id TYPE text"
    )
    flights.execute("INSERT INTO raw.flights SELECT '2013-11-05', g, 'N' FROM generate_series(1, 100) g")
    assert carried_out(flights, spec(tmp_path), NOW + timedelta(days=31)).exit_code == 0
    found = ask("SELECT count(*), count(note), typeof(any_value(id)) FROM archive")
    assert found == [(400, 100, "VARCHAR")]


def test_every_type_is_asked_as_it_was_stored(postgres_database: Postgres, ask: Ask, tmp_path: Path) -> None:
    postgres_database.execute(EVERY_TYPE)
    postgres_database.execute(ROWS)
    postgres_database.execute(
        "DELETE FROM raw.every WHERE at = 'infinity'; ALTER TABLE raw.every RENAME TO every_13; CREATE TABLE raw.every "
        "(LIKE raw.every_13) PARTITION BY RANGE (at); ALTER TABLE raw.every_13 ALTER COLUMN twice DROP EXPRESSION;"
        "ALTER TABLE raw.every ATTACH PARTITION raw.every_13 FOR VALUES FROM ('2013-01-01') TO ('2014-01-01')"
    )
    tables = [{"name": "raw.every"}]
    report = carried_out(postgres_database, spec(tmp_path, tables=tables), NOW + timedelta(days=365))
    assert report.exit_code == 0, report.message
    sql = (
        'SELECT typeof(u), u::VARCHAR, typeof(price), price::VARCHAR, typeof(b), f8, epoch_us("at"), jb, ints, '
        "d::VARCHAR FROM archive WHERE id = 9223372036854775807"
    )
    zeros = "00000000-0000-0000-0000-000000000000"
    assert ask(sql, "raw.every", tables=tables) == [
        (
            "UUID",
            zeros,
            "DECIMAL(12,2)",
            None,
            "BLOB",
            5e-324,
            1357084800000000,
            '"é"',
            "{{1,2},{3,4}}",
            "4713-01-01 (BC)",
        )
    ]


def test_a_damaged_object_gives_no_answer(flights: Postgres, ask: Ask, tmp_path: Path) -> None:
    path = sorted(tmp_path.rglob("*.parquet"))[1]
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="bytes with SHA-256") as refused:
        ask("SELECT count(*) FROM archive")
    assert refused.value.reason == "ArchiveMismatch"
    assert flights.execute("SELECT count(*) FROM raw.flights") == [(0,)]


@pytest.mark.usefixtures("flights")
def test_objects_pass_one_at_a_time(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    fetched = readback.fetched

    def noting(store: Any, item: Any, path: Path, what: str) -> None:
        fetched(store, item, path, what)
        seen.append(len(list(path.parent.iterdir())))

    monkeypatch.setattr(readback, "fetched", noting)
    assert ask("SELECT count(*) FROM archive") == [(300,)]
    assert seen == [1, 1, 1]


@pytest.mark.usefixtures("flights")
def test_nothing_else_is_read(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a\n1\n")
    for sql in (f"FROM '{tmp_path}/other.csv'", "SELECT 1; SELECT 2", "COPY archive TO '/tmp/x'", "SET threads = 1"):
        with pytest.raises(ConfigurationError):
            ask(sql)
