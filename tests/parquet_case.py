"""What the tests of the warehouse `parquet` share: a case that looks into the files with a reader of its own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from millstream_pipelines.registry import configured
from millstream_pipelines.testing.warehouse_case import OWNER, WarehouseCase
from millstream_pipelines.warehouses._parquet.config import ParquetConfig
from millstream_pipelines.warehouses._parquet.looking import Looking
from millstream_pipelines.warehouses._parquet.store import Store, open_store
from millstream_pipelines.warehouses.parquet import ParquetWarehouse


def asked(config: Mapping[str, Any], sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query about the files of a warehouse and its `_millstream`."""
    store = open_store(configured(ParquetConfig, config, {}, OWNER), OWNER)
    with closing(Looking(store, OWNER, lambda table: None, "96MB")) as looking:
        return looking.rows(sql)


class ParquetCase(WarehouseCase):
    """A case in a folder."""

    warehouse = ParquetWarehouse

    @pytest.fixture
    def config(self, tmp_path: Path) -> dict[str, Any]:
        return {"url": str(tmp_path / "new" / "lake")}

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return asked({**self.config_seen, **self.secret_seen}, sql)

    @property
    def store(self) -> Store:
        return open_store(configured(ParquetConfig, self.config_seen, self.secret_seen, OWNER), OWNER)

    def stored(self, *below: str) -> list[str]:
        """Return what lies in storage below the test's own table."""
        folder = f"suite_{self.suffix}/people"
        return [key.removeprefix(f"{folder}/") for key in self.store.keys("/".join([folder, *below]))]
