"""Rows that the source has no more leave the target: after a complete read, or after a read of all keys.

In mode full the read itself tells which keys are there; a stream that reads on from a position asks for all keys, at
most every `deletes.reconcileEvery`. Rows that were set aside have keys too, so a bad row does not count as gone. What
could not be parsed at all may have had any key: then nothing is taken out, and the report says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from millstream_api import CheckResult, RunOptions
from millstream_api.stream import StreamSpec
from millstream_pipelines.batch import DELETED, Batch, Reject
from millstream_pipelines.deletes import follows_absence
from millstream_pipelines.errors import ConfigurationError, MillstreamError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.freshness import duration
from millstream_pipelines.prefetch import prefetched
from millstream_pipelines.progress import Progress
from millstream_pipelines.schema import Schema
from millstream_pipelines.sources.base import ReadRequest, Source, why_incomplete
from millstream_pipelines.warehouses.base import Counts, StreamLoad, SweepingLoad

if TYPE_CHECKING:
    from millstream_pipelines.shaping import Shaper

_NAME = "absent rows"


def _asked(stream: StreamSpec, options: RunOptions) -> bool:
    return options.trigger not in ("backfill", "replay") and follows_absence(stream)


def _whole(stream: StreamSpec) -> bool:
    return stream.mode == "full" and stream.write_disposition == "scd2"


def require_complete(stream: StreamSpec, options: RunOptions, source: Source, request: ReadRequest) -> None:
    """Raise ConfigurationError where absent rows are to be followed and the source cannot list all keys."""
    reason = why_incomplete(source, request) if _asked(stream, options) else None
    if reason is None:
        return
    if _whole(stream):
        what = "writeDisposition 'scd2' in mode 'full' ends what a read lacks, and cannot"
        cure = "or use mode incremental"
    else:
        what, cure = "deletes.reconcileEvery cannot tell what is gone", "or mark deleted rows (deletes.column)"
    raise ConfigurationError(f"stream '{stream.name}': {what}: {reason}; {cure}")


@dataclass
class Reconciler:
    """Follows one stream of a run: notes keys where they are known by the way, and sweeps at the end."""

    stream: StreamSpec
    load: StreamLoad
    options: RunOptions
    mask_key: bytes
    result: list[CheckResult] = field(default_factory=list)
    _unreadable: int = 0

    def set_aside(self, batch: Batch, rejects: list[Reject], source: Schema, target: Schema) -> None:
        """In mode full, note the keys of a batch that has rejects: not written, but not gone from the source."""
        if rejects and self.stream.mode == "full" and _asked(self.stream, self.options):
            self._note(batch, self._shaper(source, target))

    def begin(self) -> None:
        """In mode full, let only rows be taken out that the target has now."""
        if self.stream.mode == "full" and _asked(self.stream, self.options):
            self._sweeping().remember()

    def sweep_read(self) -> Counts:
        """In mode full, take out in the open transaction what the read lacked; return what was done."""
        if self.stream.mode != "full" or not self._due():
            return Counts()
        return self._swept() or Counts()

    def read_keys(self, source: Source, described: Schema, target: Schema, progress: Progress) -> Counts | None:
        """In mode incremental, when it is time: read all keys of the source, sweep and commit.

        Returns what was committed, None when nothing was.
        """
        if self.stream.mode == "full" or not self._due():
            return None
        progress.stage(self.stream.name, "reconcile")
        self._sweeping().remember()
        shaper = self._shaper(described, target)
        request = ReadRequest(self.stream.name, columns=tuple(shaper.inputs(self.stream.primary_key)))
        for batch in prefetched(source.read(request)):
            self._note(batch, shaper)
        reached("keys-read")
        counts = self._swept()
        if counts is None:
            self.load.rollback()
        else:
            self.load.commit(None)
            reached("reconciled")
        return counts

    def _due(self) -> bool:
        if not _asked(self.stream, self.options):
            return False
        age, every = self._sweeping().since_reconciled, self.stream.deletes.reconcile_every
        return _whole(self.stream) or age is None or every is None or age >= duration(every)

    def _swept(self) -> Counts | None:
        if not self._unreadable:
            deleted = self._sweeping().sweep()
            reached("swept")
            return Counts(deleted=deleted)
        message = (
            f"{self._unreadable} rows could not be read far enough to know their keys, so no row was taken out of "
            f"{self.stream.target} for being absent; repair them at the source"
        )
        self.result.append(
            CheckResult(
                name="absent_rows", severity="warn", outcome="skipped", failed_rows=self._unreadable, message=message
            )
        )
        return None

    def _note(self, batch: Batch, shaper: Shaper) -> None:
        import pyarrow.compute as pc

        shaped = shaper.apply(batch)
        self._unreadable += len(batch.rejects) + sum(item.rule == "filter" for item in shaped.rejects)
        keys = shaped.rows
        if DELETED in keys.schema.names:
            keys = keys.filter(pc.invert(keys.column(DELETED))).drop_columns([DELETED])
        if keys.num_rows:
            self._sweeping().present(keys)

    def _shaper(self, source: Schema, target: Schema) -> Shaper:
        from millstream_pipelines.shaping import Shaper

        shaper = Shaper(self.stream, source, f"stream '{self.stream.name}'", self.mask_key)
        shaper.bind_keys(target)
        return shaper

    def _sweeping(self) -> SweepingLoad:
        if not isinstance(self.load, SweepingLoad):
            raise MillstreamError(f"stream '{self.stream.name}': the load of this warehouse cannot sweep")
        return self.load


def reconciler(
    stream: StreamSpec, load: StreamLoad, options: RunOptions, mask_key: bytes, source: Source, request: ReadRequest
) -> Reconciler:
    """Return what follows absent rows in this run, before any row is read.

    Raises ConfigurationError where the source cannot list all keys.
    """
    require_complete(stream, options, source, request)
    made = Reconciler(stream, load, options, mask_key)
    made.begin()
    return made
