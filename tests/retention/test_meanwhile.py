"""A partition that goes while a run looks at it: the run looks again, and never calls the policy wrong for that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from millstream_pipelines.retention.ddl import Ddl
from retention.policies import FLIGHTS, TABLE, attached, carried_out, months, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

NOW = datetime(2013, 12, 10, tzinfo=UTC)
ERASURE = {"delete": [{"table": TABLE, "where": "tail = 'N5'", "reason": "erasure-88"}]}
GONE = "ALTER TABLE raw.flights DETACH PARTITION raw.flights_p20130801; DROP TABLE raw.flights_p20130801"


@pytest.fixture
def flights(postgres_database: Postgres) -> Postgres:
    """A table with five months, of which August is too old, and rows elsewhere that refer to December's."""
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 12)
    postgres_database.execute(
        "CREATE TABLE raw.seats (time_hour timestamptz, id bigint, FOREIGN KEY (time_hour, id) REFERENCES raw.flights);"
        "INSERT INTO raw.seats SELECT time_hour, id FROM raw.flights WHERE time_hour > '2013-12-04'"
    )
    return postgres_database


def before(monkeypatch: pytest.MonkeyPatch, words: str, act: Callable[[], Any]) -> list[str]:
    """Act just before the first statement with these words; return it, once it came."""
    came: list[str] = []
    execute = Ddl.rows

    def rows(self: Ddl, sql: str, arguments: Any = None) -> list[tuple[Any, ...]]:
        if words in sql and not came:
            came.append(sql)
            act()
        return execute(self, sql, arguments)

    monkeypatch.setattr(Ddl, "rows", rows)
    return came


@pytest.mark.parametrize(
    ("more", "words", "dry"),
    [
        ({}, "raw.seats r JOIN raw.flights_p20130801", False),
        ({}, "raw.seats r JOIN raw.flights_p20130801", True),
        (ERASURE, "FROM ONLY raw.flights_p20130801", False),
        (ERASURE, "FROM ONLY raw.flights_p20130801", True),
        (ERASURE, "pg_try_advisory_lock", False),  # it was seen, and is gone when the run has the table for itself
    ],
)
def test_a_partition_that_goes(
    flights: Postgres, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], words: str, dry: bool
) -> None:
    came = before(monkeypatch, words, lambda: flights.execute(GONE))
    report = carried_out(flights, spec(**more), NOW, dry_run=dry)
    assert came
    assert report.exit_code == 0, report.message
    assert attached(flights)[:4] == ["p20130901", "p20131001", "p20131101", "p20131201"]
    if more and not dry:
        assert flights.execute("SELECT live_rows, done_at IS NOT NULL FROM _millstream.erasures") == [(4, True)]


def test_a_dependent_that_is_not_there_is_named(flights: Postgres) -> None:
    policy = spec(dependents=[{"table": TABLE, "name": "raw.nothing", "column": "time_hour"}])
    report = carried_out(flights, policy, NOW)
    assert (report.exit_code, '"raw.nothing" does not exist' in report.message) == (78, True), report.message
