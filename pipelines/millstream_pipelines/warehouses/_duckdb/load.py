"""The load of one stream into DuckDB: chunks in transactions, fenced by the lease."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import duckdb
import pyarrow as pa

from millstream_pipelines.batch import Position, Reject
from millstream_pipelines.errors import DataError, MillstreamError, RowRefusedError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses._duckdb import stage
from millstream_pipelines.warehouses._duckdb.connection import rows as asked
from millstream_pipelines.warehouses._duckdb.connection import run, translated
from millstream_pipelines.warehouses._duckdb.lease import Lease
from millstream_pipelines.warehouses._duckdb.quarantine import DuckDBReplaying
from millstream_pipelines.warehouses._duckdb.tables import SCHEMA, fit, read_table
from millstream_pipelines.warehouses.base import DONE, Chunk, Counts, LoadSpec
from millstream_pipelines.warehouses.content_hash import content_hash
from millstream_pipelines.warehouses.names import quote_table
from millstream_pipelines.warehouses.row_json import message_text, row_text, storable


class DuckDBLoad:
    """See `StreamLoad`. One connection, one open transaction at a time."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, path: str, spec: LoadSpec, owner: str) -> None:
        self._connection = connection
        self._spec = spec
        self._owner = owner
        self._open = False
        self._plan: stage.StagePlan | None = None
        self._lease = Lease(connection, path, spec, self._undo)
        self.position: Position | None = None
        self.already_done: Counts | None = None
        self._reset()
        try:
            with self._translating(f"taking the lease of stream '{spec.stream}'"):
                committed = self._lease.take()
        except BaseException:
            self.release()
            raise
        if spec.mode == "incremental":
            self.position = None if committed is not None and set(committed) == {DONE} else committed
        elif committed == {DONE: spec.run}:
            self.already_done = self.run_counts()

    def _reset(self) -> None:
        self._counts = Counts()
        self._staged_rows = 0
        self._settled = False
        self._shaped_inside = False
        self._digest = content_hash()

    @contextmanager
    def _translating(self, doing: str) -> Iterator[None]:
        """Run a block; DuckDB's errors leave it as ours, a successor's doing as SupersededError."""
        try:
            yield
        except duckdb.Error as error:
            if self._lease.overtaken:
                raise self._lease.superseded() from error
            raise translated(error, self._owner, doing) from error

    def _begin(self) -> None:
        """Open a transaction as the lease's holder; in a replace, the old rows go in the same transaction."""
        self._connection.execute("BEGIN")
        self._open = True
        self._lease.verify()
        reached("begun")
        if self._spec.disposition == "replace":
            run(self._connection, f"DELETE FROM {quote_table(self._spec.target, SCHEMA)}")
            reached("old-rows-deleted")

    # -- rows ---------------------------------------------------------------------------------------------------

    def shape(self, schema: Schema) -> Schema:
        """See `StreamLoad.shape`."""
        spec, connection = self._spec, self._connection
        key = spec.primary_key if spec.disposition in ("merge", "replace") else ()
        with self._translating(f"shaping {spec.target}"):
            inside = self._open
            if not inside:
                connection.execute("BEGIN")
                self._open = True
            sent, ddl = fit(connection, spec.target, schema, spec.contract, key)
            for statement in ddl:
                connection.execute(statement)
            found = read_table(connection, spec.target, only=set(sent.names))
            cursor = spec.cursor_field if spec.cursor_field and sent.get(spec.cursor_field) else None
            newer_only = spec.window is not None
            stored = found.stored if found else {}
            plan = stage.StagePlan(spec.target, sent, stored, key, cursor, spec.disposition, newer_only)
            if self._staged_rows:
                for statement in stage.restage_statements(plan):
                    connection.execute(statement)
            if inside:
                self._shaped_inside = True
            else:
                connection.execute("COMMIT")
                self._open = False
        self._plan = plan
        return sent

    def write(self, rows: pa.RecordBatch, rejects: Iterable[Reject], counts: Counts) -> None:
        """See `StreamLoad.write`."""
        if self._plan is None and rows.num_rows:
            raise MillstreamError("shape() comes before write()")
        with self._translating(f"loading {self._spec.target}"):
            if not self._open:
                self._begin()
            self._settled = False
            self._counts = self._counts + replace(counts, loaded=0)
            if self._plan is not None and rows.num_rows:
                self._insert(rows, self._plan)
            self._quarantine(rejects)

    def _insert(self, rows: pa.RecordBatch, plan: stage.StagePlan) -> None:
        connection = self._connection
        self._digest.update(rows.serialize())
        connection.register(stage.ARRIVING, rows)
        try:
            kept, refused = stage.refused(connection, plan, rows)
            if refused:
                self._refuse(refused)
            if plan.key:
                if not self._staged_rows:
                    for statement in stage.stage_statements(plan):
                        connection.execute(statement)
                connection.register(stage.ARRIVING, stage.numbered(kept, self._staged_rows))
                self._staged_rows += run(connection, stage.fill_statement(plan))
                reached("staged")
            else:
                connection.register(stage.ARRIVING, kept)
                self._counts = self._counts + Counts(loaded=run(connection, stage.insert_statement(plan)))
        finally:
            with suppress(duckdb.Error):  # an aborted transaction takes nothing more, and is rolled back
                connection.unregister(stage.ARRIVING)

    def _refuse(self, refused: list[Reject]) -> None:
        """Set rows aside that DuckDB cannot take, as the contract says."""
        rule = self._spec.contract.rows
        if rule == "freeze":
            raise RowRefusedError(self._spec.stream, refused[0].rule, refused[0].message)
        if rule == "quarantine":
            self._quarantine(refused)
        kept = len(refused) if rule == "quarantine" else 0
        self._counts = self._counts + Counts(quarantined=kept, filtered=len(refused) - kept)

    def _quarantine(self, rejects: Iterable[Reject], status: str = "open") -> None:
        spec, seq = self._spec, self._lease.seq + 1
        values = [
            [spec.pipeline, spec.stream, spec.target, spec.run, seq, storable(item.rule), message_text(item.message),
             row_text(item.row), status, item.form, json.dumps(item.masked)]
            for item in rejects
        ]  # fmt: skip
        if values:
            names = ["pipeline", "stream", "target", "run", "seq", "rule", "message", "row", "status", "form", "masked"]
            table = pa.table({name: [value[place] for value in values] for place, name in enumerate(names)})
            self._connection.register("millstream_rejects", table)
            self._connection.execute("INSERT INTO _millstream.quarantine BY NAME FROM millstream_rejects")
            self._connection.unregister("millstream_rejects")
            reached("quarantined")

    def record_refused(self, rejects: Iterable[Reject]) -> None:
        """See `StreamLoad.record_refused`."""
        with self._translating("keeping refused rows"):
            self._quarantine(rejects, "refused")

    def settle(self) -> Counts:
        """See `StreamLoad.settle`."""
        with self._translating(f"merging into {self._spec.target}"):
            if not self._open:
                self._begin()
            if self._plan is not None and self._staged_rows:
                statements = stage.merge_statements(self._plan)
                loaded = [run(self._connection, statement) for statement in statements]
                if statements[0].startswith("DELETE"):
                    loaded = loaded[1:]
                run(self._connection, f"DROP TABLE {stage.NAME}")
                reached("merged")
                self._counts = self._counts + Counts(loaded=sum(loaded), duplicate=self._staged_rows - sum(loaded))
                self._staged_rows = 0
        self._settled = True
        return self._counts

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
            position = {DONE: spec.run}
        where = json.dumps(position) if position is not None else None
        try:
            with self._translating(f"committing into {spec.target}"):
                self._lease.advance(where)
                reached("position-advanced")
                self._enter(counts, where)
                reached("ledger-entered")
                self._connection.execute("COMMIT")
        except BaseException:
            self.rollback()
            raise
        self._lease.seq += 1
        self._open = False
        self._reset()

    def _enter(self, counts: Counts, position: str | None) -> None:
        spec = self._spec
        self._connection.execute(
            "INSERT INTO _millstream.ledger (pipeline, stream, seq, run, epoch, target, read, loaded, quarantined, "
            "duplicate, filtered, bytes, content_hash, position, origin) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [spec.pipeline, spec.state, self._lease.seq + 1, spec.run, self._lease.epoch, spec.target, counts.read,
             counts.loaded, counts.quarantined, counts.duplicate, counts.filtered, counts.bytes_read,
             self._digest.hexdigest(), position, spec.origin],
        )  # fmt: skip

    def rollback(self) -> None:
        """See `StreamLoad.rollback`."""
        self._undo()
        if self._shaped_inside:
            self._plan = None  # the columns it made are gone too
        self._reset()

    def _undo(self) -> None:
        if self._open:
            with suppress(duckdb.Error):  # a closed connection has rolled back by itself
                self._connection.execute("ROLLBACK")
        self._open = False

    def release(self) -> None:
        """Undo what is open and let the next run have the stream."""
        with suppress(duckdb.Error):
            self._connection.execute("ROLLBACK")
        self._lease.release()

    def replaying(self) -> DuckDBReplaying:
        """See `StreamLoad.replaying`."""
        with self._translating("opening a transaction"):
            if not self._open:
                self._begin()
        return DuckDBReplaying(self._connection, self._spec, self._plan, self._translating)

    def run_counts(self) -> Counts:
        """See `StreamLoad.run_counts`."""
        names = ("read", "loaded", "quarantined", "duplicate", "filtered", "bytes")
        with self._translating("reading the ledger"):
            found = asked(
                self._connection,
                f"SELECT {', '.join(f'coalesce(sum({name}), 0)::BIGINT' for name in names)} "
                "FROM _millstream.ledger WHERE pipeline = $1 AND stream = $2 AND run = $3",
                [self._spec.pipeline, self._spec.state, self._spec.run],
            )
        return Counts(*(int(value) for value in found[0]))

    def chunks(self) -> list[Chunk]:
        """See `StreamLoad.chunks`."""
        with self._translating("reading the ledger"):
            found = asked(
                self._connection,
                "SELECT seq, read, loaded, quarantined, duplicate, filtered, bytes FROM _millstream.ledger "
                "WHERE pipeline = $1 AND stream = $2 AND epoch = $3 ORDER BY seq",
                [self._spec.pipeline, self._spec.state, self._lease.epoch],
            )
        return [Chunk(row[0], Counts(*row[1:])) for row in found]
