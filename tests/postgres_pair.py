"""Two real PostgreSQLs and a pipeline from one to the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from millstream_api import Endpoint, RunOptions, RunPlan, RunReport
from millstream_api.pipeline import PipelineSpec
from millstream_pipelines.explaining import explain
from millstream_pipelines.runner import RunRequest, execute
from servers.postgres import Postgres


class Pair:
    """A source database, a warehouse database, and a pipeline from one to the other."""

    def __init__(self, source: Postgres, warehouse: Postgres) -> None:
        self.source, self.warehouse, self.runs = source, warehouse, 0
        self.stream: dict[str, Any] = {"name": "public.t", "target": "raw.t"}
        self.config: dict[str, Any] = {}

    def request(self, **spec: Any) -> RunRequest:
        pipeline = {"sourceRef": {"name": "s"}, "warehouseRef": {"name": "w"}, "streams": [self.stream], **spec}
        plan = RunPlan(
            action="run",
            namespace="test",
            name="paths",
            source=Endpoint(name="s", type="postgres", config={**self.source.config, **self.config}),
            warehouse=Endpoint(name="w", type="postgres", config=dict(self.warehouse.config)),
            pipeline=PipelineSpec.model_validate(pipeline),
        )
        return RunRequest(plan, {}, f"run-{self.runs}", "test", RunOptions())

    def run(self, **stream: Any) -> RunReport:
        """Run once; whatever comes of it, every row is accounted for."""
        self.runs += 1
        self.stream |= stream
        return self.execute()

    def execute(self, **spec: Any) -> RunReport:
        """Run the pipeline with further fields."""
        report = execute(self.request(**spec))
        assert [item.balance() for item in report.streams] == [0] * len(report.streams)
        return report

    def path(self, **stream: Any) -> str:
        self.stream |= stream
        return explain(self.request())[0].path

    def seen(self, columns: str = "*", database: Postgres | None = None, table: str = "raw.t") -> list[tuple[Any, ...]]:
        return (database or self.warehouse).execute(f"SELECT {columns} FROM {table} ORDER BY 1")


@pytest.fixture
def pair(postgres_server: Postgres, postgres_database: Postgres) -> Iterator[Pair]:
    with postgres_server.fresh_database() as other:
        yield Pair(postgres_database, other)


def done(report: RunReport) -> tuple[int, int, int]:
    assert report.exit_code == 0, report.message
    assert report.totals is not None
    return report.totals.read, report.totals.loaded, report.totals.quarantined


def numbered(database: Postgres, rows: int, columns: str = "n AS id, 'name ' || n AS name") -> None:
    database.execute(f"CREATE TABLE t AS SELECT {columns} FROM generate_series(1, {rows}) n")
    database.execute("ALTER TABLE t ADD PRIMARY KEY (id)")
