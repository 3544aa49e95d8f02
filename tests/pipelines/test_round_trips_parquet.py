"""Every PostgreSQL type through a whole run into Parquet files, read by DuckDB: what went in, or set aside by name."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import duckdb
import psycopg2
import pyarrow.parquet as pq
import pytest

from millstream_api import Endpoint, RunPlan, RunReport
from millstream_api.pipeline import PipelineSpec
from millstream_pipelines.runner import RunRequest, execute
from millstream_pipelines.warehouses.parquet import ParquetWarehouse
from parquet_case import asked
from servers.plugin import postgres_server
from servers.postgres import Postgres
from type_literals import DUCKDB_SPELLED, EXTENSIONS, LITERALS, SETUP

__all__ = ["postgres_server"]

# What no file gets; all else must arrive.
SET_ASIDE: dict[str, list[str]] = {
    "numeric_12_2": ["NaN"],
    "date": ["infinity", "-infinity"],
    "time": ["24:00:00"],
    "timestamp": ["294276-12-31 23:59:59.999999", "infinity", "-infinity"],
    "timestamptz": ["294276-12-31 23:59:59.999999+00", "infinity", "-infinity"],
    "timestamp_3": ["infinity"],
    "timestamptz_0": ["-infinity"],
    "int_array": ["{{1,2},{3,4}}", "[0:1]={5,6}"],
    "numeric_array": ["{1.50,NaN}"],
    "timestamptz_array": ['{"2026-01-01 00:00:00+00",infinity}'],
}
# DuckDB's type of the column in the file; all others are text in PostgreSQL's spelling.
STORED = {
    "smallint": "SMALLINT", "integer": "INTEGER", "domain": "INTEGER", "bigint": "BIGINT", "boolean": "BOOLEAN",
    "numeric_12_2": "DECIMAL(12,2)", "numeric_38_10": "DECIMAL(38,10)", "real": "FLOAT", "double": "DOUBLE",
    "bytea": "BLOB", "date": "DATE", "time": "TIME", "time_3": "TIME", "timestamp": "TIMESTAMP", "uuid": "UUID",
    "timestamptz": "TIMESTAMP WITH TIME ZONE", "timestamp_3": "TIMESTAMP", "timestamptz_0": "TIMESTAMP WITH TIME ZONE",
    "json": "JSON", "jsonb": "JSON", "int_array": "INTEGER[]", "text_array": "VARCHAR[]", "jsonb_array": "JSON[]",
    "enum_array": "VARCHAR[]",
    "numeric_array": "DECIMAL(12,2)[]", "timestamptz_array": "TIMESTAMP WITH TIME ZONE[]",
}  # fmt: skip
LISTS: dict[str, list[Any]] = {
    "int_array": [[], [1, None, 3], [None], None],
    "text_array": [["a,b", 'c"d\\', None, "NULL", "", "🐟"], [], None],
    "enum_array": [["ok", "very sad", None], None],
    "jsonb_array": [['{"a": [1, 2]}', None], None],
    "numeric_array": [None],
    "timestamptz_array": [None],
}

Trip = tuple[dict[str, list[str | None]], RunReport, dict[str, Any]]


@pytest.fixture(scope="module")
def trip(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Trip:
    """One table per type, one run for all of them."""
    given: dict[str, list[str | None]] = {}
    config = {"url": str(tmp_path_factory.mktemp("types") / "lake")}
    with postgres_server.fresh_database() as database, closing(psycopg2.connect(database.dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in SETUP:
                cursor.execute(statement)
            for name, (declared, values) in LITERALS.items():
                if name in EXTENSIONS or name == "xml":
                    try:
                        cursor.execute("SELECT '<a/>'::xml" if name == "xml" else f"CREATE EXTENSION {name}")
                    except psycopg2.Error:
                        continue  # not built into this server
                cursor.execute(f"CREATE TABLE t_{name} (n integer PRIMARY KEY, v {declared})")
                insert = f"INSERT INTO t_{name} VALUES (%s, %s::text::{declared})"
                cursor.executemany(insert, list(enumerate([*values, None])))
                cursor.execute(f"SELECT v::text FROM t_{name} ORDER BY n")
                given[name] = [value for (value,) in cursor.fetchall()]
        streams = [
            {"name": f"public.t_{name}", "target": f"raw.{name}", "writeDisposition": "replace"} for name in given
        ]
        plan = RunPlan(
            action="run",
            namespace="test",
            name="types",
            source=Endpoint(name="s", type="postgres", config=dict(database.config)),
            warehouse=Endpoint(name="w", type="parquet", config=config),
            pipeline=PipelineSpec.model_validate(
                {"sourceRef": {"name": "s"}, "warehouseRef": {"name": "w"}, "streams": streams}
            ),
        )
        report = execute(RunRequest(plan, {}, "run-1", "test"))
    return given, report, config


@pytest.mark.parametrize("name", LITERALS)
def test_postgres_to_parquet(trip: Trip, name: str) -> None:
    given, report, config = trip
    assert (report.exit_code, report.reason) == (0, "Succeeded")
    if name not in given:
        assert name in (*EXTENSIONS, "xml"), "only what a server need not have may be absent"
        return
    wanted: list[Any] = [value for value in given[name] if value not in SET_ASIDE.get(name, [])]
    (file,) = ParquetWarehouse(ParquetWarehouse.Config(**config), "test").files(f"raw.{name}")
    shown = "v" if name in LISTS else "v::varchar" if name == "interval" else DUCKDB_SPELLED.get(name, "v::varchar")
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.sql(f"SELECT v FROM read_parquet('{file}') ORDER BY n")
        assert str(found.types[0]) == STORED.get(name, "VARCHAR")
        assert [value for (value,) in found.project(shown).fetchall()] == LISTS.get(name, wanted)
    assert pq.read_schema(file).field("v").metadata[b"millstream.type"]


def test_what_cannot_travel_is_set_aside_by_column_and_value(trip: Trip) -> None:
    _, _, config = trip
    found = asked(config, "SELECT target, rule, message FROM _millstream.quarantine")
    assert {rule for _, rule, _ in found} == {"cast(v)"}
    for name, values in SET_ASIDE.items():
        messages = [message for target, _, message in found if target == f"raw.{name}"]
        assert len(messages) == len(values)
        assert all(any(f"'{value}'" in message for message in messages) for value in values), messages
    assert len(found) == sum(map(len, SET_ASIDE.values()))
