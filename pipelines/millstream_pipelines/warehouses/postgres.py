"""PostgreSQL (and TimescaleDB) as a warehouse: one connection, one transaction at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as Connection

from millstream_api import RunReport
from millstream_api.pipeline import TransformSpec
from millstream_pipelines.errors import MillstreamError
from millstream_pipelines.schema import Schema
from millstream_pipelines.selection import Selection
from millstream_pipelines.warehouses import set_aside
from millstream_pipelines.warehouses._postgres import metadata, publish, stage
from millstream_pipelines.warehouses._postgres.backfill import PostgresBackfill
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig, connect, one, run, translating
from millstream_pipelines.warehouses._postgres.load import PostgresLoad
from millstream_pipelines.warehouses._postgres.merging import fitted, merge_statements
from millstream_pipelines.warehouses._postgres.shards import PostgresShards
from millstream_pipelines.warehouses._postgres.slices import PostgresPublication, PostgresSlice
from millstream_pipelines.warehouses._postgres.sweeping_load import PostgresSweepingLoad
from millstream_pipelines.warehouses._postgres.tables import read_shape
from millstream_pipelines.warehouses.base import LoadSpec, WarehouseFeature, WarehouseInfo
from millstream_pipelines.warehouses.fitting import TableShape
from millstream_pipelines.warehouses.names import quote, quote_table

if TYPE_CHECKING:
    from millstream_pipelines.retention.ddl import Ddl


class PostgresWarehouse:
    """See `Warehouse`. Nothing is connected before the first use."""

    Config = PostgresConfig
    dialect: Literal["postgres", "duckdb"] = "postgres"
    features: ClassVar[frozenset[WarehouseFeature]] = frozenset(
        {"merge", "scd2", "deletes", "backfill", "shards", "children", "replay", "transforms", "tags"}
    )

    def __init__(self, config: PostgresConfig, owner: str) -> None:
        self._config = config
        self._owner = owner
        self._opened: Connection | None = None
        self._loading: PostgresLoad | None = None

    @property
    def connection(self) -> Connection:
        """The connection, opened at first use."""
        if self._opened is None or self._opened.closed:
            self._opened = connect(self._config, self._owner)
        return self._opened

    def probe(self) -> WarehouseInfo:
        """See `Warehouse.probe`."""
        try:
            version = metadata.migrate(self.connection, self._owner)
        except MillstreamError:
            self._idle()
            raise
        number = self.connection.server_version
        return WarehouseInfo(f"{number // 10000}.{number % 10000}", version)

    def load(self, spec: LoadSpec) -> PostgresLoad:
        """See `Warehouse.load`."""
        made: type[PostgresLoad] = PostgresSweepingLoad if spec.window is None else PostgresBackfill
        if spec.shard is not None:
            made = PostgresPublication if spec.shard.index is None else PostgresSlice
        self._loading = made(lambda: self.connection, spec, self._owner)
        self._loading.altering = self._altering
        return self._loading

    def _altering(self) -> Ddl:
        from millstream_pipelines.retention.ddl import Ddl

        return Ddl(self._config, self._owner, lock_timeout_s=1.0)

    def shards(self, pipeline: str, run: str, count: int) -> PostgresShards:
        """See `ShardWarehouse.shards`."""
        return PostgresShards(lambda: self.connection, self._owner, pipeline, run, count)

    def materialize(self, spec: TransformSpec, checked: Callable[[], None]) -> int:
        """See `Warehouse.materialize`."""
        return publish.materialize(self.connection, spec, checked, self._owner)

    def shape_of(self, table: str, schema: Schema) -> TableShape | None:
        """See `Warehouse.shape_of`."""
        self._pause()
        idle = self.connection.info.transaction_status == TRANSACTION_STATUS_IDLE
        with translating(self._owner, f"reading the shape of {table}"):
            try:
                return read_shape(self.connection, table)
            finally:
                if idle:
                    self._idle()

    def fitted(self, spec: LoadSpec, schema: Schema) -> Schema:
        """See `RawWarehouse.fitted`."""
        return self._fit(spec, schema)[0]

    def explain_load(self, spec: LoadSpec, schema: Schema) -> list[str]:
        """See `Warehouse.explain_load`."""
        return self._explained(spec, schema, raw=False)

    def explain_raw(self, spec: LoadSpec, schema: Schema) -> list[str]:
        """See `RawWarehouse.explain_raw`."""
        return self._explained(spec, schema, raw=True)

    def _explained(self, spec: LoadSpec, schema: Schema, *, raw: bool) -> list[str]:
        sent, statements = self._fit(spec, schema)
        made = replace(stage.plan(sent, spec.merge_key, spec), raw=raw)
        if spec.disposition == "replace":
            statements = [*statements, f"DELETE FROM {quote_table(spec.target)}"]
        created = stage.create_statements(made) if made.staged else []
        merged = merge_statements(made, spec) if made.staged else []
        return [*statements, *created, stage.copy_statement(made, spec.target), *merged]

    def _fit(self, spec: LoadSpec, schema: Schema) -> tuple[Schema, list[str]]:
        with translating(self._owner, f"reading the shape of {spec.target}"):
            try:
                return fitted(self.connection, spec, schema)
            finally:
                self._idle()

    def discard(self, selection: Selection, reason: str, who: str) -> int:
        """See `Warehouse.discard`."""
        self._idle()
        with translating(self._owner, "discarding quarantined rows"):
            count = run(self.connection, set_aside.discard(selection, reason, who))
            self.connection.commit()
        return count

    def record_run(self, pipeline: str, run_name: str, report: RunReport) -> None:
        """See `Warehouse.record_run`."""
        connection = self.connection
        self._idle()  # a run that failed may have left a transaction; its rows were given up
        with translating(self._owner, "recording the run"):
            run(
                connection,
                """
                INSERT INTO _millstream.runs (run, attempt, pipeline, started_at, outcome, exit_code, report)
                SELECT %s, 1 + coalesce(max(attempt), 0), %s, now() - make_interval(secs => %s), %s, %s, %s::jsonb
                FROM _millstream.runs WHERE run = %s
                """,
                (run_name, pipeline, report.duration_seconds, report.reason, report.exit_code,
                 report.model_dump_json(by_alias=True, exclude_none=True), run_name),
            )  # fmt: skip
            run(connection, "DELETE FROM _millstream.checks WHERE run = %s", (run_name,))
            for check in report.checks:
                run(
                    connection,
                    "INSERT INTO _millstream.checks "
                    "(run, pipeline, target, name, severity, outcome, failed_rows, message) "
                    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                    (run_name, pipeline, check.target, check.name, check.severity, check.outcome, check.failed_rows,
                     check.message),
                )  # fmt: skip
            connection.commit()

    # -- TableQueries -------------------------------------------------------------------------------------------

    def quoted(self, table: str) -> str:
        """See `TableQueries.quoted`."""
        return quote_table(table)

    def identifier(self, name: str) -> str:
        """See `TableQueries.identifier`."""
        return quote(name)

    def scalar(self, sql: str) -> object:
        """See `TableQueries.scalar`. A failing query leaves the open transaction as it was."""
        self._pause()
        connection = self.connection
        if connection.info.transaction_status == TRANSACTION_STATUS_IDLE:
            try:
                with translating(self._owner, "asking the warehouse"):
                    row = one(connection, sql)
            finally:
                self._idle()
            return None if row is None else row[0]
        with translating(self._owner, "asking the warehouse"):
            run(connection, "SAVEPOINT millstream_query")
            try:
                row = one(connection, sql)
            except BaseException:
                if not connection.closed:
                    run(connection, "ROLLBACK TO SAVEPOINT millstream_query")
                raise
            run(connection, "RELEASE SAVEPOINT millstream_query")
        return None if row is None else row[0]

    def _pause(self) -> None:
        if self._loading is not None:
            self._loading.pause()

    def _idle(self) -> None:
        if self._opened is not None and not self._opened.closed:
            if self._loading is not None:
                self._loading.stop()
            self._opened.rollback()

    def close(self) -> None:
        """See `Warehouse.close`."""
        if self._loading is not None:
            self._loading.stop()
        if self._opened is not None and not self._opened.closed:
            self._opened.close()
        self._opened = None
