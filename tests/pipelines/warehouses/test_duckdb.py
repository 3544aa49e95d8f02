"""The warehouse `duckdb`: the suite, and what only DuckDB promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millstream_pipelines.testing.warehouse import WarehouseSuite
from millstream_pipelines.testing.warehouse_case import OWNER, WarehouseCase
from millstream_pipelines.warehouses._duckdb.config import DuckDBConfig
from millstream_pipelines.warehouses._duckdb.connection import open_database, rows
from millstream_pipelines.warehouses.duckdb import DuckDBWarehouse


class DuckDBCase(WarehouseCase):
    """A case that looks into the file over a connection of its own."""

    warehouse = DuckDBWarehouse
    failed_query_ends_transaction = True

    @pytest.fixture
    def config(self, tmp_path: Path) -> dict[str, Any]:
        return {"path": str(tmp_path / "new" / "dw.duckdb")}

    @pytest.fixture(autouse=True)
    def _looking(self, config: dict[str, Any]) -> Iterator[None]:
        self.other = open_database(DuckDBConfig(**config), OWNER)
        yield
        self.other.close()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return rows(self.other, sql)

    def execute(self, sql: str) -> None:
        self.other.execute(sql)


class TestSuite(DuckDBCase, WarehouseSuite):
    """The shared suite."""
