"""Whole runs from one PostgreSQL database into another place of it, as a pod would do them."""

from __future__ import annotations

from typing import Any

import pytest

from millstream_api import Endpoint, RunOptions, RunPlan, RunReport
from millstream_api.pipeline import PipelineSpec
from millstream_pipelines.runner import RunRequest, execute
from servers.postgres import Postgres


class Runs:
    """Streams run from schema `public` of a database into its schema `raw`; each run has a name of its own."""

    @pytest.fixture(autouse=True)
    def _database(self, postgres_database: Postgres) -> None:
        self.source = self.warehouse = postgres_database
        self.count = 0

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return self.warehouse.execute(sql)

    def run_stream(
        self,
        name: str,
        *,
        source: tuple[str, dict[str, Any]] | None = None,
        options: RunOptions | None = None,
        **stream: Any,
    ) -> RunReport:
        """Run one stream into `raw.<name>` and return the report; its sums close."""
        self.count += 1
        kind, config = source or ("postgres", dict(self.source.config))
        spec = {
            "sourceRef": {"name": "s"},
            "warehouseRef": {"name": "w"},
            "streams": [{"name": name if source else f"public.{name}", "target": f"raw.{name}"} | stream],
        }
        plan = RunPlan(
            action="run",
            namespace="test",
            name="items",
            source=Endpoint(name="s", type=kind, config=config),
            warehouse=Endpoint(name="w", type="postgres", config=dict(self.warehouse.config)),
            pipeline=PipelineSpec.model_validate(spec),
        )
        report = execute(RunRequest(plan, {}, f"run-{self.count}", "pod", options or RunOptions()))
        assert report.totals is not None
        assert report.totals.balance() == 0
        return report
