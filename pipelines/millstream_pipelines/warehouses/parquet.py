"""Parquet files as a warehouse, in object storage or a folder: every type kept, exactly-once by a log of commits.

Rows, quarantine, position and counts become true by the creation of one object that only one of several racers can
create. Engines are imported when they are needed, not with this module.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, Literal

from millstream_api import RunReport
from millstream_api.pipeline import TransformSpec
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.schema import Schema
from millstream_pipelines.selection import Selection
from millstream_pipelines.warehouses._parquet.config import ParquetConfig
from millstream_pipelines.warehouses.base import LoadSpec, WarehouseFeature, WarehouseInfo
from millstream_pipelines.warehouses.fitting import TableShape
from millstream_pipelines.warehouses.names import quote, quote_table

if TYPE_CHECKING:
    from millstream_pipelines.warehouses._parquet.load import ParquetLoad
    from millstream_pipelines.warehouses._parquet.looking import Looking
    from millstream_pipelines.warehouses._parquet.store import Store
    from millstream_pipelines.warehouses._parquet.tables import Pending


class ParquetWarehouse:
    """See `Warehouse`. Nothing is opened before the first use."""

    Config = ParquetConfig
    dialect: Literal["postgres", "duckdb"] = "duckdb"
    kind = "parquet"
    features: ClassVar[frozenset[WarehouseFeature]] = frozenset()

    def __init__(self, config: ParquetConfig, owner: str) -> None:
        self._config = config
        self._owner = owner
        self._opened: Store | None = None
        self._looked: Looking | None = None
        self._loads: list[ParquetLoad] = []

    @property
    def _store(self) -> Store:
        if self._opened is None:
            from millstream_pipelines.warehouses._parquet.store import open_store

            self._opened = open_store(self._config, self._owner)
        return self._opened

    def probe(self) -> WarehouseInfo:
        """See `Warehouse.probe`. ConfigurationError where the storage lets an object be created twice."""
        from millstream_pipelines.warehouses._parquet import proof

        return WarehouseInfo(f"Parquet, written by pyarrow {proof.WRITER}", proof.prove(self._store, self._owner))

    def load(self, spec: LoadSpec) -> ParquetLoad:
        """See `Warehouse.load`. Who loads the stream now is superseded: storage cannot say who is alive."""
        from millstream_pipelines.warehouses._parquet.load import ParquetLoad

        made = ParquetLoad(self._store, spec, self._owner, self._config)
        self._loads.append(made)
        return made

    def files(self, table: str) -> list[str]:
        """Return the files of a table as of now, as other tools open them. A glob would find more: see the docs."""
        from millstream_pipelines.warehouses._parquet.log import TableLog, parts

        log = TableLog(self._store, *parts(table), self._owner)
        return [self._store.address(f"{log.folder}/{item.key}") for item in log.read().files]

    def materialize(self, spec: TransformSpec, checked: Callable[[], None]) -> int:
        """Refuse: see `Warehouse.materialize`."""
        raise ConfigurationError(
            f"transform '{spec.name}': transforms are not built for a warehouse of type 'parquet'; build {spec.target} "
            "with the engine that reads the files, or load into a warehouse of type postgres or duckdb"
        )

    def shape_of(self, table: str, schema: Schema) -> TableShape | None:
        """See `Warehouse.shape_of`."""
        from millstream_pipelines.warehouses._parquet.log import TableLog, parts
        from millstream_pipelines.warehouses._parquet.tables import shape_of

        found = TableLog(self._store, *parts(table), self._owner).read().shape
        return None if found is None else shape_of(found, schema)

    def explain_load(self, spec: LoadSpec, schema: Schema) -> list[str]:
        """See `Warehouse.explain_load`: there is no SQL, so it is told what is written and what commits it."""
        from millstream_pipelines.warehouses._parquet.explain import explain_load

        return explain_load(self._store, spec, schema, self._owner)

    def discard(self, selection: Selection, reason: str, who: str) -> int:
        """Refuse: what is written stays as it is. See `Warehouse.discard`."""
        raise ConfigurationError(
            f"{self._owner}: rows set aside beside Parquet files cannot be given up or replayed; they stay for reading "
            "(`millstream quarantine list`)"
        )

    def record_run(self, pipeline: str, run: str, report: RunReport) -> None:
        """See `Warehouse.record_run`: an object under `_millstream/runs`."""
        from millstream_pipelines.warehouses._parquet.history import record

        record(self._store, pipeline, run, report, datetime.now(UTC).isoformat())

    # -- TableQueries -------------------------------------------------------------------------------------------

    def quoted(self, table: str) -> str:
        """See `TableQueries.quoted`."""
        return quote_table(table, "main")

    def identifier(self, name: str) -> str:
        """See `TableQueries.identifier`."""
        return quote(name)

    def scalar(self, sql: str) -> object:
        """See `TableQueries.scalar`: asked of an in-memory DuckDB over the files."""
        if self._looked is None:
            from millstream_pipelines.warehouses._parquet.looking import Looking

            self._looked = Looking(self._store, self._owner, self._pending, self._config.memory_limit)
        found = self._looked.rows(sql)
        return found[0][0] if found else None

    def _pending(self, table: tuple[str, str]) -> Pending | None:
        from millstream_pipelines.warehouses._parquet.log import parts

        found = (load.pending() for load in self._loads if parts(load.target) == table)
        return next((item for item in found if item is not None), None)

    def close(self) -> None:
        """See `Warehouse.close`."""
        loads, self._loads = self._loads, []
        for load in loads:
            load.rollback()
        if self._looked is not None:
            self._looked.close()
        self._looked = None
