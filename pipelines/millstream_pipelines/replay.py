"""Rows of the quarantine, sent through the current manifest once more.

Each chunk is one transaction under the stream's lease: rows into the target, their verdicts into the quarantine, one
row into the ledger. So a row is loaded and closed at once or not at all, whoever is killed. The position stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from millstream_api.run_options import Replay
from millstream_api.stream import StreamSpec
from millstream_pipelines.abilities import require_abilities, require_ability
from millstream_pipelines.batch import REPLAYED_ID, Batch, Reject
from millstream_pipelines.bounds import kind_of
from millstream_pipelines.deletes import read_columns
from millstream_pipelines.errors import ConfigurationError, DataError, MillstreamError, RowRefusedError
from millstream_pipelines.guarantee import EXACTLY_ONCE
from millstream_pipelines.metadata import Metadata
from millstream_pipelines.replayable import why_not_replayed
from millstream_pipelines.replayed_rows import as_shaped, batches, kind, widened
from millstream_pipelines.reread import Interval, Rereads
from millstream_pipelines.row_checks import RowChecks
from millstream_pipelines.schema import Schema
from millstream_pipelines.selection import Selection
from millstream_pipelines.set_checks import enforce
from millstream_pipelines.shaping import Shaper
from millstream_pipelines.stream_run import StreamRun
from millstream_pipelines.warehouses.base import Counts, LoadSpec, StreamLoad
from millstream_pipelines.warehouses.set_aside import SetAside, Verdict

_CHUNK = 500  # rows; a chunk that the warehouse refuses is halved until the row that it refuses is alone


@dataclass
class _Judged:
    """A chunk on its way: the verdicts so far, and the rows that are left with their numbers."""

    verdicts: list[Verdict] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    rows: pa.RecordBatch | None = None

    def reject(self, rejects: Sequence[Reject]) -> None:
        self.verdicts += [Verdict(item.id, "open", item.rule, item.message) for item in rejects if item.id is not None]

    def supersede(self, places: Sequence[int]) -> None:
        if self.rows is None or not places:
            return
        gone = set(places)
        why = "the target has a newer row of its key"
        self.verdicts += [Verdict(self.ids[place], "superseded", why=why) for place in places]
        self.rows = self.rows.filter(pa.array([place not in gone for place in range(len(self.ids))]))
        self.ids = [number for place, number in enumerate(self.ids) if place not in gone]


class ReplayRun(StreamRun):
    """See `StreamRun`. Reads the quarantine in place of the source."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.left: dict[str, int] = {}
        """Rows that still fail, by rule."""
        self.unparsed = 0
        """Open rows that no replay can load."""
        name, wanted = self.stream.name, self.options.replay or Replay()
        self._owner = f"stream '{name}'"
        self._selection = Selection(self.identity, (name,), wanted.rule, wanted.run, None, tuple(wanted.ids))
        self._limit = _CHUNK
        self._columns: Schema | None = None
        self._rereads = Rereads()

    def go(self) -> None:
        """Replay what is chosen, chunk by chunk. A failure leaves what was committed; the rest stays open."""
        stream, metadata = self.stream, Metadata(self.warehouse, self.identity)
        self.progress.stage(stream.name, "load")
        self._refuse()
        self._rereads = self._read_again(metadata)
        load = self.warehouse.load(self._load_spec())
        self.result.guarantee = EXACTLY_ONCE
        self.result.guarantee_reason = "rows and their verdicts in the quarantine commit together"
        try:
            while self._step(load):
                self._passing(0)
        finally:
            load.rollback()
            with suppress(Exception):  # the warehouse may be the thing that failed; the first error counts
                self.result.counts = load.run_counts()
        self._accounts.verify(load.chunks())
        self.left = metadata.left_by(self.run, stream.name)
        self.unparsed = metadata.unparsed(self._selection)

    def _refuse(self) -> None:
        """Raise ConfigurationError for a stream whose rows need more than they had when they were set aside."""
        require_abilities(self.stream, self.warehouse)
        require_ability("replay", self.warehouse, f"{self._owner}: a replay", "load the rows again from their source")
        if (why := why_not_replayed(self.stream)) is not None:
            raise ConfigurationError(f"{self._owner}: {why}")

    def _load_spec(self) -> LoadSpec:
        """Return the stream's load, but adding to what is there, and refusing where it would set aside anew."""
        spec, stream = super()._load_spec(), self.stream
        return replace(
            spec,
            mode="incremental",
            disposition="append" if spec.disposition == "replace" else spec.disposition,
            primary_key=() if spec.disposition == "append" else tuple(stream.primary_key),
            contract=stream.contract.model_copy(update={"rows": "freeze"}),
            origin="quarantine",
            sweeps=False,
        )

    def _step(self, load: StreamLoad) -> bool:
        """Replay one chunk; False when nothing is left."""
        taken = load.replaying().take(self._selection, self._limit)
        rows = [item for item in taken if kind(item) == kind(taken[0])]
        if not rows:
            return False
        try:
            self._chunk(load, rows)
        except _UnshapableError as error:
            load.rollback()
            self._leave(load, rows, error.rule, error.why)
        except DataError as error:
            load.rollback()
            if len(rows) > 1:
                self._limit = len(rows) // 2
                return True
            rule, why = (error.rule, error.why) if isinstance(error, RowRefusedError) else (error.reason, str(error))
            self._leave(load, rows, rule, why)
        else:
            self._limit = min(_CHUNK, self._limit * 2)
        return True

    def _chunk(self, load: StreamLoad, rows: list[SetAside]) -> None:
        judged = _Judged()
        stale = {item.id: why for item in rows if (why := self._rereads.reason(item)) is not None}
        judged.verdicts += [Verdict(number, "superseded", why=why) for number, why in stale.items()]
        current = [item for item in rows if item.id not in stale]
        checks = self._sorted(load, current, judged) if current else None
        if judged.rows is not None and _one_row_per_key(self.stream):
            judged.supersede(load.replaying().superseded(judged.rows))
        self._close(load, judged, checks)

    def _sorted(self, load: StreamLoad, rows: list[SetAside], judged: _Judged) -> RowChecks:
        """Shape and check rows of one kind."""
        form, masked_before = kind(rows[0])
        described = self._description()
        schema = widened(described, rows) if form == "read" else described
        shaper = Shaper(self.stream, schema, self._owner, self._mask_key())
        private = shaper.private
        if form == "shaped":
            schema = as_shaped(shaper.schema, rows)
            shaper = Shaper(_plain(self.stream), schema, self._owner)
            masked = frozenset[str]()
        else:
            masked = shaper.hidden if masked_before is None else masked_before
        if (lost := shaper.lost(masked)) is not None:
            raise _UnshapableError("masked", f"{lost}; discard the row, or load it from the source again")
        try:
            target = load.shape(shaper.schema)
            shaper.bind(target)
            checks = RowChecks(self.stream.checks, target, self._owner, private=private)
        except (DataError, ConfigurationError) as error:
            if form == "read" and isinstance(error, ConfigurationError):
                raise
            raise _UnshapableError(error.reason, str(error)) from error
        parts, ids = [], []
        for data in batches(rows, schema, masked):
            shaped = shaper.apply(Batch(data), masked)
            kept, failed = checks.apply(shaped.rows, shaped.numbered)
            judged.reject([*shaped.rejects, *failed])
            told = {item.id for item in (*shaped.rejects, *failed)}
            passed = [number for number in shaped.origin.column(REPLAYED_ID).to_pylist() if number not in told]
            gone = set(data.column(REPLAYED_ID).to_pylist()) - told - set(passed)
            judged.verdicts += [Verdict(number, "filtered", why="the filter leaves it out") for number in sorted(gone)]
            parts.append(kept)
            ids += passed
        table = pa.Table.from_batches(parts)
        order = pc.sort_indices(pa.array(ids, pa.int64()))
        judged.ids = sorted(ids)
        if ids:
            judged.rows = table.take(order).combine_chunks().to_batches()[0]
        return checks

    def _close(self, load: StreamLoad, judged: _Judged, checks: RowChecks | None) -> None:
        rows = judged.rows if judged.rows is not None else pa.RecordBatch.from_pydict({})
        outcomes = [item.outcome for item in judged.verdicts]
        counts = Counts(
            read=len(judged.verdicts) + len(judged.ids),
            quarantined=outcomes.count("open"),
            duplicate=outcomes.count("superseded"),
            filtered=outcomes.count("filtered"),
            bytes_read=rows.nbytes,
        )
        load.write(rows, [], counts)
        settled = load.settle()
        if judged.ids and checks is not None:
            found = [item.evaluate(self.warehouse, self.stream.target) for item in checks.set_checks]
            enforce(self._owner, found)
        load.replaying().resolve([*judged.verdicts, *(Verdict(number, "replayed") for number in judged.ids)])
        load.commit(None)
        self._accounts.committed(settled)
        self._seen.took(counts)

    def _leave(self, load: StreamLoad, rows: list[SetAside], rule: str, why: str) -> None:
        """Leave rows open, in a transaction of their own."""
        chosen = replace(self._selection, ids=tuple(item.id for item in rows))
        again = load.replaying().take(chosen, len(rows))
        if again:
            self._close(load, _Judged([Verdict(item.id, "open", rule, why) for item in again]), None)

    def _read_again(self, metadata: Metadata) -> Rereads:
        stream = self.stream
        if stream.mode == "full" and stream.write_disposition in ("replace", "scd2"):
            return Rereads(full_load=metadata.loaded_by(stream.name))
        if stream.write_disposition != "append" or stream.cursor is None:
            return Rereads()
        intervals = [Interval(**row) for row in metadata.backfilled(stream.name)]
        column = self._description().get(stream.cursor.field) if intervals else None
        return Rereads(None, intervals, stream.cursor.field, kind_of(column.type) if column is not None else None)

    def _description(self) -> Schema:
        if self._columns is None:
            stream = self.stream
            self._columns = self.source.describe(stream.name, read_columns(stream)).schema
        return self._columns


def still_failing(replays: Sequence[StreamRun]) -> DataError | None:
    """Return the error of a run that leaves rows which it has tried, with counts by rule."""
    left: dict[str, int] = {}
    for item in _replays(replays):
        for rule, count in item.left.items():
            left[rule] = left.get(rule, 0) + count
    if not left:
        return None
    rules = ", ".join(f"{count} by {rule}" for rule, count in sorted(left.items(), key=lambda pair: -pair[1]))
    return DataError(
        f"{sum(left.values())} quarantined rows still fail: {rules}; they stay open "
        "(`millstream quarantine show` says why)",
        reason="StillFailing",
    )


def what_came(replays: Sequence[StreamRun]) -> list[str]:
    """Return what to say of replays: what became of the rows, and which rows no replay can load."""
    total = sum((item.result.counts for item in replays), Counts())
    lines = [f"{total.read} quarantined rows replayed, {total.loaded} loaded"] if total.read else ["nothing to replay"]
    if total.duplicate:
        lines.append(f"{total.duplicate} superseded by newer rows")
    if total.filtered:
        lines.append(f"{total.filtered} left out by the filter")
    if unparsed := sum(item.unparsed for item in _replays(replays)):
        lines.append(
            f"{unparsed} open rows were never parsed by the source and cannot be replayed: "
            "discard them, or repair them at the source, which sends them again"
        )
    return lines


def _replays(runs: Sequence[StreamRun]) -> list[ReplayRun]:
    return [item for item in runs if isinstance(item, ReplayRun)]


class _UnshapableError(MillstreamError):
    """A chunk whose rows have no way through the manifest, all for one reason."""

    def __init__(self, rule: str, why: str) -> None:
        super().__init__(why)
        self.rule, self.why = rule, why


def _one_row_per_key(stream: StreamSpec) -> bool:
    """Return whether an older row must not follow a newer one. History with times of its own takes any order."""
    if stream.write_disposition == "scd2":
        return stream.scd2.effective_at is None
    return stream.write_disposition in ("merge", "replace")


def _plain(stream: StreamSpec) -> StreamSpec:
    """Return a stream that passes every column as it is."""
    return StreamSpec(name=stream.name, target=stream.target, primary_key=stream.primary_key)
