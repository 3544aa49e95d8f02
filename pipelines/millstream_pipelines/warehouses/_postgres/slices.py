"""The loads of a run in several processes: a slice into its stage, and all stages into the target.

A stage is a permanent table: a crash of the server must not empty what a process, long gone, has reported as staged.
Its columns have the target's types, so what only the server's parser refuses is set aside while staging.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from psycopg2.extensions import connection as Connection

from millstream_pipelines.batch import Position
from millstream_pipelines.errors import MillstreamError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.warehouses._postgres import stage
from millstream_pipelines.warehouses._postgres.connection import one, run
from millstream_pipelines.warehouses._postgres.load import PostgresLoad
from millstream_pipelines.warehouses._postgres.merging import merge
from millstream_pipelines.warehouses._postgres.poison import Poison, refused_counts
from millstream_pipelines.warehouses._postgres.quarantine import COLUMNS
from millstream_pipelines.warehouses._postgres.shards import drop_stages, stage_prefix
from millstream_pipelines.warehouses._postgres.stage import ORDER
from millstream_pipelines.warehouses._postgres.tables import fit_keyed
from millstream_pipelines.warehouses.base import Counts, LoadSpec
from millstream_pipelines.warehouses.names import quote, quote_table
from millstream_pipelines.warehouses.sharding import Staged

_MINE = "pipeline = %s AND stream = %s AND run = %s"


class PostgresSlice(PostgresLoad):
    """See `SliceLoad`."""

    def __init__(self, connect: Callable[[], Connection], spec: LoadSpec, owner: str) -> None:
        if spec.shard is None or spec.shard.index is None:
            raise MillstreamError("a slice has an index")
        self._whole, self._index = spec, spec.shard.index
        self.found: Any = None
        free = spec.contract.model_copy(update={"tables": "evolve", "columns": "evolve", "types": "evolve"})
        name = f"_millstream.{stage_prefix(spec.pipeline, spec.run, spec.stream)}{spec.shard.index}"
        super().__init__(
            connect,
            replace(spec, target=name, disposition="append", primary_key=(), cursor_field=None, contract=free),
            owner,
        )
        self._has_table = False
        # The lease's position only knows the run that came last; of two at a time, each has its own slices.
        self.already_done = self._earlier() or self.already_done

    def _earlier(self) -> Counts | None:
        spec = self._spec
        with self._translating("reading what is staged"):
            row = one(
                self._connection,
                "SELECT read, loaded, quarantined, duplicate, filtered, bytes FROM _millstream.shards "
                f"WHERE {_MINE} AND shard = %s",
                (spec.pipeline, spec.stream, spec.run, self._index),
            )
            self._connection.commit()
        return Counts(*row) if row else None

    def shape(self, schema: Schema) -> Schema:
        """See `SliceLoad`."""
        whole, table = self._whole, quote_table(self._spec.target)
        with self._translating(f"shaping for {whole.target}"):
            self.pause()
            sent, _ = fit_keyed(self._connection, whole, schema, whole.merge_key)
            if not self._has_table:
                self._lease.hold()  # else it could be a successor's stage that is dropped
                run(self._connection, f"DROP TABLE IF EXISTS {table}")  # of an attempt that died
                columns = ", ".join(f"{quote(column.name)} {column.type}" for column in sent)
                run(
                    self._connection,
                    f"CREATE TABLE {table} ({columns}, {ORDER} bigint GENERATED ALWAYS AS IDENTITY)",
                )
                self._has_table = True
        staged = super().shape(sent)
        self._columns = sent
        return staged

    def commit(self, position: Position | None) -> None:
        """See `StreamLoad.commit`."""
        if not self._settled:
            self.settle()
        spec, counts = self._spec, self.counts
        with self._translating("entering the slice"):
            run(self._connection, "SET LOCAL synchronous_commit = on")  # the process ends and leaves this behind
            run(
                self._connection,
                "INSERT INTO _millstream.shards (pipeline, stream, run, shard, stage, columns, read, loaded, "
                "quarantined, duplicate, filtered, bytes, content_hash, found) "
                "VALUES (%s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s, %s, %s, %s, %s, %s::jsonb)",
                (spec.pipeline, spec.stream, spec.run, self._index, spec.target,
                 json.dumps([[column.name, column.type] for column in self._columns]), counts.read, counts.loaded,
                 counts.quarantined, counts.duplicate, counts.filtered, counts.bytes_read, self._digest.hexdigest(),
                 json.dumps(self.found)),
            )  # fmt: skip
        super().commit(position)


class PostgresPublication(PostgresLoad):
    """See `Publication`."""

    @property
    def _place(self) -> tuple[str, str, str]:
        return (self._spec.pipeline, self._spec.stream, self._spec.run)

    def staged(self) -> list[Staged]:
        """See `Publication.staged`."""
        with self._translating("reading what is staged"), self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT shard, columns, read, loaded, quarantined, duplicate, filtered, bytes, found "
                f"FROM _millstream.shards WHERE {_MINE} ORDER BY shard",
                self._place,
            )
            found = cursor.fetchall()
            if not self._open:
                self._connection.commit()
        return [
            Staged(row[0], Schema(tuple(Column(name, kind) for name, kind in row[1])), Counts(*row[2:8]), row[8])
            for row in found
        ]

    def settle(self) -> Counts:
        """See `Publication`."""
        if self._settled:
            return self._counts
        if self._plan is None:
            raise MillstreamError("shape() comes before settle()")
        with self._translating(f"publishing into {self._spec.target}"):
            if not self._open:
                self._begin()
            slices = self.staged()
            self._bring(slices, self._plan)
            self._bring_rejects()
            self._clear(slices)
        self._settled = True
        return self._counts

    def _bring(self, slices: list[Staged], plan: stage.StagePlan) -> None:
        """Bring the rows of all stages into the target. A merge reads them where it usually finds the stage."""
        rows = sum(item.counts.loaded for item in slices)
        for item in slices:
            self._counts = self._counts + replace(item.counts, loaded=0)
        poison = Poison(self._connection, self._spec)
        room, seq = self._partitions(), self._lease.seq + 1
        away = room.for_rows(f"({self._union(slices, plan)}) s WHERE true")
        brought = None if away else poison.tried(lambda: self._brought(slices, plan, rows))
        if not isinstance(brought, Counts):  # what is set aside leaves the stage, which must be a table then
            run(self._connection, f"CREATE TEMPORARY TABLE millstream_stage AS {self._union(slices, plan)}")
            brought = refused_counts(self._spec, room.for_stage(plan, seq)) + poison.merged(plan, seq)
            run(self._connection, f"DROP TABLE {stage.NAME}")
        self._counts = self._counts + brought

    def _brought(self, slices: list[Staged], plan: stage.StagePlan, rows: int) -> Counts:
        if plan.key:
            run(self._connection, f"CREATE TEMPORARY VIEW millstream_stage AS {self._union(slices, plan)}")
            merged = merge(self._connection, plan, self._spec, rows)
            run(self._connection, f"DROP VIEW {stage.NAME}")
            return merged
        names = ", ".join(quote(name) for name in plan.sent.names)
        values = ", ".join(f"{quote(column.name)}::{column.type}" for column in plan.sent)
        loaded = run(
            self._connection,
            f"INSERT INTO {quote_table(self._spec.target)} ({names}) OVERRIDING SYSTEM VALUE "
            f"SELECT {values} FROM ({self._union(slices, plan)}) s",
        )
        return Counts(loaded=loaded)

    def _union(self, slices: list[Staged], plan: stage.StagePlan) -> str:
        prefix = stage_prefix(self._spec.pipeline, self._spec.run, self._spec.stream)
        parts = []
        for item in slices:
            values = ", ".join(
                quote(column.name) if item.columns.get(column.name) else f"NULL::{column.type} AS {quote(column.name)}"
                for column in plan.sent
            )
            table = quote_table(f"_millstream.{prefix}{item.index}")
            parts.append(f"SELECT {values}, {item.index}::bigint << 48 | {ORDER} AS {ORDER} FROM {table}")
        return " UNION ALL ".join(parts)

    def _bring_rejects(self) -> None:
        run(
            self._connection,
            f"INSERT INTO _millstream.quarantine ({COLUMNS}) "
            'SELECT pipeline, stream, %s, run, %s, rule, message, "row", status, form, masked '
            f"FROM _millstream.shard_rejects WHERE {_MINE} ORDER BY id",
            (self._spec.target, self._lease.seq + 1, *self._place),
        )

    def _clear(self, slices: list[Staged]) -> None:
        spec = self._spec
        hashes = one(
            self._connection,
            f"SELECT string_agg(content_hash, '/' ORDER BY shard) FROM _millstream.shards WHERE {_MINE}",
            self._place,
        )
        self._digest.update((hashes[0] or "").encode())
        for table in ("shards", "shard_plans", "shard_rejects"):
            run(self._connection, f"DELETE FROM _millstream.{table} WHERE {_MINE}", self._place)
        run(
            self._connection,
            "DELETE FROM _millstream.ledger WHERE pipeline = %s AND run = %s AND stream = ANY(%s)",
            (spec.pipeline, spec.run, [f"{spec.stream}@shard-{item.index}" for item in slices]),
        )
        drop_stages(self._connection, stage_prefix(spec.pipeline, spec.run, spec.stream))
