"""What a Pipeline's status says of its data: totals, freshness, quality. Each finished run is counted once.

`countedRuns` is written in the same status as the totals, so a crash repeats both or neither. A backfill adds to the
totals only: what it found in old rows says nothing of the newest ones, and must not turn a late table green.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from millstream_api import conditions
from millstream_api.meta import Condition
from millstream_api.pipeline import LastRun, PipelineSpec, PipelineStatus
from millstream_operator.reconcile.observed import instant
from millstream_operator.reconcile.outcome import Note, RunFacts
from millstream_operator.reconcile.runs import RunState, finished_newest_first

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Counted:
    """The status with all finished runs in it, and what was new."""

    status: PipelineStatus
    facts: tuple[RunFacts, ...]
    notes: tuple[Note, ...]


def count(status: PipelineStatus, runs: Sequence[RunState]) -> Counted:
    """Return the status with every finished run counted; UIDs of runs that are gone are forgotten."""
    done = finished_newest_first(runs)
    fresh = [run for run in reversed(done) if run.uid not in status.counted_runs]
    update: dict[str, object] = {"counted_runs": sorted(run.uid for run in done)}
    if fresh:
        telling = [run for run in done if run.tells]
        update |= _newest(status, telling[0]) if telling else {}
        loaded = sum(run.status.rows_loaded or 0 for run in fresh)
        update["rows_loaded_total"] = (status.rows_loaded_total or 0) + loaded
    facts = tuple(_facts(run) for run in fresh)
    return Counted(status.model_copy(update=update), facts, tuple(_note(run) for run in fresh))


def verdict(run: RunState) -> tuple[str, str]:
    """Return reason and message of a finished run."""
    found = conditions.find(run.status.conditions, conditions.READY)
    return (found.reason, found.message) if found is not None else (run.status.phase or "", "")


def fresh(spec: PipelineSpec, status: PipelineStatus, now: datetime) -> tuple[Condition | None, float | None]:
    """Return the Fresh condition and in how many seconds it turns False by itself."""
    if spec.freshness is None:
        return None, None
    if status.freshness is None:
        text = "no run has reported the time of its newest row yet"
        return conditions.condition(conditions.FRESH, "Unknown", conditions.NOT_CHECKED, text), None
    left_s = seconds(spec.freshness.max_age) - (now - instant(status.freshness)).total_seconds()
    told = f"newest {spec.freshness.field} is {status.freshness}; the limit is {spec.freshness.max_age}"
    if left_s <= 0:
        return conditions.condition(conditions.FRESH, "False", conditions.STALE, told), None
    return conditions.condition(conditions.FRESH, "True", conditions.WITHIN_LIMIT, told), left_s


def passing(runs: Sequence[RunState]) -> Condition | None:
    """Return the Passing condition after the newest run that ran checks; None when no run tells."""
    done = (run for run in finished_newest_first(runs) if run.tells)
    last = next((run for run in done if run.status.checks_run or _refused(run)), None)
    if last is None:
        return None
    score = f"{last.status.checks_passed or 0} of {last.status.checks_run or 0} checks passed in run {last.name}"
    if _refused(last):
        failed = ", ".join(check.name for check in last.status.checks if check.severity == "error")
        text = f"{score}; failed: {failed}" if failed else score
        return conditions.condition(conditions.PASSING, "False", conditions.CHECKS_FAILED, text)
    return conditions.condition(conditions.PASSING, "True", conditions.CHECKS_PASSED, score)


def seconds(duration: str) -> float:
    """Return the seconds of a duration such as `1d12h`."""
    return sum(float(number) * _UNITS_S[unit] for number, unit in re.findall(r"([0-9.]+)(ms|s|m|h|d)", duration))


def _refused(run: RunState) -> bool:
    return run.status.phase == "ChecksFailed"


def _newest(status: PipelineStatus, run: RunState) -> dict[str, object]:
    new = run.status
    ran = f"{new.checks_passed or 0}/{new.checks_run}" if new.checks_run else status.quality
    return {
        "last_run": LastRun(
            name=run.name,
            outcome=new.phase or "",
            finished_at=new.finished_at,
            rows_loaded=new.rows_loaded or 0,
            rows_quarantined=new.rows_quarantined or 0,
        ),
        "freshness": new.freshness or status.freshness,
        "quality": ran,
        "guarantee": new.guarantee or status.guarantee,
    }


def _facts(run: RunState) -> RunFacts:
    status = run.status
    failed: dict[str, int] = {}
    quarantined: dict[str, int] = {}
    for check in status.checks:
        if check.outcome in ("failed", "errored"):
            failed[check.severity] = failed.get(check.severity, 0) + 1
        if check.severity == "error" and check.failed_rows and status.rows_quarantined:
            quarantined[check.name] = quarantined.get(check.name, 0) + check.failed_rows
    stages = ("read", "loaded", "quarantined", "duplicate", "filtered", "deleted")
    rows = {stage: getattr(status, f"rows_{stage}") or 0 for stage in stages}
    return RunFacts(
        status.phase or "", status.duration_seconds or 0.0, status.bytes_read or 0, rows, failed, quarantined
    )


def _note(run: RunState) -> Note:
    _, message = verdict(run)
    if run.status.phase in ("Succeeded", "Cancelled"):
        return Note("Normal", f"Run{run.status.phase}", f"run {run.name}: {message}")
    return Note(
        "Warning", "RunFailed" if run.status.phase == "Failed" else "ChecksFailed", f"run {run.name}: {message}"
    )
