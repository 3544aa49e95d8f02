"""The load of one stream: chunks in transactions, fenced by the lease. The protocol of promise 1, in one place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg2
from psycopg2.extensions import connection as Connection

from millstream_pipelines.batch import Position, Reject
from millstream_pipelines.errors import DataError, MillstreamError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses._postgres import ledger, quarantine, stage
from millstream_pipelines.warehouses._postgres.children import Family
from millstream_pipelines.warehouses._postgres.connection import run, translated
from millstream_pipelines.warehouses._postgres.inflow import Inflow
from millstream_pipelines.warehouses._postgres.lease import Lease
from millstream_pipelines.warehouses._postgres.merging import fitted
from millstream_pipelines.warehouses._postgres.room import Room
from millstream_pipelines.warehouses._postgres.tables import shaped
from millstream_pipelines.warehouses._postgres.tags import tagged
from millstream_pipelines.warehouses.base import DONE, Chunk, Counts, LoadSpec
from millstream_pipelines.warehouses.content_hash import content_hash
from millstream_pipelines.warehouses.names import quote_table

if TYPE_CHECKING:
    import pyarrow as pa

    from millstream_pipelines.retention.ddl import Ddl


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
        self._family = Family(spec, self._lease, self._working, self._room_of)
        self.child, self.children = self._family.child, self._family.committed  # see `ParentLoad`
        self.altering: Callable[[], Ddl] | None = None
        """Makes a session that alters tables while this one loads."""
        self._room: Room | None = None
        self._open = False
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
            self.position = None if committed is not None and set(committed) == {DONE} else committed
        elif committed == {DONE: spec.run}:
            self.already_done = self.run_counts()

    def _reset(self) -> None:
        self._counts = Counts()
        self._inflow: Inflow | None = None
        self._digest = content_hash()
        self._careful = False
        self._settled = False
        self._shaped_inside = False

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
            self._family.begin(self._connection)
            reached("old-rows-deleted")

    # -- rows ---------------------------------------------------------------------------------------------------

    def shape(self, schema: Schema) -> Schema:
        """See `StreamLoad.shape`."""
        spec = self._spec
        with self._translating(f"shaping {spec.target}"):
            self.pause()
            db = self._connection
            sent = shaped(db, spec.target, lambda: tagged(db, spec, fitted(db, spec, schema)))
            made = stage.plan(sent, spec.merge_key, spec)
            if self._inflow is not None:
                self._inflow.shape(made)
            if self._open:
                self._shaped_inside = True
            else:
                self._connection.commit()
        self._plan = made
        self._family.is_staged = made.staged
        return sent

    @contextmanager
    def _working(self, doing: str) -> Iterator[Connection]:
        with self._translating(doing):
            self.pause()
            yield self._connection
            if not self._open:
                self._connection.commit()

    def write(self, rows: pa.RecordBatch, rejects: Iterable[Reject], counts: Counts) -> None:
        """See `StreamLoad.write`. What the server refuses may be raised by a later call: it is a COPY behind."""
        with self._translating(f"loading {self._spec.target}"):
            inflow = self._flowing() if self._plan is not None or rows.num_rows else None
            self._counts += replace(counts, loaded=0)
            if inflow is not None:
                if rows.num_rows:
                    inflow.send(rows)
                inflow.set_aside(rejects)

    def _flowing(self) -> Inflow:
        """Return where rows go in, in an open transaction."""
        if self._plan is None:
            raise MillstreamError("shape() comes before write()")
        if not self._open:
            self._begin()
        self._settled = False
        if self._inflow is None:
            seq, digest = self._lease.seq + 1, self._digest
            self._inflow = Inflow(self._connection, self._spec, seq, self._plan, digest, self._partitions())
            if self._careful:
                self._inflow.careful()
        return self._inflow

    def _partitions(self) -> Room:
        """Return the target's partitions as they were known when this load, or its last try, began."""
        if self._room is None:
            self._room = self._room_of(self._connection, self._spec)
        return self._room

    def _room_of(self, connection: Connection, spec: LoadSpec) -> Room:
        return Room(connection, spec, self._owner, self.altering)

    def open_raw(self) -> Callable[[bytes], None]:
        """See `RawLoad.open_raw`."""
        with self._translating(f"loading {self._spec.target}"):
            return self._flowing().open_raw()

    def close_raw(self, rows: int, size_bytes: int) -> None:
        """See `RawLoad.close_raw`."""
        self._counts += Counts(read=rows, bytes_read=size_bytes)
        self.pause()

    def may_search(self, error: DataError) -> bool:
        """See `CarefulLoad.may_search`. A sweep would take the row for absent, children would have to go with it."""
        return error.reason == "RefusedByWarehouse" and not self._spec.sweeps and not self._spec.numbered

    def careful(self) -> None:
        """See `CarefulLoad.careful`."""
        self._careful = True

    @property
    def counts(self) -> Counts:
        """See `CarefulLoad.counts`."""
        return self._counts if self._inflow is None else self._counts + self._inflow.counts

    def pause(self) -> None:
        """Free the connection for another statement."""
        if self._inflow is not None:
            with self._translating(f"loading {self._spec.target}"):
                self._inflow.pause()

    def stop(self) -> None:
        """End what the server does for rows that are still coming in; only `rollback` makes sense then."""
        if self._inflow is not None:
            self._inflow.stop()

    def record_refused(self, rejects: Iterable[Reject]) -> None:
        """See `StreamLoad.record_refused`."""
        with self._working("keeping refused rows") as connection:
            quarantine.insert(connection, self._spec, self._lease.seq + 1, rejects, "refused")

    def settle(self) -> Counts:
        """See `StreamLoad.settle`."""
        with self._translating(f"merging into {self._spec.target}"):
            if not self._open:
                self._begin()
            if self._inflow is not None:
                self._inflow.settle(self._staged, self._family.settle)
            elif self._plan is not None:
                self._family.settle(self._connection, self._plan, has_stage=False)
        self._settled = True
        return self.counts

    def _staged(self, plan: stage.StagePlan) -> None:
        """Hear that all rows of the transaction are in the stage, before it is merged."""

    def commit(self, position: Position | None) -> None:
        """See `StreamLoad.commit`."""
        if not self._settled:
            self.settle()
        counts, spec = self.counts, self._spec
        try:
            ledger.require_balance(spec, self._lease.seq + 1, counts)
        except DataError:
            self.rollback()
            raise
        if spec.mode == "full":
            position = {DONE: spec.run}
        where = json.dumps(position) if position is not None else None
        try:
            with self._translating(f"committing into {spec.target}"):
                self._lease.advance(where)
                reached("position-advanced")
                self._family.enter(self._connection)
                self._enter(counts, where)
                reached("ledger-entered")
                self._connection.commit()
        except BaseException:
            self.rollback()
            raise
        self._lease.seq += 1
        self._open = False
        self._reset()
        self._family.reset()

    def _enter(self, counts: Counts, position: str | None) -> None:
        ledger.enter(self._connection, self._spec, self._lease, counts, self._digest.hexdigest(), position)

    def rollback(self) -> None:
        """See `StreamLoad.rollback`."""
        self.stop()
        if not self._connection.closed:
            self._connection.rollback()
        if self._shaped_inside:
            self._plan = None  # the columns it made are gone too
        self._open = False
        self._room = None
        self._reset()
        self._family.reset(lost=True)

    def replaying(self) -> quarantine.PostgresReplaying:
        """See `StreamLoad.replaying`."""
        with self._translating("opening a transaction"):
            self.pause()
            if not self._open:
                self._begin()
        return quarantine.PostgresReplaying(self._connection, self._spec, self._plan, self._translating)

    def run_counts(self) -> Counts:
        """See `StreamLoad.run_counts`. Asks over a new connection when the load's own was lost."""
        connection = self._connection if not self._connection.closed else self._connect()
        with self._translating("reading the ledger"):
            counts = ledger.run_counts(connection, self._spec)
            if not self._open:
                connection.commit()
        return counts

    def chunks(self) -> list[Chunk]:
        """See `StreamLoad.chunks`."""
        with self._working("reading the ledger") as connection:
            return ledger.chunks(connection, self._spec, self._lease.epoch)
