"""What became of a Job, read from its status and its pods: the RunReport is the termination message of `runner`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ValidationError

from millstream_api.meta import ANNOTATION_ADOPTED, ANNOTATION_PLAN, LABEL_OWNER_UID
from millstream_api.run_report import RunReport
from millstream_operator.objects.podtemplate import CONTAINER
from millstream_operator.reconcile.observed import JobFacts

Body = dict[str, Any]

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
    terminated, died = _newest_end(pods)
    return JobFacts(
        name=meta["name"],
        uid=meta.get("uid", ""),
        namespace=meta.get("namespace", ""),
        owner_uid=meta.get("labels", {}).get(LABEL_OWNER_UID, ""),
        run=manual or meta["name"],
        scheduled=any(ref["kind"] == "CronJob" for ref in owners),
        adopted=ANNOTATION_ADOPTED in annotations,
        plan=annotations.get(ANNOTATION_PLAN, ""),
        state=state,
        reason=condition.get("reason", ""),
        message=condition.get("message", ""),
        created=meta.get("creationTimestamp", ""),
        started=status.get("startTime"),
        finished=status.get("completionTime") or condition.get("lastTransitionTime"),
        attempts=sum(int(status.get(field) or 0) for field in ("active", "succeeded", "failed")),
        exit_code=terminated.get("exitCode"),
        report=_report(terminated.get("message", "")),
        trouble=died or _not_starting(pods),
    )


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
        newest, _ = max(ends, key=lambda pair: pair[0].get("finishedAt") or "")
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


def _clipped(text: str) -> str:
    return text if len(text) <= _LONGEST_TROUBLE else text[: _LONGEST_TROUBLE - 1] + "…"
