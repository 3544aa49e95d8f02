"""The load of one stream into Parquet files: rows go out as they come, and one object of the log commits them."""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from millstream_pipelines.batch import Position, Reject
from millstream_pipelines.errors import ConfigurationError, DataError, MillstreamError, RowRefusedError, SupersededError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses._parquet import types
from millstream_pipelines.warehouses._parquet.commits import Commit, LedgerRow, StoredColumn, StreamState, TableState
from millstream_pipelines.warehouses._parquet.config import ParquetConfig
from millstream_pipelines.warehouses._parquet.files import DataFiles, SetAsideFile
from millstream_pipelines.warehouses._parquet.lease import taken
from millstream_pipelines.warehouses._parquet.log import TableLog, parts
from millstream_pipelines.warehouses._parquet.refusals import refuse_spec
from millstream_pipelines.warehouses._parquet.store import Store
from millstream_pipelines.warehouses._parquet.tables import Pending, fit, joined, respelled
from millstream_pipelines.warehouses.base import DONE, Chunk, Counts, LoadSpec
from millstream_pipelines.warehouses.row_json import message_text, row_text, storable
from millstream_pipelines.warehouses.set_aside import Replaying

_MIB = 1024 * 1024
_log = logging.getLogger(__name__)


class ParquetLoad:
    """See `StreamLoad`. One attempt: a folder of its own for files, and an epoch."""

    commit_seconds = 60.0

    def __init__(self, store: Store, spec: LoadSpec, owner: str, config: ParquetConfig) -> None:
        refuse_spec(spec, owner)
        self.commit_rows = config.commit_rows
        self._store, self._spec, self._owner = store, spec, owner
        self._log = TableLog(store, *parts(spec.target), owner)
        self._attempt = uuid.uuid4().hex
        self.position: Position | None = None
        self.already_done: Counts | None = None
        committed = taken(self._log, store, spec, self._attempt)
        self._epoch = self._mine.epoch
        self._numbers: list[int] = []
        self._sent: Schema | None = None  # as the table spells it
        self._columns: Schema | None = None  # of the table, as this load makes it
        folder = self._log.folder
        self._data = DataFiles(store, folder, f"data/{self._attempt}", config.file_megabytes * _MIB)
        self._aside = SetAsideFile(store, folder, f"quarantine/{self._attempt}")
        self._reset()
        if spec.mode == "incremental":
            self.position = None if committed is not None and set(committed) == {DONE} else committed
        elif committed == {DONE: spec.run}:
            self.already_done = self.run_counts()

    def _reset(self) -> None:
        self._counts = Counts()
        self._open = self._settled = self._shaped_inside = False

    @property
    def _mine(self) -> StreamState:
        return self._log.state.stream(self._spec.pipeline, self._spec.state)

    @property
    def target(self) -> str:
        """The table."""
        return self._spec.target

    def pending(self) -> Pending | None:
        """Return the table as the open transaction would make it; None when there is none. Ends the open file.

        SupersededError when it can make nothing of it any more: a successor's rows would look like ours come twice.
        """
        if not self._open or self._columns is None:
            return None
        self._data.close()
        self._log.catch_up()
        self._commit(self._log.state, "rows")
        before = [] if self._spec.disposition == "replace" else self._log.state.files
        return Pending(joined(self.target, self._log.state.shape, self._columns), [*before, *self._data.finished])

    # -- rows ---------------------------------------------------------------------------------------------------

    def shape(self, schema: Schema) -> Schema:
        """See `StreamLoad.shape`. What it changes is a commit of its own, or waits for the transaction."""
        self._log.catch_up()
        known = self._columns if self._shaped_inside else self._log.state.shape
        sent, columns = fit(self._spec.target, known, schema, self._spec.contract)
        changed = known is None or list(columns) != list(known)
        if changed and not self._open:
            self._log.publish(lambda state: self._shape_commit(state, columns))
            columns = self._log.state.shape or columns
        self._shaped_inside = self._shaped_inside or (changed and self._open)
        self._sent, self._columns = respelled(sent, columns), columns
        return sent

    def write(self, rows: pa.RecordBatch, rejects: Iterable[Reject], counts: Counts) -> None:
        """See `StreamLoad.write`."""
        if self._sent is None and rows.num_rows:
            raise MillstreamError("shape() comes before write()")
        self._begin()
        self._settled = False
        self._counts = self._counts + replace(counts, loaded=0)
        if self._sent is not None and rows.num_rows:
            kept, refused = types.stored(rows, self._sent)
            self._refuse(refused)
            if kept.num_rows:
                self._data.write(kept)
                self._counts = self._counts + Counts(loaded=kept.num_rows)
        self._quarantine(rejects)

    def _begin(self) -> None:
        if not self._open:
            self._open = True
            reached("begun")

    def _refuse(self, refused: list[Reject]) -> None:
        """Set rows aside that Parquet cannot hold, as the contract says."""
        rule = self._spec.contract.rows
        if refused and rule == "freeze":
            raise RowRefusedError(self._spec.stream, refused[0].rule, refused[0].message)
        if rule == "quarantine":
            self._quarantine(refused)
        kept = len(refused) if rule == "quarantine" else 0
        self._counts = self._counts + Counts(quarantined=kept, filtered=len(refused) - kept)

    def _quarantine(self, rejects: Iterable[Reject], status: str = "open") -> None:
        spec, at = self._spec, datetime.now(UTC).isoformat()
        lines = [
            {"pipeline": spec.pipeline, "stream": spec.stream, "target": spec.target, "run": spec.run,
             "seq": self._mine.seq + 1, "rule": storable(item.rule), "message": message_text(item.message),
             "row": json.loads(row_text(item.row)), "status": status, "created_at": at, "form": item.form,
             "masked": list(item.masked)}
            for item in rejects
        ]  # fmt: skip
        self._aside.write(lines)
        if lines:
            reached("quarantined")

    def record_refused(self, rejects: Iterable[Reject]) -> None:
        """See `StreamLoad.record_refused`."""
        self._quarantine(rejects, "refused")
        aside = self._aside.close()
        if aside:
            self._log.publish(lambda state: self._commit(state, "refused", quarantine=aside))

    def settle(self) -> Counts:
        """See `StreamLoad.settle`. The files are complete and durable when it returns."""
        self._begin()
        self._data.close()
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
                f"stream '{spec.stream}' chunk {self._mine.seq + 1}: {counts.read} rows were read but {gap} are not "
                f"accounted for ({counts}); nothing of it was committed",
                reason="AccountingGap",
            )
        aside = self._aside.close()
        reached("position-advanced")
        where = {DONE: spec.run} if spec.mode == "full" else position
        reached("ledger-entered")
        try:
            made = self._log.publish(lambda state: self._rows_commit(state, where, aside))
        except SupersededError:
            self.rollback()  # the log says that it has not happened
            raise
        except BaseException:
            self._data.taken()  # it may have happened: the files stay for whoever reads the log next
            self._reset()
            raise
        self._data.taken()
        self._numbers.append(made.number)
        self._reset()

    def _rows_commit(self, state: TableState, position: Position | None, aside: list[Any]) -> Commit:
        spec, counts, mine = self._spec, self._counts, state.stream(self._spec.pipeline, self._spec.state)
        files = self._data.finished
        digest = hashlib.blake2b("".join(item.sha256 for item in files).encode(), digest_size=16).hexdigest()
        columns = self._columns and joined(spec.target, state.shape, self._columns)
        after = {
            "seq": mine.seq + 1,
            "position": mine.position if position is None else position,
            "runs": mine.counted(spec.run, counts),
        }
        ledger = LedgerRow(
            seq=mine.seq + 1, target=spec.target, counts=asdict(counts), content_hash=digest, position=position,
            origin=spec.origin,
        )  # fmt: skip
        return self._commit(
            state, "rows", after, added=files, quarantine=aside, ledger=ledger,
            replaces=spec.disposition == "replace",
            columns=None if columns is None or columns == state.shape else _documents(columns),
        )  # fmt: skip

    def _shape_commit(self, state: TableState, columns: Schema) -> Commit:
        return self._commit(state, "shape", columns=_documents(joined(self.target, state.shape, columns)))

    def _commit(self, state: TableState, kind: Any, after: dict[str, Any] | None = None, **said: Any) -> Commit:
        """Return the next commit of this attempt. SupersededError when the newest state knows a later epoch."""
        mine = state.stream(self._spec.pipeline, self._spec.state)
        if mine.epoch != self._epoch:
            raise SupersededError(
                f"stream '{self._spec.stream}': another attempt ({mine.holder}, run '{mine.run}') has taken over from "
                f"{self._spec.holder}; this one stops and loses nothing"
            )
        at = datetime.now(UTC)
        moved = mine.model_copy(update={"renewed_at": at, **(after or {})})
        return Commit(number=state.number + 1, id=uuid.uuid4().hex, kind=kind, at=at, state=moved, **said)

    def rollback(self) -> None:
        """See `StreamLoad.rollback`. No commit speaks of these files, and none can any more."""
        keys = [*self._data.forget(), *self._aside.forget()]
        if self._shaped_inside:
            self._sent = self._columns = None
        self._reset()
        try:
            self._store.remove([f"{self._log.folder}/{key}" for key in keys])
        except MillstreamError as error:  # the next attempt removes them; what led here is the error that counts
            _log.warning("files of an attempt that was given up: %s", error)

    def replaying(self) -> Replaying:
        """Refuse: rows come back where a key can be compared."""
        raise ConfigurationError(
            f"{self._owner}: rows of the quarantine cannot be replayed into Parquet files; load them again from the "
            "source (fullRefresh with 'replace'), or into a warehouse of type postgres or duckdb"
        )

    def run_counts(self) -> Counts:
        """See `StreamLoad.run_counts`."""
        return self._log.run_counts(self._spec.pipeline, self._spec.state, self._spec.run)

    def chunks(self) -> list[Chunk]:
        """See `StreamLoad.chunks`."""
        found = (item.ledger for item in self._log.numbered(self._numbers))
        return [Chunk(item.seq, Counts(**item.counts)) for item in found if item is not None]


def _documents(columns: Schema) -> list[StoredColumn]:
    return [StoredColumn(name=column.name, type=column.type) for column in columns]
