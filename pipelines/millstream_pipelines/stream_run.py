"""One stream of a run: read → shape → check → write, committed where the source says it is safe."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace

from millstream_api import CheckResult, RunOptions
from millstream_api.pipeline import ErrorBudget
from millstream_api.stream import StreamSpec
from millstream_pipelines.abilities import require_abilities
from millstream_pipelines.accounting import Accounts
from millstream_pipelines.batch import Batch, Position
from millstream_pipelines.budgets import Budget
from millstream_pipelines.deferred_shaping import DeferredShaper as Shaper
from millstream_pipelines.doubts import doubts
from millstream_pipelines.drift import drifts, own_columns
from millstream_pipelines.errors import DataError, RowRefusedError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.guarantee import guarantee
from millstream_pipelines.plain_rows import rows_of
from millstream_pipelines.prefetch import prefetched
from millstream_pipelines.progress import Progress
from millstream_pipelines.raw_copy import RawReading
from millstream_pipelines.raw_run import pass_on, undecoded
from millstream_pipelines.reconciling import reconciler
from millstream_pipelines.row_checks import RowChecks, Tally
from millstream_pipelines.schema import Schema
from millstream_pipelines.seen import Seen
from millstream_pipelines.set_checks import enforce
from millstream_pipelines.sources.base import CancellableSource, ReadRequest, Source
from millstream_pipelines.stream_requests import load_spec, read_request
from millstream_pipelines.stream_result import StreamResult
from millstream_pipelines.warehouses.base import Counts, LoadSpec, StreamLoad, Warehouse
from millstream_pipelines.warehouses.fitting import LeftOutError
from millstream_pipelines.warehouses.optional import CarefulLoad, RawLoad


@dataclass
class StreamRun:
    """The run of one stream; `go` raises what stopped it, `result` has what was committed."""

    stream: StreamSpec
    budget: ErrorBudget
    source: Source
    warehouse: Warehouse
    identity: str
    run: str
    holder: str
    options: RunOptions
    progress: Progress
    pace: Callable[[int], None] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self.result = StreamResult(self.stream.name, self.stream.target)
        self._seen = Seen()
        self._careful = False  # a row of this chunk was refused by the warehouse; it is looked for
        self._tally: Tally = ()  # of the row checks, at the last commit
        self._hold = False  # until everything is in: one transaction for all
        self._nest = rows_of(self.stream, self._mask_key())
        self._checks: RowChecks | None = None
        self._settled = Counts()  # of the open transaction
        self._accounts = Accounts(f"stream '{self.stream.name}'")
        self._described = self._target = Schema(())

    def go(self) -> None:
        """Load the stream. A failure before the last commit leaves what was committed and its position."""
        stream = self.stream
        require_abilities(stream, self.warehouse)
        self.progress.stage(stream.name, "describe")
        described = self._decide(self._nest.described(self.source, self.warehouse.shape_of))
        shaper = self._nest.shaper(described)
        load = self.warehouse.load(self._load_spec())
        reached("lease-taken")
        self._seen.paced(load)
        try:
            request = self._request(load.position)
            self.result.guarantee, self.result.guarantee_reason = guarantee(stream, *self.source.guarantee(request))
            if load.already_done is None:
                self._reconciler = reconciler(stream, load, self.options, self._mask_key(), self.source, request)
                self.progress.stage(stream.name, "load")
                self._load(load, request, shaper, described)
                self._follow_deletes()
                self.result.checks += self._reported(doubts(self.source, request))
        except LeftOutError as why:
            load.rollback()
            self.result.note = f"left out: {why}"
            return
        except BaseException as error:
            load.rollback()
            if isinstance(error, DataError) and self._seen.refused:
                load.record_refused(self._seen.refused)
            if self._checks is not None and not self.result.checks:
                self.result.checks = self._reported(self._checks.results())
            self.result.counts = _committed(load)
            raise
        self.result.counts = load.run_counts()
        self._accounts.verify(load.chunks())
        self._nest.tell(self.result, load)
        self.progress.stage(stream.name, "done")

    def _decide(self, schema: Schema) -> Schema:
        """Decide what follows from the stream's description before the lease is taken; return the one to go by."""
        return schema

    def _load(self, load: StreamLoad, request: ReadRequest, shaper: Shaper, described: Schema) -> None:
        checks = self._bind(shaper, load)
        self._hold = self._is_whole or any(check.severity == "error" for check in checks.set_checks)
        self._seen.position = request.position
        reading = undecoded(self.stream, self.source, request, self._target, checks.row_checks)
        while True:
            try:
                if reading is not None and isinstance(load, RawLoad):
                    last = self._pass_on(load, reading)
                else:
                    last = self._decode(load, request, shaper, described)
                self._finish(load, last)
                return
            except DataError as error:
                if not isinstance(load, CarefulLoad) or self._careful or not load.may_search(error):
                    raise
                self._step_back(load, shaper)
                reading, request = None, replace(request, position=self._seen.position)

    def _step_back(self, load: CarefulLoad, shaper: Shaper) -> None:
        """Give up what is not committed, to read it again and find the row that the warehouse refuses."""
        load.rollback()
        load.careful()
        self._careful = True
        self._seen.step_back()
        self._bound.recount(self._tally)
        self._bind(shaper, load)

    def _pass_on(self, load: RawLoad, reading: RawReading) -> Position | None:
        """Let the rows pass undecoded; return the last position."""
        last: Position | None = None
        with closing(reading.stretches()) as stretches:
            for stretch in stretches:
                rows, size_bytes = pass_on(reading, stretch, load, self.pace, self._passing)
                reached("written")
                self._seen.took(Counts(read=rows, bytes_read=size_bytes))
                self._passing(0)
                last = stretch.position or last
                if stretch.position is not None and not self._hold:
                    self._settle(load)
                    self._commit(load, stretch.position)
        return last

    def _decode(self, load: StreamLoad, request: ReadRequest, shaper: Shaper, described: Schema) -> Position | None:
        """Let the rows pass as batches, shaped and checked; return the last position."""
        last: Position | None = None
        cancel = self.source.cancel if isinstance(self.source, CancellableSource) else lambda: None
        with closing(prefetched(self._nest.opened(self.source.read(self._nest.asked(request))), cancel)) as batches:
            for batch in batches:
                if not self._nest.covers(shaper, batch):
                    described = self._nest.united(described, batch.data.schema)
                    shaper = self._nest.shaper(described)
                    self._bind(shaper, load)
                if self.pace is not None:
                    self.pace(batch.rows_read)
                self._write(load, shaper, batch)
                last = batch.position or last
                if batch.position is not None and not self._hold and self._seen.commit_is_due:
                    self._settle(load)
                    if not any(budget.spent() for budget in self._budgets()):  # else it waits for more rows
                        self._commit(load, batch.position)
        return last

    @property
    def _is_whole(self) -> bool:
        """Whether a read is one transaction, committed even without a row."""
        return self.stream.mode == "full"

    def _bind(self, shaper: Shaper, load: StreamLoad) -> RowChecks:
        self._note_drift(shaper.schema)
        target = load.shape(shaper.schema)
        reached("shaped")
        shaper.bind(target)
        self._described, self._target = shaper.source, target
        owner = f"stream '{self.stream.name}'"
        self._checks = RowChecks(self.stream.checks, target, owner, private=shaper.private, before=self._checks)
        return self._checks

    @property
    def _bound(self) -> RowChecks:
        assert self._checks is not None, "bound before the first row"  # noqa: S101
        return self._checks

    def _note_drift(self, schema: Schema) -> None:
        stream, found = self.stream, self.result.drift
        shape = self.warehouse.shape_of(stream.target, schema)
        known = {(item.column, item.change) for item in found}
        met = drifts(stream.name, schema, shape, stream.contract, own_columns(stream))
        found += [item for item in met if (item.column, item.change) not in known]

    def _write(self, load: StreamLoad, shaper: Shaper, batch: Batch) -> None:
        shaped = shaper.apply(batch)
        rows, failed = self._bound.apply(shaped.rows, shaped.read)
        failed = self._nest.completed(failed, batch, shaper)
        rejects = [*(replace(item, form="raw") for item in batch.rejects), *shaped.rejects, *failed]
        rule = self.stream.contract.rows
        if rejects and rule == "freeze":
            raise RowRefusedError(self.stream.name, rejects[0].rule, rejects[0].message)
        kept = [] if rule == "discard" else rejects
        counts = Counts(
            read=batch.rows_read,
            quarantined=len(kept),
            filtered=shaped.filtered + len(rejects) - len(kept),
            bytes_read=batch.data.nbytes,
        )
        self._seen.took(counts, kept)
        self._judge()
        load.write(rows, kept, counts)
        self._reconciler.set_aside(batch, rejects, self._described, self._target)
        self._nest.write(load, rows, batch, self._target, self.warehouse.shape_of)
        reached("written")
        if self._careful and isinstance(load, CarefulLoad):
            self._seen.heard(load.counts)
            self._judge()
        self._passing(0)

    def _passing(self, size_bytes: int) -> None:
        """Tell the progress; `size_bytes` have passed that are not counted yet."""
        seen = self._seen.total
        self.progress.rows(self.stream.name, seen.read, seen.quarantined, seen.bytes_read + size_bytes)

    def _settle(self, load: StreamLoad) -> None:
        """Settle, and hold the budget against the rows that only the warehouse could refuse."""
        self._nest.settle(load, self._target, self.warehouse.shape_of)
        self._settled = load.settle()
        reached("settled")
        self._seen.heard(self._settled)
        self._judge()

    def _judge(self, *, final: bool = False) -> None:
        """Raise DataError when a budget is spent beyond doubt."""
        for budget in self._budgets():
            if (why := budget.judged(final=final)) is not None:
                cure = "see `millstream quarantine list`; nothing of this chunk was committed"
                raise DataError(f"{why}; {cure}", reason="ErrorBudgetSpent")

    def _budgets(self) -> list[Budget]:
        limits, seen = self.budget, self._seen.total
        what = f"stream '{self.stream.name}': {seen.quarantined} of {seen.read} rows read so far were set aside"
        whole = Budget(what, limits.max_quarantined_rows, limits.max_quarantined_ratio, seen.quarantined, seen.read)
        return [whole, *(self._checks.budgets() if self._checks is not None else ())]

    def _commit(self, load: StreamLoad, position: Position | None) -> None:
        load.commit(position)
        reached("committed")
        self._accounts.committed(self._settled)
        self._seen.committed(position)
        self._careful, self._tally = False, self._bound.tally()

    def _finish(self, load: StreamLoad, last: Position | None) -> None:
        due = self._seen.pending or self._is_whole
        if due:
            self._settle(load)
        self._judge(final=True)
        self._settled = self._settled + self._reconciler.sweep_read()
        checks = self._bound
        found = []
        if checks.set_checks:
            self.progress.stage(self.stream.name, "checks")
            found = [check.evaluate(self.warehouse, self.stream.target) for check in checks.set_checks]
        self.result.checks = self._reported([*checks.results(), *found])
        enforce(f"stream '{self.stream.name}'", found)
        if due:
            self._commit(load, last)

    def _follow_deletes(self) -> None:
        if (done := self._reconciler.read_keys(self.source, self._described, self._target, self.progress)) is not None:
            self._accounts.committed(done)
        self.result.checks += self._reported(self._reconciler.result)

    def _reported(self, results: list[CheckResult]) -> list[CheckResult]:
        return [item.model_copy(update={"target": self.stream.target}) for item in results]

    def _mask_key(self) -> bytes:
        return (os.environ.get("MILLSTREAM_MASK_KEY") or self.identity).encode()

    def _load_spec(self) -> LoadSpec:
        refresh = self.options.full_refresh
        return load_spec(self.stream, pipeline=self.identity, run=self.run, holder=self.holder, full_refresh=refresh)

    def _request(self, position: Position | None) -> ReadRequest:
        return read_request(self.stream, position)


def _committed(load: StreamLoad) -> Counts:
    with suppress(Exception):  # the warehouse may be the thing that failed; the first error is the one that counts
        return load.run_counts()
    return Counts()
