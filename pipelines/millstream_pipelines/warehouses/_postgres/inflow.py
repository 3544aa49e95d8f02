"""The rows of one transaction on their way: a COPY straight into the target, or into the stage and from there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg2.extensions import connection as Connection

from millstream_pipelines.batch import Reject
from millstream_pipelines.failpoints import reached
from millstream_pipelines.raw_copy import SinkClosedError
from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses._postgres import quarantine, stage
from millstream_pipelines.warehouses._postgres.connection import run
from millstream_pipelines.warehouses._postgres.copying import CopyIn
from millstream_pipelines.warehouses._postgres.poison import Poison, refused_counts, settled
from millstream_pipelines.warehouses._postgres.room import Room
from millstream_pipelines.warehouses.base import Counts, LoadSpec
from millstream_pipelines.warehouses.content_hash import Digest, content_hash

if TYPE_CHECKING:
    import pyarrow as pa

_MAX_REJECTS = 5_000  # kept in memory until the COPY ends for them


class Inflow:
    """What has come in since the last commit. `seq`: the transaction's number; `plan`: how its rows go."""

    def __init__(
        self, connection: Connection, spec: LoadSpec, seq: int, plan: stage.StagePlan, digest: Digest, room: Room
    ) -> None:
        self.plan = plan
        self.counts = Counts()
        """What became of the rows so far; `read` is the caller's."""
        self._connection, self._spec, self._seq = connection, spec, seq
        self._digest = digest
        self._room = room
        self._copy: CopyIn | None = None
        self._poison: Poison | None = None
        self._rejects: list[Reject] = []
        self._staged_rows = 0
        self._has_stage = False

    def shape(self, made: stage.StagePlan) -> None:
        """Go on with another plan; what is staged stays."""
        if self._has_stage:
            for statement in stage.restage_statements(self.plan, made):
                run(self._connection, statement)
        self.plan = made

    def careful(self) -> None:
        """Find the rows that the server refuses, from now on."""
        self._poison = Poison(self._connection, self._spec)

    def send(self, rows: pa.RecordBatch) -> None:
        """Send a batch. What the server refuses may be raised by a later call: it is a COPY behind."""
        if self._poison is not None:
            self._place(rows, self._poison)
            return
        rows = self._fitting(rows)
        copy, columns = self._copying(raw=False)
        rows = rows.select(columns.names)  # a row's number goes no further than the stage
        from millstream_pipelines.warehouses._postgres.encoding import encoded

        try:
            for piece in encoded(rows, columns):
                copy.send(piece)
        except SinkClosedError:
            self._end_copy()

    def _fitting(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows that have a partition now; those of retired ranges are set aside."""
        lost = None if self.plan.staged else self._room.lost(rows)
        if lost is None:
            return rows
        self._end_copy()
        rows, refused = self._room.found(rows, lost)
        self.counts += refused_counts(self._spec, len(refused))
        if self._spec.contract.rows == "quarantine":
            self.set_aside(refused)
        return rows

    def open_raw(self) -> Callable[[bytes], None]:
        """Return what takes rows undecoded, until `pause`."""
        return self._copying(raw=True)[0].send

    def set_aside(self, rejects: Iterable[Reject]) -> None:
        """Keep rejects until the COPY ends, or end it for them when they are many."""
        self._rejects += rejects
        if len(self._rejects) > _MAX_REJECTS:
            self.pause()

    def pause(self) -> None:
        """Free the connection for another statement: end the COPY, insert the rejects that waited for its end."""
        self._end_copy()
        quarantine.insert(self._connection, self._spec, self._seq, self._rejects)
        self._rejects = []

    def stop(self) -> None:
        """End the COPY and whatever the server does for it; only a rollback makes sense then."""
        if self._copy is not None:
            self._copy.abort()
            self._copy = None

    def settle(self, before: Callable[[stage.StagePlan], None], after: Callable[..., None]) -> None:
        """Bring what is staged into the target.

        `before` hears of the full stage. `after(connection, plan, has_stage=…)` is called when the rows have come,
        with the stage still there if they came by it.
        """
        self.pause()
        if not self._staged_rows:
            after(self._connection, self.plan, has_stage=False)
        else:
            before(self.plan)
            refused = self._room.for_stage(self.plan, self._seq)
            self.counts += refused_counts(self._spec, refused)
            self._staged_rows -= refused
            self.counts += settled(self._connection, self.plan, self._spec, self._seq, self._staged_rows)
            after(self._connection, self.plan, has_stage=True)
            run(self._connection, f"DROP TABLE {stage.NAME}")
            reached("merged")
            self._staged_rows, self._has_stage = 0, False

    def _copying(self, *, raw: bool) -> tuple[CopyIn, Schema]:
        """Return the COPY that is going on, or begin one; and the columns it fills."""
        if self._copy is None:
            self._ready(raw=raw)
            statement = stage.copy_statement(self.plan, self._spec.target)
            self._copy = CopyIn(self._connection, statement, self._digest)
        return self._copy, self.plan.columns

    def _ready(self, *, raw: bool) -> None:
        """Make the stage where there must be one. `raw`: the rows come in their types' binary form."""
        self.plan = replace(self.plan, raw=raw)
        if self.plan.staged and not self._has_stage:
            for statement in stage.create_statements(self.plan):
                run(self._connection, statement)
            self._has_stage = True

    def _end_copy(self) -> None:
        if self._copy is not None:
            rows = self._copy.finish()
            self._copy = None
            self._arrived(rows)

    def _arrived(self, rows: int) -> None:
        if self.plan.staged:
            self._staged_rows += rows
            reached("staged")
        else:
            self.counts += Counts(loaded=rows)

    def _place(self, rows: pa.RecordBatch, poison: Poison) -> None:
        """Copy the rows that the server takes, set the others aside."""
        self.pause()
        self._ready(raw=False)
        rows = self._fitting(rows)
        self.pause()
        taken, refused = poison.copied(rows, self._copied)
        self._arrived(taken)
        self.counts += refused_counts(self._spec, len(refused))
        if self._spec.contract.rows == "quarantine":
            self.set_aside(refused)

    def _copied(self, rows: pa.RecordBatch) -> int:
        """Run one COPY to its end; only what the server took is hashed."""
        from millstream_pipelines.warehouses._postgres.encoding import encoded

        digest = content_hash()
        copy = self._copy = CopyIn(self._connection, stage.copy_statement(self.plan, self._spec.target), digest)
        with suppress(SinkClosedError):  # `finish` says why
            for piece in encoded(rows, self.plan.columns):
                copy.send(piece)
        try:
            taken = copy.finish()
        finally:
            if copy.is_done:
                self._copy = None
        self._digest.update(digest.digest())
        return taken
