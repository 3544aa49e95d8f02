"""Orders in a folder of ndjson, loaded with their items as a child table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from millstream_api import Endpoint, RunPlan, RunReport
from millstream_api.pipeline import PipelineSpec
from millstream_pipelines.runner import RunRequest, execute
from servers.postgres import Postgres

BOTH = {"objects": "columns", "lists": "tables"}
MERGE: dict[str, Any] = {"primaryKey": ["id"], "writeDisposition": "merge", "nested": BOTH}
FULL: dict[str, Any] = {"mode": "full", "writeDisposition": "replace"}
_numbers = iter(range(10_000))


class Orders:
    """A folder of ndjson, and a pipeline from it into a schema of its own."""

    def __init__(self, folder: Path, database: Postgres) -> None:
        self.folder, self.database, self.runs = folder, database, 0
        self.schema = f"s{next(_numbers)}"

    def put(self, *records: dict[str, Any] | str) -> None:
        """Write one more file."""
        lines = [item if isinstance(item, str) else json.dumps(item) for item in records]
        (self.folder / f"{len(list(self.folder.iterdir())):03}.ndjson").write_text("\n".join(lines))

    def run(
        self,
        warehouse: Endpoint | None = None,
        budget: dict[str, Any] | None = None,
        again: bool = False,
        **stream: Any,
    ) -> RunReport:
        """Run a new run, or once more the one before."""
        self.runs += not again
        base = {"name": "orders", "target": f"{self.schema}.orders", "mode": "incremental", "primaryKey": ["id"]}
        columns = [{"name": "id", "type": "bigint"}]
        pipeline = {
            "sourceRef": {"name": "f"}, "warehouseRef": {"name": "w"}, "errorBudget": budget or {},
            "streams": [base | {"columns": columns, "nested": BOTH} | stream],
        }  # fmt: skip
        plan = RunPlan(
            action="run",
            namespace="test",
            name=self.schema,
            source=Endpoint(
                name="f", type="files", config={"url": str(self.folder), "streams": [{"name": "orders", "glob": "*"}]}
            ),
            warehouse=warehouse or Endpoint(name="w", type="postgres", config=dict(self.database.config)),
            pipeline=PipelineSpec.model_validate(pipeline),
        )
        report = execute(RunRequest(plan, {}, f"{self.schema}-{self.runs}", "test"))
        assert [item.balance() for item in report.streams] == [0] * len(report.streams)
        return report

    def rows(self, columns: str, table: str = "orders") -> list[tuple[Any, ...]]:
        return self.database.execute(f'SELECT {columns} FROM {self.schema}."{table}" ORDER BY {columns}')

    def items(self, columns: str = "_parent_id, _index, sku") -> list[tuple[Any, ...]]:
        return self.rows(columns, "orders__items")

    def quarantined(self) -> list[tuple[Any, ...]]:
        where = f"pipeline = 'test/{self.schema}' ORDER BY id"
        return self.database.execute(f'SELECT stream, rule, "row" FROM _millstream.quarantine WHERE {where}')


def counts(report: RunReport) -> dict[str, tuple[int, int, int, int, int]]:
    return {s.name: (s.read, s.loaded, s.quarantined, s.duplicate, s.filtered) for s in report.streams}


def order(key: int | str, *skus: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "items": [{"sku": sku, "price": 1.5} for sku in skus], **more}
