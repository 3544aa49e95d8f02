"""A run or a restore that meets another one at a table: it waits as long as it was told, and no longer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from millstream_pipelines.retention.ddl import Ddl
from retention.policies import FLIGHTS, NOW, TABLE, attached, carried_out, months, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

EARLIER = NOW - timedelta(days=61)
WANTED = [
    ({}, "2 detached"),
    ({"restore": {"table": TABLE, "from": "2013-08-01", "to": "2013-09-01"}}, "1 range(s) of raw.flights restored"),
]


@pytest.fixture
def flights(postgres_database: Postgres, tmp_path: Path) -> Postgres:
    """A table with some months, of which one has left."""
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 12)
    report = carried_out(postgres_database, spec(tmp_path), EARLIER)
    assert "1 detached, 1 archived" in report.message
    return postgres_database


def taken(database: Postgres) -> psycopg2.extensions.connection:
    twin = psycopg2.connect(database.dsn)
    twin.cursor().execute("SELECT pg_advisory_lock(hashtextextended('millstream retention raw.flights', 0))")
    return twin


def at_the_second_look(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> list[str]:
    looks: list[str] = []
    execute = Ddl.rows

    def rows(self: Ddl, sql: str, arguments: Any = None) -> list[tuple[Any, ...]]:
        if "pg_try_advisory_lock" in sql:
            looks.append(sql)
            if len(looks) == 2:
                act()
        return execute(self, sql, arguments)

    monkeypatch.setattr(Ddl, "rows", rows)
    return looks


@pytest.mark.parametrize(("options", "words"), WANTED)
def test_it_goes_on_when_the_other_has_ended(
    flights: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    with closing(taken(flights)) as twin:
        looks = at_the_second_look(monkeypatch, twin.close)
        report = carried_out(flights, spec(tmp_path), patience_s=600, **options)
    assert (report.exit_code, words in report.message) == (0, True), report.message
    assert len(looks) >= 2


@pytest.mark.parametrize("options", [options for options, _ in WANTED])
@pytest.mark.parametrize(("patience_s", "told"), [(0.0, ""), (1.2, " after 1 s")])
def test_it_leaves_the_table_alone_where_the_other_stays(
    flights: Postgres, tmp_path: Path, options: dict[str, Any], patience_s: float, told: str
) -> None:
    with closing(taken(flights)):
        report = carried_out(flights, spec(tmp_path), patience_s=patience_s, **options)
    assert (report.exit_code, report.reason) == (75, "TableBusy"), report.message
    assert f"another run works on table raw.flights; this one leaves it alone{told}" in report.message
    assert attached(flights)[0] == "p20130901"
