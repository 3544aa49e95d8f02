"""How a Job ended: phase, reason and counts, from its RunReport, its exit code, or what Kubernetes says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from millstream_api import conditions
from millstream_api.run_report import ExitCode, RunReport
from millstream_operator.reconcile.observed import JobFacts, instant
from millstream_operator.reconcile.standing import Standing, stalled

_MAX_LISTED = 20

FinishedPhase = Literal["Succeeded", "Failed", "ChecksFailed", "Cancelled"]


@dataclass(frozen=True)
class Ending:
    """What goes into the status of a finished run."""

    phase: FinishedPhase
    standing: Standing
    fields: dict[str, Any]


def ended(item: JobFacts, configuration: str | None) -> Ending:
    """Return the ending of a finished Job. `configuration` is kept so that a later fix is recognised."""
    fields: dict[str, Any] = {
        "job": item.name,
        "plan": item.plan or None,
        "started_at": item.started,
        "finished_at": item.finished,
        "duration_seconds": _duration(item),
        "attempts": item.attempts or None,
        "exit_code": item.exit_code,
        "configuration": configuration,
        **progress(item),
    }
    report = item.report
    if report is not None:
        fields |= _counts(report)
    phase, reason, message = verdict(item)
    if phase == "Succeeded":
        return Ending(phase, Standing("True", conditions.SUCCEEDED, message), fields)
    return Ending(phase, stalled(reason, message), fields)


def progress(item: JobFacts) -> dict[str, Any]:
    """Return how far a run is, as far as its ended pods have told: a running pod has no way to."""
    report, known = item.report, dict[str, Any]()
    if item.shards > 1:
        known |= {"shards": item.shards, "progress": f"{item.shards_done}/{item.shards}"}
    if item.shards > 1 and report is not None and report.totals is not None:
        known |= {"rows_read": report.totals.read, "bytes_read": report.totals.bytes_read}
    if report is not None and report.intervals_total:
        done, total = report.intervals_done, report.intervals_total
        known |= {"intervals_done": done, "intervals_total": total, "progress": f"{done}/{total}"}
    return known


def verdict(item: JobFacts) -> tuple[FinishedPhase, str, str]:
    """Return phase, reason and message of a finished Job."""
    phase, reason = _phase(item)
    return phase, reason, _message(item, phase)


def _phase(item: JobFacts) -> tuple[FinishedPhase, str]:
    if item.state == "succeeded":
        return "Succeeded", conditions.SUCCEEDED
    if item.reason == conditions.DEADLINE_EXCEEDED:
        return "Failed", conditions.DEADLINE_EXCEEDED
    if item.exit_code == ExitCode.CHECKS_FAILED:
        return "ChecksFailed", conditions.CHECKS_FAILED
    if item.exit_code == ExitCode.CONFIGURATION:
        return "Failed", conditions.INVALID_CONFIGURATION
    return "Failed", conditions.RUN_FAILED


def _message(item: JobFacts, phase: FinishedPhase) -> str:
    told = item.report.message if item.report else ""
    if phase == "Succeeded":
        return told or "the Job completed"
    return told or item.trouble or item.message or "the Job failed without a report"


def _duration(item: JobFacts) -> float | None:
    if item.report is not None and item.report.duration_seconds:
        return item.report.duration_seconds
    if item.started and item.finished:
        return (instant(item.finished) - instant(item.started)).total_seconds()
    return None


def _counts(report: RunReport) -> dict[str, Any]:
    counts: dict[str, Any] = {
        "guarantee": report.guarantee or None,
        "freshness": report.freshness,
        "streams": report.streams[:_MAX_LISTED],
        "checks": report.checks[:_MAX_LISTED],
        "checks_run": report.checks_run,
        "checks_passed": report.checks_passed,
        "drift": report.drift[:_MAX_LISTED],
        "drift_count": max(report.drift_count, len(report.drift)) or None,
    }
    totals = report.totals
    if totals is not None:
        counts |= {f"rows_{stage}": getattr(totals, stage) for stage in ("read", "loaded", "quarantined")}
        counts |= {f"rows_{stage}": getattr(totals, stage) for stage in ("duplicate", "filtered")}
        counts["rows_deleted"] = totals.deleted or None
        counts["bytes_read"] = totals.bytes_read
    return counts
