"""A run: extract → shape → check → load per stream, then transforms and checks, then a report.

Streams run one after another; one that fails does not stop the others, but transforms wait for all of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from millstream_api import CheckResult, ExitCode, RunOptions, RunPlan, RunReport, StreamReport
from millstream_api.pipeline import PipelineSpec, TransformSpec
from millstream_api.stream import StreamSpec
from millstream_pipelines.abilities import require_ability
from millstream_pipelines.backfill import BackfillRun
from millstream_pipelines.endpoints import open_source, open_warehouse
from millstream_pipelines.errors import ConfigurationError, DataError, MillstreamError, as_millstream, unknown_value
from millstream_pipelines.failpoints import reached
from millstream_pipelines.freshness import freshness
from millstream_pipelines.guarantee import weakest
from millstream_pipelines.progress import Progress, Silence
from millstream_pipelines.rate import Pace
from millstream_pipelines.set_checks import SetChecks
from millstream_pipelines.shards import PublicationRun, SliceRun, all_staged, join
from millstream_pipelines.sources.base import Slice, Source
from millstream_pipelines.stream_result import StreamResult
from millstream_pipelines.stream_run import StreamRun
from millstream_pipelines.transforms.order import ordered
from millstream_pipelines.warehouses.base import Shard, Warehouse

_log = logging.getLogger(__name__)

# When several streams fail, the run ends with the code that may still achieve something: a retry, then a cure.
_PRIORITY = (ExitCode.RETRIABLE, ExitCode.CONFIGURATION, ExitCode.CHECKS_FAILED)


@dataclass(frozen=True)
class RunRequest:
    """What to run. `secrets`: role (`source`, `warehouse`) → key → value. `holder` is the pod or process."""

    plan: RunPlan
    secrets: Mapping[str, Mapping[str, str]]
    run: str
    holder: str
    options: RunOptions = field(default_factory=RunOptions)
    shard: Slice | None = None
    """Which of the run's shards this process is; None where the whole run is one process."""


def execute(request: RunRequest, progress: Progress | None = None) -> RunReport:
    """Run a pipeline and report. Errors of the run become the report's exit code, reason and message."""
    started = time.monotonic()
    run = _Run(request, progress or Silence())
    try:
        run.go()
    except Exception as error:  # the edge of the engine: everything becomes a report
        run.failures.append(as_millstream(error))
    report = run.report(time.monotonic() - started)
    run.close(report)
    return report


@dataclass
class _Run:
    request: RunRequest
    progress: Progress
    results: list[StreamResult] = field(default_factory=list)
    failures: list[MillstreamError] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)
    replays: list[StreamRun] = field(default_factory=list)
    newest: str | None = None
    warehouse: Warehouse | None = None
    source: Source | None = None
    published: bool = False
    """Of a run in several processes: whether the results are those of the whole run."""
    pace: Pace | None = None
    silent: bool = False
    """Whether another process of this run has recorded it, or will."""

    @property
    def identity(self) -> str:
        """`namespace/name`: a pipeline made anew under its name goes on where it was."""
        return f"{self.request.plan.namespace}/{self.request.plan.name}"

    @property
    def spec(self) -> PipelineSpec:
        if self.request.plan.pipeline is None:
            raise ConfigurationError("the plan holds no pipeline")
        return self.request.plan.pipeline

    def go(self) -> None:
        plan, secrets = self.request.plan, self.request.secrets
        self.warehouse = open_warehouse(plan.warehouse, secrets.get("warehouse", {}))
        self.source = open_source(plan.source, secrets.get("source", {}))
        transforms: list[TransformSpec] = []
        if self.spec.transforms:
            require_ability("transforms", self.warehouse, "`transforms`")
            transforms = ordered(self.spec.transforms, self.warehouse.dialect)
        self.progress.stage(plan.name, "connect")
        self.warehouse.probe()
        shard = self.request.shard
        if shard is not None:
            self._sharded(shard, transforms)
            return
        for stream in self._chosen():
            self._attempt(partial(self._stream, self._stream_run(stream)))
        if not self.failures and (not self.replays or any(result.counts.loaded for result in self.results)):
            self._complete(transforms)

    def _sharded(self, shard: Slice, transforms: list[TransformSpec]) -> None:
        """Stage this process's slices; publish, if those of the others are staged too."""
        if self.warehouse is None or self.source is None:
            return
        chosen, count = self._chosen(), shard.count
        shards = join(self.warehouse, self.source, chosen, self.identity, self.request.run, count)
        if not shards.finished:
            for stream in chosen:
                slice_of = {"shard": Shard(shard.index, count), "shards": shards}
                self._attempt(partial(self._stream, self._stream_run(stream, SliceRun, **slice_of)))
            names = {result.name for result in self.results if not result.note}
            if self.failures or not all_staged(shards, names, count):
                self.silent = not self.failures
                return
            chosen = [stream for stream in chosen if stream.name in names]
        with shards.publishing():
            self.results, self.checks = [result for result in self.results if result.note], []
            self.silent = self.published = shards.finished
            if shards.finished:  # by another process; this one only tells
                self.results += [StreamResult(item.name, item.target, shards.published(item.name)) for item in chosen]
                return
            for stream in chosen:
                self._attempt(partial(self._stream, self._stream_run(stream, PublicationRun, shard=Shard(None, count))))
            self.published = not self.failures
            if not self.failures:
                self._complete(transforms)
            if not self.failures:
                shards.finish()

    def _complete(self, transforms: list[TransformSpec]) -> None:
        """Make what follows from the streams: transforms, checks, freshness."""
        if self.warehouse is None:
            return
        plan = self.request.plan
        for transform in transforms:
            self.progress.stage(transform.name, "transform", transform.target)
            checks = SetChecks(transform.checks, transform.target, f"transform '{transform.name}'")
            self.warehouse.materialize(transform, partial(self._evaluate, checks))
        if self.spec.checks:
            self.progress.stage(plan.name, "checks")
            self._attempt(lambda: self._evaluate(SetChecks(self.spec.checks, None, f"pipeline '{plan.name}'")))
        if self.spec.freshness:
            self.newest, result = freshness(self.spec.freshness, self.spec.streams[0].target, self.warehouse)
            self.checks.append(result)
            # A backfill cannot make a late table fresh; that is the forward load's to answer for.
            if result.outcome != "passed" and result.severity == "error" and not self.backfills:
                self.failures.append(DataError(result.message, reason="Stale"))

    @property
    def backfills(self) -> bool:
        """Whether this run loads a window again."""
        return self.request.options.trigger == "backfill"

    def _chosen(self) -> list[StreamSpec]:
        """Return the streams of this run; ConfigurationError for a name that the pipeline does not have."""
        known = {stream.name: stream for stream in self.spec.streams}
        wanted = self.request.options.streams
        for name in wanted:
            if name not in known:
                raise unknown_value(f"pipeline '{self.request.plan.name}': the run", "stream", name, known)
        return [stream for stream in self.spec.streams if not wanted or stream.name in wanted]

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self.failures.append(as_millstream(error))

    def _stream_run(self, stream: StreamSpec, kind: type[StreamRun] | None = None, **more: Any) -> StreamRun:
        if self.warehouse is None or self.source is None:
            raise ConfigurationError("the run is not connected")
        run = (kind or self._kind())(
            stream=stream,
            budget=self.spec.error_budget,
            source=self.source,
            warehouse=self.warehouse,
            identity=self.identity,
            run=self.request.run,
            holder=self.request.holder,
            options=self.request.options,
            progress=self.progress,
            pace=self._pace(),
            **more,
        )
        self.replays += [run] if self.request.options.trigger == "replay" else []
        return run

    def _kind(self) -> type[StreamRun]:
        if self.request.options.trigger == "replay":
            from millstream_pipelines.replay import ReplayRun

            return ReplayRun
        return BackfillRun if self.backfills else StreamRun

    def _pace(self) -> Callable[[int], None] | None:
        """Return what makes readers wait, the same for all streams; the pods of a run share its limit."""
        limit = self.request.options.max_rows_per_second or self.spec.extract.max_rows_per_second
        if self.pace is None and limit is not None:
            self.pace = Pace(limit / (self.request.shard.count if self.request.shard else 1))
        return self.pace.passed if self.pace else None

    def _stream(self, run: StreamRun) -> None:
        try:
            run.go()
        finally:
            self.results.append(run.result)
            self.checks.extend(run.result.checks)

    def _evaluate(self, checks: SetChecks) -> None:
        if self.warehouse is None:
            return
        results = checks.evaluate(self.warehouse)
        self.checks.extend(results)
        checks.enforce(results)

    def _told(self) -> list[str]:
        """Return what to say of replays, and count the rows that they leave as a failure."""
        if not self.replays:
            return []
        from millstream_pipelines.replay import still_failing, what_came

        self.failures += filter(None, [still_failing(self.replays)])
        return what_came(self.replays)

    def report(self, duration_s: float) -> RunReport:
        streams = [report for result in self.results for report in (result.report(), *result.children)]
        totals = StreamReport(name="total")
        for stream in streams:
            for name in ("read", "loaded", "quarantined", "duplicate", "filtered", "bytes_read", "deleted"):
                setattr(totals, name, getattr(totals, name) + getattr(stream, name))
        shard = self.request.shard
        notes = [f"staged as slice {shard.index} of {shard.count} (from 0)"] if shard and not self.published else []
        notes += [f"stream '{result.name}' {result.note}" for result in self.results if result.note]
        told = self._told()
        code, reason = ExitCode.DONE, "Succeeded"
        for candidate in _PRIORITY:
            first = next((failure for failure in self.failures if failure.exit_code == candidate), None)
            if first is not None:
                code, reason = candidate, first.reason
                break
        return RunReport(
            exit_code=code,
            reason=reason,
            message="; ".join([*map(str, self.failures), *told] or [_summary(totals), *notes]),
            run=self.request.run,
            streams=streams,
            totals=totals,
            checks=self.checks,
            checks_run=len(self.checks),
            checks_passed=sum(check.outcome == "passed" for check in self.checks),
            drift=[item for result in self.results for item in result.drift],
            drift_count=sum(len(result.drift) for result in self.results),
            freshness=self.newest,
            guarantee=weakest([stream.guarantee for stream in streams]),
            duration_seconds=round(duration_s, 3),
            shards=self.request.shard.count if self.request.shard else 0,
            published=self.published,
            intervals_done=sum(result.intervals_done for result in self.results),
            intervals_total=sum(result.intervals_total for result in self.results),
        )

    def close(self, report: RunReport) -> None:
        warehouse, source = self.warehouse, self.source
        reached("ending")
        actions: list[tuple[str, Callable[[], None]]] = []
        if warehouse is not None and not self.silent:
            actions.append(("recording the run", lambda: warehouse.record_run(self.identity, self.request.run, report)))
        if warehouse is not None:
            actions.append(("closing the warehouse", warehouse.close))
        if source is not None:
            actions.append(("closing the source", source.close))
        for what, action in actions:
            try:
                action()
            except Exception as error:  # the run's result stands; what failed here is only said
                _log.warning("%s: %s", what, error)


def _summary(totals: StreamReport) -> str:
    parts = [f"{totals.read} rows read, {totals.loaded} loaded"]
    for name in ("quarantined", "duplicate", "filtered", "deleted"):
        if getattr(totals, name):
            parts.append(f"{getattr(totals, name)} {name}")
    return ", ".join(parts)
