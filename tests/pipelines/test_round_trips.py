"""Every PostgreSQL type through a whole run with a check: what goes in comes out, or is set aside by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg2
import pytest

from millstream_api import Endpoint, RunPlan, RunReport
from millstream_api.pipeline import PipelineSpec
from millstream_pipelines.runner import RunRequest, execute
from millstream_pipelines.warehouses._duckdb.config import DuckDBConfig
from millstream_pipelines.warehouses._duckdb.connection import open_database, rows
from servers.plugin import postgres_server
from servers.postgres import Postgres
from type_literals import DUCKDB_SPELLED, EXTENSIONS, LITERALS, SETUP

__all__ = ["postgres_server"]

# What no warehouse gets: (value, what the message must say). All else must arrive.
SET_ASIDE: dict[str, dict[str, str]] = {
    "numeric_12_2": {"NaN": "'NaN' is no numeric(12,2); `type: numeric` holds it"},
    "timestamp": {"294276-12-31 23:59:59.999999": "'294276-12-31 23:59:59.999999' is no timestamp"},
    "timestamptz": {"294276-12-31 23:59:59.999999+00": "'294276-12-31 23:59:59.999999+00' is no timestamptz"},
}
# What another database need not know becomes text, and a domain what it is made of.
RETYPED = {
    "enum": "text", "enum_array": "text[]", "composite": "text", "domain": "integer", "hstore": "text",
    "domain_text": "character varying(4)", "citext": "text", "ltree": "text",
}  # fmt: skip
# DuckDB's own type, where it has one that holds the values; all other types are VARCHAR in PostgreSQL's spelling.
DUCKDB = {
    "smallint": "SMALLINT", "integer": "INTEGER", "domain": "INTEGER", "bigint": "BIGINT", "boolean": "BOOLEAN",
    "numeric_12_2": "DECIMAL(12,2)", "numeric_38_10": "DECIMAL(38,10)", "real": "FLOAT", "double": "DOUBLE",
    "bytea": "BLOB", "date": "DATE", "time": "TIME", "time_3": "TIME", "timestamp": "TIMESTAMP", "uuid": "UUID",
    "timestamptz": "TIMESTAMP WITH TIME ZONE", "timestamp_3": "TIMESTAMP", "timestamptz_0": "TIMESTAMP WITH TIME ZONE",
    "interval": "INTERVAL", "json": "JSON", "jsonb": "JSON",
}  # fmt: skip
ROWS = 1 + max(len(values) for _, values in LITERALS.values())
INTERVALS = [
    "1 month 2 days -00:00:00.5", "-1 year", "178000000 years", "00:00:00", "-3 days 04:05:06.000001", "1 year -1 day",
]  # fmt: skip


@dataclass(frozen=True)
class Trip:
    """What went in, as text per type; and a database in which it may have come out."""

    given: Mapping[str, list[str | None]]
    report: RunReport
    target: Any

    def seen(self, sql: str) -> list[tuple[Any, ...]]:
        if isinstance(self.target, Postgres):
            return self.target.execute(sql)
        return rows(self.target, sql)


Origin = tuple[Postgres, dict[str, list[str | None]]]


def stream_of(name: str) -> str:
    """A column that loses rows has a table of its own; the rest travel side by side."""
    return f"t_{name}" if name in SET_ASIDE else "together"


@pytest.fixture(scope="module")
def origin(postgres_server: Postgres) -> Iterator[Origin]:
    given: dict[str, list[str | None]] = {}
    with postgres_server.fresh_database() as database, closing(psycopg2.connect(database.dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in SETUP:
                cursor.execute(statement)
            for table in {stream_of(name) for name in LITERALS}:
                cursor.execute(f"CREATE TABLE {table} (n integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY)")
                cursor.execute(f"INSERT INTO {table} SELECT FROM generate_series(1, {ROWS})")
            for name, (declared, values) in LITERALS.items():
                if name in EXTENSIONS or name == "xml":
                    try:
                        cursor.execute("SELECT '<a/>'::xml" if name == "xml" else f"CREATE EXTENSION {name}")
                    except psycopg2.Error:
                        continue  # not built into this server
                table = stream_of(name)
                cursor.execute(f'ALTER TABLE {table} ADD COLUMN "{name}" {declared}')
                update = f'UPDATE {table} SET "{name}" = %s::text::{declared} WHERE n = %s'
                cursor.executemany(update, [(value, n) for n, value in enumerate(values, 1)])
                cursor.execute(f'SELECT "{name}"::text FROM {table} ORDER BY n')
                given[name] = [value for (value,) in cursor.fetchall()]
        yield database, given


def travelled(origin: Origin, warehouse: Endpoint, target: Any, *, checked: bool = True) -> Trip:
    database, given = origin
    checks = [{"type": "not_null", "columns": ["n"]}] if checked else []  # harmless, and no rows pass unseen
    streams = [
        {"name": f"public.{table}", "target": f"raw.{table}", "checks": checks, "writeDisposition": "replace"}
        for table in sorted({stream_of(name) for name in given})
    ]
    plan = RunPlan(
        action="run",
        namespace="test",
        name="types",
        source=Endpoint(name="s", type="postgres", config=dict(database.config)),
        warehouse=warehouse,
        pipeline=PipelineSpec.model_validate(
            {"sourceRef": {"name": "s"}, "warehouseRef": {"name": "w"}, "streams": streams}
        ),
    )
    return Trip(given, execute(RunRequest(plan, {}, "run-1", "test")), target)


@pytest.fixture(scope="module")
def into_postgres(origin: Origin, postgres_server: Postgres) -> Iterator[Trip]:
    with postgres_server.fresh_database() as database:
        yield travelled(origin, Endpoint(name="w", type="postgres", config=dict(database.config)), database)


@pytest.fixture(scope="module")
def undecoded(origin: Origin, postgres_server: Postgres) -> Iterator[Trip]:
    with postgres_server.fresh_database() as database:
        warehouse = Endpoint(name="w", type="postgres", config=dict(database.config))
        yield travelled(origin, warehouse, database, checked=False)


@pytest.fixture(scope="module")
def into_duckdb(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trip]:
    path = str(tmp_path_factory.mktemp("types") / "dw.duckdb")
    trip = travelled(origin, Endpoint(name="w", type="duckdb", config={"path": path}), None)
    connection = open_database(DuckDBConfig(path=path), "test")
    connection.execute("SET timezone = 'UTC'")
    yield Trip(trip.given, trip.report, connection)
    connection.close()


def expected(trip: Trip, name: str) -> list[str | None]:
    if name not in trip.given:
        assert name in (*EXTENSIONS, "xml"), "only what a server need not have may be absent"
    return [value for value in trip.given.get(name, []) if value not in SET_ASIDE.get(name, {})]


@pytest.mark.parametrize("name", LITERALS)
def test_postgres_to_postgres(into_postgres: Trip, name: str) -> None:
    wanted = expected(into_postgres, name)
    if wanted:
        place = f"raw.{stream_of(name)}"
        assert [v for (v,) in into_postgres.seen(f'SELECT "{name}"::text FROM {place} ORDER BY n')] == wanted
        declared = RETYPED.get(name, LITERALS[name][0])
        ((same, made),) = into_postgres.seen(
            f"SELECT atttypid = '{declared}'::regtype, format_type(atttypid, atttypmod) FROM pg_attribute "
            f"WHERE attname = '{name}' AND attrelid = '{place}'::regclass"
        )
        assert same, f"{declared} became {made}"
        assert ("(" in made) == ("(" in declared)


def test_rows_that_pass_undecoded_lose_nothing(undecoded: Trip) -> None:
    assert undecoded.seen("SELECT count(*) FROM _millstream.quarantine") == [(0,)]
    assert set(undecoded.given) >= set(LITERALS) - {*EXTENSIONS, "xml"}
    for name, wanted in undecoded.given.items():
        rows = undecoded.seen(f'SELECT "{name}"::text FROM raw.{stream_of(name)} ORDER BY n')
        assert (name, [value for (value,) in rows]) == (name, wanted)


@pytest.mark.parametrize("name", LITERALS)
def test_postgres_to_duckdb(into_duckdb: Trip, name: str) -> None:
    wanted = expected(into_duckdb, name)
    if wanted:
        shown = DUCKDB_SPELLED.get(name, "v::varchar")
        seen = [
            v
            for (v,) in into_duckdb.seen(
                f'SELECT {shown} FROM (SELECT n, "{name}" AS v FROM raw.{stream_of(name)}) ORDER BY n'
            )
        ]
        assert seen == ([*INTERVALS, *[None] * (ROWS - len(INTERVALS))] if name == "interval" else wanted)
        kinds = f"SELECT data_type FROM duckdb_columns() WHERE column_name = '{name}' AND schema_name = 'raw'"
        assert into_duckdb.seen(kinds) == [(DUCKDB.get(name, "VARCHAR"),)]


@pytest.mark.parametrize("into", ["into_postgres", "into_duckdb"])
def test_what_cannot_travel_is_set_aside_by_column_value_and_cure(into: str, request: pytest.FixtureRequest) -> None:
    trip: Trip = request.getfixturevalue(into)
    assert (trip.report.exit_code, trip.report.reason) == (0, "Succeeded")
    found = trip.seen("SELECT stream, rule, message FROM _millstream.quarantine ORDER BY stream, message")
    assert found == [
        (f"public.t_{name}", f"cast({name})", f"column '{name}': {why}")
        for name, values in sorted(SET_ASIDE.items())
        for why in values.values()
    ]
