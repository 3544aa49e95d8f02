"""A pipeline whose source changes its shape, into PostgreSQL and into DuckDB; what the tests of contracts share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from millstream_api import Endpoint, RunPlan, RunReport
from millstream_api.pipeline import PipelineSpec
from millstream_pipelines.explaining import differences
from millstream_pipelines.runner import RunRequest, execute
from millstream_pipelines.warehouses._duckdb.config import DuckDBConfig
from millstream_pipelines.warehouses._duckdb.connection import open_database, rows
from servers.postgres import Postgres

Columns = dict[str, str]
Rows = list[dict[str, Any]]
_numbers = iter(range(10_000))


class Place:
    """A pipeline from rows in memory into a table of its own."""

    def __init__(self, warehouse: Endpoint, ask: Callable[[str], list[tuple[Any, ...]]]) -> None:
        number = next(_numbers)
        self.warehouse, self.ask = warehouse, ask
        self.target, self.name, self.runs = f"raw.t{number}", f"p{number}", 0

    def request(self, shape: Columns, given: Rows, **stream: Any) -> RunRequest:
        self.runs += 1
        base = {"name": "s", "target": self.target, "mode": "full"}
        memory = {"streams": {"s": {"columns": shape, "rows": given}}, "batchRows": stream.pop("batch_rows", 100)}
        plan = RunPlan(
            action="run",
            namespace="test",
            name=self.name,
            source=Endpoint(name="m", type="memory", config=memory),
            warehouse=self.warehouse,
            pipeline=PipelineSpec.model_validate(
                {"sourceRef": {"name": "m"}, "warehouseRef": {"name": "w"}, "streams": [base | stream]}
            ),
        )
        return RunRequest(plan, {}, f"{self.name}-{self.runs}", "test")

    def run(self, shape: Columns, given: Rows, **stream: Any) -> RunReport:
        """Run once; every row is accounted for. What `explain --diff` foretells is what the run reports."""
        request = self.request(shape, given, **stream)
        foretold = differences(request)[0] if self.runs > 1 else None
        report = execute(request)
        assert [item.balance() for item in report.streams] == [0]
        if foretold is not None and foretold.table == "stays":
            assert foretold.drift == report.drift
        return report

    def rows(self, columns: str) -> list[tuple[Any, ...]]:
        return self.ask(f"SELECT {columns} FROM {self.target} ORDER BY 1")

    def types(self) -> Columns:
        schema, table = self.target.split(".")
        found = self.ask(
            "SELECT column_name, lower(data_type) FROM information_schema.columns "
            f"WHERE table_schema = '{schema}' AND table_name = '{table}' ORDER BY ordinal_position"
        )
        return dict(found)

    def rules(self) -> list[str]:
        where = f"pipeline = 'test/{self.name}'"
        return [rule for (rule,) in self.ask(f"SELECT rule FROM _millstream.quarantine WHERE {where} ORDER BY id")]


@pytest.fixture(scope="module")
def servers(
    postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[Endpoint, Callable[[str], list[tuple[Any, ...]]]]]]:
    path = str(tmp_path_factory.mktemp("contracts") / "dw.duckdb")

    def asked(sql: str) -> list[tuple[Any, ...]]:
        connection = open_database(DuckDBConfig(path=path), "test")
        try:
            return rows(connection, sql) if sql.startswith("SELECT") else [() for _ in [connection.execute(sql)]]
        finally:
            connection.close()

    with postgres_server.fresh_database() as database:
        database.execute("CREATE SCHEMA raw")
        asked("CREATE SCHEMA raw")
        yield {
            "postgres": (Endpoint(name="w", type="postgres", config=dict(database.config)), database.execute),
            "duckdb": (Endpoint(name="w", type="duckdb", config={"path": path}), asked),
        }


@pytest.fixture(params=["postgres", "duckdb"])
def place(servers: dict[str, Any], request: pytest.FixtureRequest) -> Place:
    return Place(*servers[request.param])


BASE = {"id": "bigint", "v": "text"}
MORE = {**BASE, "w": "integer"}
FIRST = [{"id": 1, "v": "a"}]
SECOND = [{"id": 2, "v": "b", "w": 5}, {"id": 3, "v": "c", "w": None}]


def outcome(report: RunReport) -> tuple[int, str]:
    return report.exit_code, report.reason


def counts(report: RunReport) -> tuple[int, int, int, int]:
    (stream,) = report.streams
    return stream.read, stream.loaded, stream.quarantined, stream.filtered


def shown(report: RunReport) -> list[tuple[str, str, str, str, str]]:
    return [(item.column, item.change, item.before, item.after, item.action) for item in report.drift]
