"""DuckDB as a warehouse: one file, one process at a time, the same tables and protocol as PostgreSQL.

The engine is imported when the warehouse is first used, not with this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from millstream_api import RunReport
from millstream_api.pipeline import TransformSpec
from millstream_pipelines.schema import Schema
from millstream_pipelines.selection import Selection
from millstream_pipelines.warehouses import set_aside
from millstream_pipelines.warehouses._duckdb.config import DuckDBConfig
from millstream_pipelines.warehouses.base import LoadSpec, WarehouseFeature, WarehouseInfo
from millstream_pipelines.warehouses.fitting import TableShape, spelled
from millstream_pipelines.warehouses.names import quote, quote_table

if TYPE_CHECKING:
    import duckdb

    from millstream_pipelines.warehouses._duckdb.load import DuckDBLoad


class DuckDBWarehouse:
    """See `Warehouse`. Nothing is opened before the first use."""

    Config = DuckDBConfig
    dialect: Literal["postgres", "duckdb"] = "duckdb"
    features: ClassVar[frozenset[WarehouseFeature]] = frozenset({"merge", "backfill", "replay", "transforms"})

    def __init__(self, config: DuckDBConfig, owner: str) -> None:
        self._config = config
        self._owner = owner
        self._opened: duckdb.DuckDBPyConnection | None = None
        self._loads: list[DuckDBLoad] = []

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The connection, opened at first use."""
        if self._opened is None:
            from millstream_pipelines.warehouses._duckdb.connection import open_database

            self._opened = open_database(self._config, self._owner)
        return self._opened

    def probe(self) -> WarehouseInfo:
        """See `Warehouse.probe`."""
        import duckdb

        from millstream_pipelines.warehouses._duckdb import metadata

        return WarehouseInfo(duckdb.__version__, metadata.migrate(self.connection, self._owner))

    def load(self, spec: LoadSpec) -> DuckDBLoad:
        """See `Warehouse.load`."""
        from millstream_pipelines.warehouses._duckdb.load import DuckDBLoad

        if spec.window is None:
            made = DuckDBLoad(self.connection, self._config.path, spec, self._owner)
        else:
            from millstream_pipelines.warehouses._duckdb.backfill import DuckDBBackfill

            made = DuckDBBackfill(self.connection, self._config.path, spec, self._owner)
        self._loads.append(made)
        return made

    def materialize(self, spec: TransformSpec, checked: Callable[[], None]) -> int:
        """See `Warehouse.materialize`."""
        from millstream_pipelines.warehouses._duckdb import publish

        return publish.materialize(self.connection, spec, checked, self._owner)

    def shape_of(self, table: str, schema: Schema) -> TableShape | None:
        """See `Warehouse.shape_of`."""
        from millstream_pipelines.warehouses._duckdb.connection import translating
        from millstream_pipelines.warehouses._duckdb.tables import read_table

        with translating(self._owner, f"reading the shape of {table}"):
            found = read_table(self.connection, table, only=set(schema.names))
        return None if found is None else spelled(found.shape, schema)

    def explain_load(self, spec: LoadSpec, schema: Schema) -> list[str]:
        """See `Warehouse.explain_load`."""
        from millstream_pipelines.warehouses._duckdb.connection import translating
        from millstream_pipelines.warehouses._duckdb.explain import explain_load

        with translating(self._owner, f"reading the shape of {spec.target}"):
            return explain_load(self.connection, spec, schema)

    def discard(self, selection: Selection, reason: str, who: str) -> int:
        """See `Warehouse.discard`."""
        from millstream_pipelines.warehouses._duckdb.connection import run, translating

        with translating(self._owner, "discarding quarantined rows"):
            return run(self.connection, set_aside.discard(selection, reason, who))

    def record_run(self, pipeline: str, run_name: str, report: RunReport) -> None:
        """See `Warehouse.record_run`."""
        from millstream_pipelines.warehouses._duckdb import runs
        from millstream_pipelines.warehouses._duckdb.connection import translating

        with translating(self._owner, "recording the run"):
            runs.record(self.connection, pipeline, run_name, report)

    # -- TableQueries -------------------------------------------------------------------------------------------

    def quoted(self, table: str) -> str:
        """See `TableQueries.quoted`."""
        return quote_table(table, "main")

    def identifier(self, name: str) -> str:
        """See `TableQueries.identifier`."""
        return quote(name)

    def scalar(self, sql: str) -> object:
        """See `TableQueries.scalar`.

        A query that fails while it runs ends the transaction it is in: DuckDB has no savepoints. The commit then fails.
        """
        from millstream_pipelines.warehouses._duckdb.connection import rows, translating

        with translating(self._owner, "asking the warehouse"):
            found = rows(self.connection, sql)
        return found[0][0] if found else None

    def close(self) -> None:
        """See `Warehouse.close`."""
        for load in self._loads:
            load.release()
        self._loads = []
        if self._opened is not None:
            self._opened.close()
        self._opened = None
