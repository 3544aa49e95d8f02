"""`millstream run`: each Pipeline once, tried again where that may help, and one summary."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from pydantic import ValidationError

from millstream_api import ExitCode, RunOptions, RunReport
from millstream_api.pipeline import PipelineSpec
from millstream_pipelines.cli.output import drift_lines, log, number, print_json, size, table
from millstream_pipelines.cli.places import reachable
from millstream_pipelines.cli.progress import progress
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.manifests import Manifest, Planned, plan_pipeline, read_catalog
from millstream_pipelines.replayable import CURE, why_not_replayed

_WORST_FIRST = (ExitCode.CONFIGURATION, ExitCode.CHECKS_FAILED, ExitCode.RETRIABLE)
_BACKOFF_MAX_S = 3600.0


@dataclass(frozen=True)
class Ended:
    """A Pipeline's run: what was planned and what came of it, over all attempts."""

    planned: Planned
    run: str
    attempts: int
    report: RunReport
    replay: bool = False

    @property
    def pipeline(self) -> str:
        """`namespace/name`: the identity of its state in the warehouse."""
        return f"{self.planned.plan.namespace}/{self.planned.plan.name}"


def command(arguments: argparse.Namespace) -> int:
    """Run the Pipelines one after the other; the exit code is that of the worst."""
    catalog = read_catalog(arguments.filename)
    planned = [plan_pipeline(catalog, item) for item in _active(catalog.chosen("Pipeline", arguments.pipeline))]
    for note in catalog.ignored:
        log(f"not ours, ignored: {note}")
    options = _options(arguments)
    with reachable(planned) as ready:
        ended = [run_pipeline(item, options, run=arguments.resume) for item in ready]
        if arguments.report is not None:
            from millstream_pipelines.report import write_report

            write_report(arguments.report, [item.planned for item in ended])
    if arguments.json:
        print_json(document(ended) | {"htmlReport": str(arguments.report) if arguments.report else None})
    else:
        print("\n\n".join(summary(item) for item in ended))
        if arguments.report is not None:
            print(f"\nreport: {arguments.report}")
    return worst(ended)


def worst(ended: list[Ended]) -> int:
    """Return the exit code of the worst run."""
    return worst_of({item.report.exit_code for item in ended})


def worst_of(codes: Collection[int]) -> int:
    """Return the worst of exit codes."""
    return next((int(code) for code in _WORST_FIRST if code in codes), max(codes, default=0))


def _active(pipelines: list[Manifest]) -> Iterator[Manifest]:
    """Yield those that may run, as on a cluster."""
    for item in pipelines:
        if cast(PipelineSpec, item.spec).suspend:
            log(f"{item.name}: spec.suspend is true; not run")
        else:
            yield item


def _options(arguments: argparse.Namespace) -> RunOptions:
    """Return what this run does differently. ConfigurationError says which argument is wrong."""
    given: dict[str, Any] = {"fullRefresh": arguments.full_refresh, "streams": arguments.stream or []}
    if arguments.max_rows_per_second is not None:
        given["maxRowsPerSecond"] = arguments.max_rows_per_second
    if arguments.backfill is not None:
        start, end = arguments.backfill
        window = {"from": start, "to": end, "interval": arguments.interval, "step": arguments.step}
        given |= {"trigger": "backfill", "window": window}
    elif arguments.interval is not None or arguments.step is not None:
        raise ConfigurationError("--interval and --step cut the window of --backfill; give that too")
    try:
        return RunOptions.model_validate(given)
    except ValidationError as error:
        raise ConfigurationError(
            "; ".join(f"{'.'.join(map(str, item['loc'])) or 'options'}: {item['msg']}" for item in error.errors())
        ) from None


def run_pipeline(
    planned: Planned, options: RunOptions, sleep: Callable[[float], None] = time.sleep, run: str | None = None
) -> Ended:
    """Run one Pipeline; on exit code 75 try again as `spec.retries` says, the wait doubling each time.

    `run`: go on as this earlier run; None begins a new one.
    """
    from millstream_pipelines.runner import RunRequest, execute

    shards = planned.plan.pipeline.extract.shards if planned.plan.pipeline is not None else 1
    if shards > 1:
        log(f"{planned.plan.name}: extract.shards {shards} is for a cluster; here one process reads the whole")
    run = run or f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    holder = f"{socket.gethostname()}-{os.getpid()}"
    retries = planned.plan.pipeline.retries if planned.plan.pipeline is not None else None
    limit, wait_s = (retries.limit, float(retries.backoff_seconds)) if retries is not None else (0, 0.0)
    attempt = 0
    while True:
        attempt += 1
        request = RunRequest(planned.plan, planned.secrets, run, f"{holder}-{attempt}", options)
        with progress() as shown:
            report = execute(request, shown)
        if report.exit_code != ExitCode.RETRIABLE or attempt > limit:
            return Ended(planned, run, attempt, report, options.trigger == "replay")
        log(f"{planned.plan.name}: {report.reason}: {report.message}")
        log(f"{planned.plan.name}: attempt {attempt} of {limit + 1} failed; trying again in {wait_s:g} s (Ctrl-C ends)")
        sleep(wait_s)
        wait_s = min(wait_s * 2, _BACKOFF_MAX_S)


def summary(ended: Ended) -> str:
    """Return a run as text: counts per stream, checks that did not pass, the sum."""
    report = ended.report
    attempts = f", attempt {ended.attempts}" if ended.attempts > 1 else ""
    lines = [
        f"{ended.planned.plan.name}: {report.reason} in {report.duration_seconds:.1f} s (run {ended.run}{attempts})"
    ]
    if report.message and (report.exit_code or ended.replay):
        lines.append(f"  {report.message}")
    if report.streams:
        follows = any(stream.deleted for stream in report.streams)
        counted = ("read", "loaded", "quarantined", "duplicate", "filtered", *(["deleted"] if follows else []))
        headers = ("stream", "target", *counted, "bytes", "guarantee")
        rows = [
            (s.name, s.target, *(getattr(s, name) for name in counted), size(s.bytes_read), s.guarantee)
            for s in report.streams
        ]
        lines.append(table(headers, rows, indent="  "))
    lines += [f"  {stream.name}: {stream.note}" for stream in report.streams if stream.note]
    if report.drift:
        lines.append("  columns that differ between source and target:")
        named = zip(report.drift, drift_lines(report.drift), strict=True)
        lines += [f"    {item.stream}.{line}" for item, line in named]
    if report.intervals_total:
        lines.append(f"  intervals: {report.intervals_done} of {report.intervals_total} done")
        if report.intervals_done < report.intervals_total:
            lines.append(f"  go on behind the last one with the same arguments and --resume {ended.run}")
    if report.checks_run:
        lines.append(f"  checks: {report.checks_passed} of {report.checks_run} passed")
    for check in (item for item in report.checks if item.outcome != "passed"):
        lines.append(
            f"    {check.severity}: {check.name} on {check.target}: {_found(check.failed_rows, check.message)}"
            + (f"; for example {', '.join(check.samples)}" if check.samples else "")
        )
    if report.totals is not None and report.totals.quarantined and not ended.replay:
        lines.append(f"  {number(report.totals.quarantined)} quarantined: {_way_back(ended, report)}")
    return "\n".join(lines)


def _way_back(ended: Ended, report: RunReport) -> str:
    """Return what can be done about rows that were set aside."""
    plan = ended.planned.plan
    rows = f"-f … --pipeline {plan.name}"
    hit = [stream.name for stream in report.streams if stream.quarantined]
    streams = plan.pipeline.streams if plan.pipeline is not None else []
    stuck = [item.name for item in streams if why_not_replayed(item) and any(_belongs(name, item.name) for name in hit)]
    ways = [f"`millstream quarantine list {rows}`"]
    if not all(any(_belongs(name, one) for one in stuck) for name in hit):
        ways.append(f"after a fix load them with `millstream quarantine replay {rows} [--rule …]`")
    if stuck:
        names = ", ".join(stuck)
        ways.append(f"those of {names} cannot be replayed: {CURE} (`millstream quarantine discard {rows} …`)")
    return "; ".join(ways)


def _belongs(name: str, stream: str) -> bool:
    """Return whether a name is that of a stream or of one of its child tables."""
    return name == stream or name.startswith(f"{stream}/")


def _found(rows: int, message: str) -> str:
    counted = f"{number(rows)} row{'' if rows == 1 else 's'}" if rows else ""
    return "; ".join(part for part in (counted, message) if part)


def document(ended: list[Ended]) -> dict[str, Any]:
    """Return runs as a document for machines."""
    runs = [
        {
            "pipeline": item.pipeline,
            "run": item.run,
            "attempts": item.attempts,
            "report": item.report.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        for item in ended
    ]
    return {"version": 1, "runs": runs}
