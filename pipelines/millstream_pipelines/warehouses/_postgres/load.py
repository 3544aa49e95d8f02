"""The load of one stream: chunks in transactions, fenced by the lease. The protocol of promise 1, in one place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg2
import pyarrow as pa
from psycopg2.extensions import connection as Connection

from millstream_pipelines.batch import Position, Reject
from millstream_pipelines.errors import DataError, MillstreamError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses._postgres import quarantine, refusals, stage
from millstream_pipelines.warehouses._postgres.connection import one, run, translated
from millstream_pipelines.warehouses._postgres.encoding import CopyStream, is_native
from millstream_pipelines.warehouses._postgres.lease import Lease
from millstream_pipelines.warehouses._postgres.merging import merge
from millstream_pipelines.warehouses._postgres.scd2 import fit_history
from millstream_pipelines.warehouses._postgres.tables import fit_keyed, shaped
from millstream_pipelines.warehouses.base import Chunk, Counts, LoadSpec
from millstream_pipelines.warehouses.names import quote, quote_table

_DONE = "_millstream_run"  # in mode full the position says which run has loaded the table


class PostgresLoad:
    """See `StreamLoad`. One connection, one open transaction at a time.

    `connect` returns the warehouse's connection, opened anew when it was lost.
    """

    def __init__(self, connect: Callable[[], Connection], spec: LoadSpec, owner: str) -> None:
        self._connect = connect
        self._connection = connect()
        self._spec = spec
        self._owner = owner
        self._lease = Lease(connect, spec)
        self._open = False
        self._sent: Schema | None = None
        self._plan: stage.StagePlan | None = None
        self.position: Position | None = None
        self.already_done: Counts | None = None
        self._reset()
        try:
            with self._translating(f"taking the lease of stream '{spec.stream}'"):
                committed = self._lease.take()
        except BaseException:
            self.rollback()
            raise
        if spec.mode == "incremental":
            self.position = None if committed is not None and set(committed) == {_DONE} else committed
        elif committed == {_DONE: spec.run}:
            self.already_done = self.run_counts()

    def _reset(self) -> None:
        self._counts = Counts()
        self._staged_rows = 0
        self._settled = False
        self._shaped_inside = False
        self._digest = hashlib.blake2b(digest_size=16)

    @contextmanager
    def _translating(self, doing: str) -> Iterator[None]:
        """Run a block; psycopg2's errors leave it as ours, a successor's doing as SupersededError."""
        try:
            yield
        except psycopg2.Error as error:
            if self._connection.closed and self._lease.was_overtaken():
                raise self._lease.superseded() from error
            raise translated(error, self._owner, doing) from error

    def _begin(self) -> None:
        """Open a transaction as the lease's holder; in a replace, the old rows go in the same transaction."""
        self._lease.verify()
        self._open = True
        reached("begun")
        if self._spec.disposition == "replace":
            # DELETE, not TRUNCATE or a rename: readers see the old rows until the commit, in any isolation level,
            # and views, grants and foreign keys stay.
            run(self._connection, f"DELETE FROM {quote_table(self._spec.target)}")
            reached("old-rows-deleted")

    # -- rows ---------------------------------------------------------------------------------------------------

    def shape(self, schema: Schema) -> Schema:
        """See `StreamLoad.shape`."""
        spec = self._spec
        key = spec.primary_key if spec.disposition != "append" else ()
        with self._translating(f"shaping {spec.target}"):
            sent = shaped(self._connection, spec.target, lambda: self._fitted(schema, key))
            made = stage.plan(sent, key, spec)
            if self._staged_rows and self._plan is not None:
                for statement in stage.restage_statements(self._plan, made):
                    run(self._connection, statement)
            if self._open:
                self._shaped_inside = True
            else:
                self._connection.commit()
        self._sent, self._plan = sent, made
        return sent

    def _fitted(self, schema: Schema, key: tuple[str, ...]) -> tuple[Schema, list[str]]:
        if self._spec.disposition == "scd2":
            return fit_history(self._connection, self._spec, schema)
        return fit_keyed(self._connection, self._spec, schema, key)

    def write(self, rows: pa.RecordBatch, rejects: Iterable[Reject], counts: Counts) -> None:
        """See `StreamLoad.write`."""
        if self._sent is None or self._plan is None:
            raise MillstreamError("shape() comes before write()")
        with self._translating(f"loading {self._spec.target}"):
            if not self._open:
                self._begin()
            self._settled = False
            self._counts = self._counts + replace(counts, loaded=0, duplicate=0)
            if rows.num_rows:
                self._copy(rows, self._sent, self._plan)
            quarantine.insert(self._connection, self._spec, self._lease.seq + 1, rejects)

    def _copy(self, rows: pa.RecordBatch, sent: Schema, plan: stage.StagePlan) -> None:
        if not plan.staged:
            self._counts = self._counts + Counts(loaded=self._sent_rows(quote_table(self._spec.target), rows, sent))
            return
        if not self._staged_rows:
            for statement in stage.create_statements(plan):
                run(self._connection, statement)
        numbered = plan.numbered(rows, self._staged_rows)
        self._staged_rows += self._sent_rows(stage.NAME, numbered, plan.columns)
        reached("staged")

    def _sent_rows(self, table: str, rows: pa.RecordBatch, schema: Schema) -> int:
        """COPY rows into a table and return how many the server took; a trigger may have dropped some."""
        columns = ", ".join(quote(name) for name in schema.names)
        stream = CopyStream(rows, schema, self._digest)
        with self._connection.cursor() as cursor:
            try:
                cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN (FORMAT binary)", stream, size=256 * 1024)
            except psycopg2.Error:
                if stream.failure is not None:
                    raise stream.failure from None
                raise
            return int(cursor.rowcount)

    def record_refused(self, rejects: Iterable[Reject]) -> None:
        """See `StreamLoad.record_refused`."""
        with self._translating("keeping refused rows"):
            quarantine.insert(self._connection, self._spec, self._lease.seq + 1, rejects, "refused")
            self._connection.commit()

    def settle(self) -> Counts:
        """See `StreamLoad.settle`."""
        with self._translating(f"merging into {self._spec.target}"):
            if not self._open:
                self._begin()
            if self._plan is not None and self._staged_rows:
                self._merge(self._plan)
        self._settled = True
        return self._counts

    def _merge(self, plan: stage.StagePlan) -> None:
        run(self._connection, "SAVEPOINT millstream_merge")
        try:
            merged = merge(self._connection, plan, self._spec, self._staged_rows)
        except (psycopg2.DataError, psycopg2.errors.CheckViolation):
            run(self._connection, "ROLLBACK TO SAVEPOINT millstream_merge")
            self._set_aside(plan)
            merged = merge(self._connection, plan, self._spec, self._staged_rows)
        self._counts = self._counts + merged
        run(self._connection, f"DROP TABLE {stage.NAME}")
        reached("merged")
        self._staged_rows = 0

    def _set_aside(self, plan: stage.StagePlan) -> None:
        columns = [column for column in plan.sent if not is_native(column)]
        refused = refusals.set_aside(self._connection, stage.NAME, columns, self._spec, self._lease.seq + 1)
        self._staged_rows -= refused
        kept = self._spec.contract.rows == "quarantine"
        self._counts = self._counts + Counts(quarantined=refused if kept else 0, filtered=0 if kept else refused)

    # -- commit -------------------------------------------------------------------------------------------------

    def commit(self, position: Position | None) -> None:
        """See `StreamLoad.commit`."""
        if not self._settled:
            self.settle()
        counts, spec = self._counts, self._spec
        gap = counts.read - counts.loaded - counts.quarantined - counts.duplicate - counts.filtered
        if gap:
            self.rollback()
            raise DataError(
                f"stream '{spec.stream}' chunk {self._lease.seq + 1}: {counts.read} rows were read but {gap} are not "
                f"accounted for ({counts}); nothing of it was committed",
                reason="AccountingGap",
            )
        if spec.mode == "full":
            position = {_DONE: spec.run}
        where = json.dumps(position) if position is not None else None
        try:
            with self._translating(f"committing into {spec.target}"):
                self._lease.advance(where)
                reached("position-advanced")
                self._enter(counts, where)
                reached("ledger-entered")
                self._connection.commit()
        except BaseException:
            self.rollback()
            raise
        self._lease.seq += 1
        self._open = False
        self._reset()

    def _enter(self, counts: Counts, position: str | None) -> None:
        spec = self._spec
        run(
            self._connection,
            "INSERT INTO _millstream.ledger (pipeline, stream, seq, run, epoch, target, read, loaded, quarantined, "
            "duplicate, filtered, bytes, deleted, content_hash, position) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb)",
            (spec.pipeline, spec.state, self._lease.seq + 1, spec.run, self._lease.epoch, spec.target, counts.read,
             counts.loaded, counts.quarantined, counts.duplicate, counts.filtered, counts.bytes_read,
             counts.deleted, self._digest.hexdigest(), position),
        )  # fmt: skip

    def rollback(self) -> None:
        """See `StreamLoad.rollback`."""
        if not self._connection.closed:
            self._connection.rollback()
        if self._shaped_inside:
            self._sent = self._plan = None  # the columns it made are gone too
        self._open = False
        self._reset()

    def run_counts(self) -> Counts:
        """See `StreamLoad.run_counts`. Asks over a new connection when the load's own was lost."""
        connection = self._connection if not self._connection.closed else self._connect()
        with self._translating("reading the ledger"):
            row = one(
                connection,
                """
                SELECT coalesce(sum(read), 0), coalesce(sum(loaded), 0), coalesce(sum(quarantined), 0),
                       coalesce(sum(duplicate), 0), coalesce(sum(filtered), 0), coalesce(sum(bytes), 0),
                       coalesce(sum(deleted), 0)
                FROM _millstream.ledger WHERE pipeline = %s AND stream = %s AND run = %s
                """,
                (self._spec.pipeline, self._spec.state, self._spec.run),
            )
            if not self._open:
                connection.commit()
        return Counts(*(int(value) for value in row))

    def chunks(self) -> list[Chunk]:
        """See `StreamLoad.chunks`."""
        with self._translating("reading the ledger"), self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT seq, read, loaded, quarantined, duplicate, filtered, bytes FROM _millstream.ledger "
                "WHERE pipeline = %s AND stream = %s AND epoch = %s ORDER BY seq",
                (self._spec.pipeline, self._spec.state, self._lease.epoch),
            )
            found = [Chunk(row[0], Counts(*row[1:])) for row in cursor.fetchall()]
            if not self._open:
                self._connection.commit()
        return found
