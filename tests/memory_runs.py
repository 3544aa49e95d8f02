"""Whole runs from rows in memory into a real warehouse of either kind, and a look into its tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest

from millstream_api import Endpoint, RunOptions, RunPlan, RunReport
from millstream_api.pipeline import PipelineSpec
from millstream_api.run_options import Replay
from millstream_pipelines.runner import RunRequest, execute, open_warehouse
from millstream_pipelines.warehouses.base import Warehouse
from servers.postgres import Postgres

PIPELINE = "test/p"


@dataclass
class Works:
    """A pipeline `p` with one stream `s` into `raw.s`; each call of `run` is a run of its own."""

    warehouse: Endpoint
    database: Postgres | None = None
    runs: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)
    batch_rows: int = 100_000
    source: Endpoint | None = None
    """In place of the rows in memory."""

    def plan(self, stream: dict[str, Any] | None = None, **spec: Any) -> RunPlan:
        base = {"name": "s", "target": "raw.s", "mode": "incremental"}
        pipeline = {"sourceRef": {"name": "m"}, "warehouseRef": {"name": "w"}, "streams": [base | (stream or {})]}
        source = {"batchRows": self.batch_rows, "streams": {"s": {"columns": self.types, "rows": self.rows}}}
        return RunPlan(
            action="run",
            namespace="test",
            name="p",
            source=self.source or Endpoint(name="m", type="memory", config=source),
            warehouse=self.warehouse,
            pipeline=PipelineSpec.model_validate({**pipeline, **spec}),
        )

    def run(
        self, stream: dict[str, Any] | None = None, *, options: RunOptions | None = None, name: str = "", **spec: Any
    ) -> RunReport:
        """Run once; whatever comes of it, every row is accounted for and the report fits."""
        self.runs += 1
        request = RunRequest(self.plan(stream, **spec), {}, name or f"run-{self.runs}", "test", options or RunOptions())
        report = execute(request)
        assert [item.balance() for item in report.streams] == [0] * len(report.streams)
        assert len(report.fitted()) <= 4096
        return report

    @contextmanager
    def opened(self) -> Iterator[Warehouse]:
        """Open the warehouse as the runner does."""
        warehouse = open_warehouse(self.warehouse, {})
        try:
            yield warehouse
        finally:
            warehouse.close()

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Run SQL over a connection of its own."""
        if self.database is not None:
            return self.database.execute(sql)
        with duckdb.connect(self.warehouse.config["path"]) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            found: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
        return found


@pytest.fixture(params=["postgres", "duckdb"])
def works(request: pytest.FixtureRequest, tmp_path: Path) -> Works:
    """Both warehouses, each with nothing in it."""
    if request.param == "duckdb":
        return Works(Endpoint(name="w", type="duckdb", config={"path": str(tmp_path / "w.duckdb")}))
    database = request.getfixturevalue("postgres_database")
    return Works(Endpoint(name="w", type="postgres", config=dict(database.config)), database)


@pytest.fixture
def postgres_works(postgres_database: Postgres) -> Works:
    """PostgreSQL alone, for what only a server has: triggers, enums, other sessions."""
    return Works(Endpoint(name="w", type="postgres", config=dict(postgres_database.config)), postgres_database)


def counted(report: RunReport) -> tuple[int, int, int, int, int]:
    """Return read, loaded, quarantined, duplicate, filtered of a run."""
    totals = report.totals
    assert totals is not None
    return totals.read, totals.loaded, totals.quarantined, totals.duplicate, totals.filtered


def replay(
    works: Works,
    stream: dict[str, Any] | None = None,
    *,
    run: str = "",
    spec: dict[str, Any] | None = None,
    **chosen: Any,
) -> RunReport:
    """Replay the chosen rows of the quarantine."""
    options = RunOptions(trigger="replay", replay=Replay(**chosen))
    return works.run(stream, options=options, name=run, **(spec or {}))


def statuses(works: Works) -> dict[str, int]:
    """Return how many rows of the quarantine have each status."""
    found = works.ask("SELECT status, count(*) FROM _millstream.quarantine GROUP BY status")
    return {str(status): int(count) for status, count in found}
