"""What became of a Job, read from its status and its pods: the RunReport is the termination message of `runner`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from millstream_api.meta import (
    ANNOTATION_ADOPTED,
    ANNOTATION_APPROVED,
    ANNOTATION_CONFIGURATION,
    ANNOTATION_GENERATION,
    ANNOTATION_PLAN,
    LABEL_OWNER_UID,
    LABEL_ROLE,
)
from millstream_api.run_report import ExitCode, RunReport
from millstream_operator.objects.podtemplate import CONTAINER
from millstream_operator.reconcile.observed import JobFacts, instant, rfc3339
from millstream_operator.reconcile.shards import indexes, published, unpublished, whole

Body = dict[str, Any]

_SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"  # the CronJob controller's, from 1.28 on
_INDEX = "batch.kubernetes.io/job-completion-index"
_LONGEST_TROUBLE = 300  # characters
_DEATHS = {
    "OOMKilled": "the pod was killed because it used more memory than its limit; raise spec.pod.memory",
    "Evicted": "the pod was evicted by its node",
}


def job_facts(job: Body, pods: Sequence[Body]) -> JobFacts:
    """Return the facts of a Job of ours."""
    meta, status = job["metadata"], job.get("status", {})
    annotations, owners = meta.get("annotations", {}), meta.get("ownerReferences", [])
    manual = next((ref["name"] for ref in owners if ref["kind"] == "PipelineRun"), None)
    state, condition = _state(status)
    shards = int(job.get("spec", {}).get("completions", 1))  # kept in the cache for Indexed Jobs only
    said = _shards_said(state, status, pods, shards) if shards > 1 else _said(pods)
    started = sum(int(status.get(field) or 0) for field in ("active", "succeeded", "failed"))
    return JobFacts(
        name=meta["name"],
        uid=meta.get("uid", ""),
        namespace=meta.get("namespace", ""),
        owner_uid=meta.get("labels", {}).get(LABEL_OWNER_UID, ""),
        role=meta.get("labels", {}).get(LABEL_ROLE, ""),
        generation=int(annotations.get(ANNOTATION_GENERATION, 0)),
        approved=annotations.get(ANNOTATION_APPROVED, ""),
        configuration=annotations.get(ANNOTATION_CONFIGURATION, ""),
        run=manual or meta["name"],
        scheduled_for=_instant(annotations.get(_SCHEDULED, "")),
        scheduled=any(ref["kind"] == "CronJob" for ref in owners),
        adopted=ANNOTATION_ADOPTED in annotations,
        leaving="deletionTimestamp" in meta,
        plan=annotations.get(ANNOTATION_PLAN, ""),
        state=state,
        reason=condition.get("reason", ""),
        message=condition.get("message", ""),
        created=meta.get("creationTimestamp", ""),
        started=status.get("startTime"),
        finished=status.get("completionTime") or condition.get("lastTransitionTime"),
        attempts=max(started - shards + 1, 1) if started else 0,
        shards=shards,
        shards_done=len(indexes(status.get("completedIndexes", ""))),
        exit_code=said.exit_code,
        report=said.report,
        trouble=said.died or _not_starting(pods),
    )


@dataclass(frozen=True)
class _Said:
    """The last words of a pod, or of a Job's pods together."""

    exit_code: int | None = None
    report: RunReport | None = None
    died: str = ""


def _said(pods: Sequence[Body]) -> _Said:
    terminated, died = _newest_end(pods)
    return _Said(terminated.get("exitCode"), _report(terminated.get("message", "")), died)


def _shards_said(state: str, status: Body, pods: Sequence[Body], shards: int) -> _Said:
    by_index: dict[int, list[Body]] = {}
    for pod in pods:
        by_index.setdefault(int(pod["metadata"].get("labels", {}).get(_INDEX, 0)), []).append(pod)
    ends = {index: _said(found) for index, found in sorted(by_index.items())}
    reports = {index: end.report for index, end in ends.items() if end.report is not None}
    if state == "succeeded":
        return _Said(0 if reports else None, whole(reports))
    failed = _failed_shard(ends, indexes(status.get("failedIndexes", "")))
    if failed is None:
        return _Said(None, published(reports) or unpublished(reports, None))
    index, end = failed
    name = f"shard {index} (of {shards}, from 0)"
    told = end.report and end.report.model_copy(update={"message": f"{name}: {end.report.message}"})
    died = f"{name}: {end.died}" if end.died else ""
    report = unpublished(reports, told) if told else None
    return _Said(end.exit_code if state == "failed" else None, published(reports) or report, died)


def _failed_shard(ends: dict[int, _Said], used_up: Sequence[int]) -> tuple[int, _Said] | None:
    """Return the shard that ended the Job: others may have failed too, but only because they were stopped."""
    failed = [(index, end) for index, end in ends.items() if end.exit_code or end.died]
    for_good = [item for item in failed if item[1].exit_code in (ExitCode.CHECKS_FAILED, ExitCode.CONFIGURATION)]
    return next(iter([*for_good, *(item for item in failed if item[0] in used_up), *failed]), None)


def _state(status: Body) -> tuple[Literal["active", "succeeded", "failed"], Body]:
    for condition in status.get("conditions", []):
        if condition.get("status") == "True" and condition["type"] == "Complete":
            return "succeeded", condition
        if condition.get("status") == "True" and condition["type"] == "Failed":
            return "failed", condition
    return "active", {}


def _newest_end(pods: Sequence[Body]) -> tuple[Body, str]:
    """Return how the runner of the newest finished pod ended, and what a pod that left no word died of."""
    ends = [(end, pod) for pod in pods if (end := _runner(pod).get("state", {}).get("terminated"))]
    if ends:
        # Times are whole seconds; nothing follows a success, so it is the newest of those that ended in one second.
        newest, _ = max(ends, key=lambda pair: (pair[0].get("exitCode") == 0, pair[0].get("finishedAt") or ""))
        known = _DEATHS.get(newest.get("reason", ""), "")
        signal = newest.get("exitCode", 0) > 128 or newest.get("reason") in _DEATHS
        return newest, known or (f"the runner ended with exit code {newest.get('exitCode')}" if signal else "")
    failed = [pod["status"] for pod in pods if pod.get("status", {}).get("phase") == "Failed"]
    if failed:
        reason, message = failed[-1].get("reason", ""), failed[-1].get("message", "")
        return {}, _clipped(_DEATHS.get(reason) or f"the pod failed: {reason} {message}".strip())
    return {}, ""


def _not_starting(pods: Sequence[Body]) -> str:
    for pod in pods:
        waiting = _runner(pod).get("state", {}).get("waiting", {})
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return _clipped(f"its pod waits: {waiting['reason']}: {waiting.get('message', '')}".rstrip(": "))
        for condition in pod.get("status", {}).get("conditions", []):
            if condition.get("reason") == "Unschedulable":
                return _clipped(f"its pod waits for a node: {condition.get('message', '')}")
    return ""


def _runner(pod: Body) -> Body:
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return next((item for item in statuses if item["name"] == CONTAINER), {})


def _report(message: str) -> RunReport | None:
    if not message.startswith("{"):
        return None
    try:
        return RunReport.model_validate_json(message)
    except ValidationError:
        return None


def _instant(text: str) -> str:
    """Return the time in UTC; the CronJob controller writes it in the schedule's zone."""
    return rfc3339(instant(text)) if text else ""


def _clipped(text: str) -> str:
    return text if len(text) <= _LONGEST_TROUBLE else text[: _LONGEST_TROUBLE - 1] + "…"
