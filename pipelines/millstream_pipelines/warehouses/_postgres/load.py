"""The load of one stream: lease, chunks in transactions, ledger. The protocol of promise 1, in one place.

A session-level advisory lock tells whether a loader is alive (the server drops it with the connection); the epoch in
`_millstream.state` fences: every transaction locks the state row and compares, so an attempt that was overtaken can
never commit, however long it slept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pyarrow as pa
from psycopg2.extensions import connection as Connection
from psycopg2.extras import execute_values

from millstream_pipelines.batch import Position, Reject
from millstream_pipelines.errors import ConfigurationError, DataError, MillstreamError, RetriableError, SupersededError
from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses._postgres import stage
from millstream_pipelines.warehouses._postgres.connection import one, quote, quote_table, run, translating
from millstream_pipelines.warehouses._postgres.encoding import CopyStream
from millstream_pipelines.warehouses._postgres.tables import ensure_unique, fit
from millstream_pipelines.warehouses.base import Counts, LoadSpec

_MAX_MESSAGE = 2000  # characters kept of a rule's message; the row itself is kept whole


class PostgresLoad:
    """See `StreamLoad`. One connection, one open transaction at a time."""

    def __init__(self, connection: Connection, spec: LoadSpec, owner: str) -> None:
        self._connection = connection
        self._spec = spec
        self._owner = owner
        self._open = False
        self._sent: Schema | None = None
        self._plan: stage.StagePlan | None = None
        self.position: Position | None = None
        self.already_done: Counts | None = None
        self._reset()
        with translating(owner, f"taking the lease of stream '{spec.stream}'"):
            self._take_lease()

    def _reset(self) -> None:
        self._counts = Counts()
        self._staged_rows = 0
        self._settled = False
        self._digest = hashlib.blake2b(digest_size=16)

    # -- lease --------------------------------------------------------------------------------------------------

    def _take_lease(self) -> None:
        spec, key = self._spec, (self._spec.pipeline, self._spec.stream)
        alone = one(
            self._connection, "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", ("millstream/" + "/".join(key),)
        )[0]
        self._connection.commit()
        run(
            self._connection,
            "INSERT INTO _millstream.state (pipeline, stream) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            key,
        )
        seen = one(
            self._connection, "SELECT run, holder FROM _millstream.state WHERE (pipeline, stream) = (%s, %s)", key
        )
        if not alone and seen[0] != spec.run:
            self._connection.rollback()
            raise RetriableError(
                f"stream '{spec.stream}': run '{seen[0]}' ({seen[1]}) is loading it now; this run waits for its turn",
                reason="StreamBusy",
            )
        if spec.full_refresh and spec.mode == "incremental":
            self._forget_position(key)
        row = one(
            self._connection,
            """
            UPDATE _millstream.state SET epoch = epoch + 1, run = %s, holder = %s, renewed_at = now()
            WHERE (pipeline, stream) = (%s, %s) RETURNING epoch, seq, position
            """,
            (spec.run, spec.holder, *key),
        )
        self._connection.commit()
        self._epoch, self._seq, committed = row
        if spec.mode == "incremental":
            self.position = None if committed and "run" in committed and len(committed) == 1 else committed
        elif committed == {"run": spec.run}:
            self.already_done = self.run_counts()

    def _forget_position(self, key: tuple[str, str]) -> None:
        if self._spec.disposition == "append":
            raise ConfigurationError(
                f"stream '{self._spec.stream}': a full refresh with writeDisposition 'append' would load every row "
                "again; use 'merge' with a primaryKey, or mode 'full' with 'replace'"
            )
        run(
            self._connection,
            """
            UPDATE _millstream.state SET position = NULL, refresh_run = %s
            WHERE (pipeline, stream) = (%s, %s) AND refresh_run IS DISTINCT FROM %s
            """,
            (self._spec.run, *key, self._spec.run),
        )

    def _begin(self) -> None:
        """Open a transaction as the lease's holder; in a replace, the old rows go in the same transaction."""
        row = one(
            self._connection,
            "SELECT epoch FROM _millstream.state WHERE (pipeline, stream) = (%s, %s) FOR UPDATE",
            (self._spec.pipeline, self._spec.stream),
        )
        if row is None or row[0] != self._epoch:
            self._connection.rollback()
            raise SupersededError(
                f"stream '{self._spec.stream}': another attempt has taken over; this one stops and loses nothing"
            )
        self._open = True
        if self._spec.disposition == "replace":
            # DELETE, not TRUNCATE or a rename: readers see the old rows until the commit, in any isolation level,
            # and views, grants and foreign keys stay.
            run(self._connection, f"DELETE FROM {quote_table(self._spec.target)}")

    # -- rows ---------------------------------------------------------------------------------------------------

    def shape(self, schema: Schema) -> Schema:
        """See `StreamLoad.shape`."""
        spec = self._spec
        with translating(self._owner, f"shaping {spec.target}"):
            key = spec.primary_key if spec.disposition in ("merge", "replace") else ()
            if self._open and self._plan is not None:
                self._merge_stage()
            sent, ddl = fit(self._connection, spec.target, schema, spec.contract, key)
            for statement in ddl:
                run(self._connection, statement)
            if key and spec.disposition == "merge":
                ensure_unique(self._connection, spec.target, key)
            if not self._open:
                self._connection.commit()
        self._sent = sent
        self._plan = stage.plan(sent, key, spec.cursor_field)
        return sent

    def write(self, rows: pa.RecordBatch, rejects: Iterable[Reject], counts: Counts) -> None:
        """See `StreamLoad.write`."""
        if self._sent is None or self._plan is None:
            raise MillstreamError("shape() comes before write()")
        with translating(self._owner, f"loading {self._spec.target}"):
            if not self._open:
                self._begin()
            self._counts = self._counts + replace(counts, loaded=0, duplicate=0)
            if rows.num_rows:
                self._copy(rows, self._sent, self._plan)
            self._quarantine(rejects)

    def _copy(self, rows: pa.RecordBatch, sent: Schema, plan: stage.StagePlan) -> None:
        target = quote_table(self._spec.target)
        schema = sent
        if plan.staged:
            if not self._staged_rows:
                for statement in stage.create_statements(plan):
                    run(self._connection, statement)
            rows = plan.numbered(rows, self._staged_rows)
            schema = plan.columns
            target = stage.NAME
            self._staged_rows += rows.num_rows
        else:
            self._counts = self._counts + Counts(loaded=rows.num_rows)
        columns = ", ".join(quote(name) for name in schema.names)
        stream = CopyStream(rows, schema, self._digest)
        with self._connection.cursor() as cursor:
            cursor.copy_expert(f"COPY {target} ({columns}) FROM STDIN (FORMAT binary)", stream, size=256 * 1024)

    def record_refused(self, rejects: Iterable[Reject]) -> None:
        """See `StreamLoad.record_refused`."""
        with translating(self._owner, "keeping refused rows"):
            self._quarantine(rejects, "refused")
            self._connection.commit()

    def _quarantine(self, rejects: Iterable[Reject], status: str = "open") -> None:
        spec = self._spec
        values = [
            (spec.pipeline, spec.stream, spec.target, spec.run, self._seq + 1, reject.rule,
             _storable(reject.message[:_MAX_MESSAGE]), json_text(reject.row), status)
            for reject in rejects
        ]  # fmt: skip
        if values:
            with self._connection.cursor() as cursor:
                execute_values(
                    cursor,
                    "INSERT INTO _millstream.quarantine "
                    '(pipeline, stream, target, run, seq, rule, message, "row", status) VALUES %s',
                    values,
                    page_size=1000,
                )

    def _merge_stage(self) -> None:
        if self._plan is None or not self._staged_rows:
            return
        loaded = run(self._connection, stage.merge_statement(self._plan, self._spec.target, self._spec.disposition))
        self._counts = self._counts + Counts(loaded=loaded, duplicate=self._staged_rows - loaded)
        run(self._connection, f"DROP TABLE {stage.NAME}")
        self._staged_rows = 0

    def settle(self) -> Counts:
        """See `StreamLoad.settle`."""
        with translating(self._owner, f"merging into {self._spec.target}"):
            if not self._open:
                self._begin()
            self._merge_stage()
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
                f"stream '{spec.stream}' chunk {self._seq + 1}: {counts.read} rows were read but {gap} are not "
                f"accounted for ({counts}); nothing of it was committed",
                reason="AccountingGap",
            )
        if spec.mode == "full":
            position = {"run": spec.run}
        with translating(self._owner, f"committing into {spec.target}"):
            where = json.dumps(position) if position is not None else None
            moved = run(
                self._connection,
                """
                UPDATE _millstream.state SET seq = seq + 1, position = coalesce(%s::jsonb, position), renewed_at = now()
                WHERE (pipeline, stream) = (%s, %s) AND epoch = %s AND seq = %s
                """,
                (where, spec.pipeline, spec.stream, self._epoch, self._seq),
            )
            if moved != 1:
                self.rollback()
                raise SupersededError(f"stream '{spec.stream}': another attempt has taken over")
            self._seq += 1
            run(
                self._connection,
                "INSERT INTO _millstream.ledger (pipeline, stream, seq, run, epoch, target, read, loaded, quarantined, "
                "duplicate, filtered, bytes, content_hash, position) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb)",
                (spec.pipeline, spec.stream, self._seq, spec.run, self._epoch, spec.target, counts.read, counts.loaded,
                 counts.quarantined, counts.duplicate, counts.filtered, counts.bytes_read, self._digest.hexdigest(),
                 where),
            )  # fmt: skip
            self._connection.commit()
        self._open = False
        self._reset()

    def rollback(self) -> None:
        """See `StreamLoad.rollback`."""
        if not self._connection.closed:
            self._connection.rollback()
        self._open = False
        self._reset()

    def run_counts(self) -> Counts:
        """See `StreamLoad.run_counts`."""
        with translating(self._owner, "reading the ledger"):
            row = one(
                self._connection,
                """
                SELECT coalesce(sum(read), 0), coalesce(sum(loaded), 0), coalesce(sum(quarantined), 0),
                       coalesce(sum(duplicate), 0), coalesce(sum(filtered), 0), coalesce(sum(bytes), 0)
                FROM _millstream.ledger WHERE pipeline = %s AND stream = %s AND run = %s
                """,
                (self._spec.pipeline, self._spec.stream, self._spec.run),
            )
            if not self._open:
                self._connection.commit()
        return Counts(*(int(value) for value in row))


def json_text(row: dict[str, Any]) -> str:
    """Return a quarantined row as JSON that jsonb takes: it has no place for NUL, so NUL is written as \\0."""
    return _storable(json.dumps(row, ensure_ascii=False, default=str).replace("\\u0000", "\\\\0"))


def _storable(text: str) -> str:
    return text.replace("\x00", "\\0").encode("utf-8", "replace").decode("utf-8")
