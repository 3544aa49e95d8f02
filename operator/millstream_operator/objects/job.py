"""Jobs: a run, or a probe. The exit code decides whether Kubernetes tries again, without operator code."""

from __future__ import annotations

from typing import Any

from millstream_api.meta import ANNOTATION_PLAN
from millstream_api.run_report import ExitCode
from millstream_operator.objects.naming import Owner
from millstream_operator.objects.podtemplate import CONTAINER

PROBE_DEADLINE_S = 300  # a guess: image pull and a slow catalog query; then it counts as unreachable and is repeated


def job(
    name: str, owner: Owner, spec: dict[str, Any], plan: str, annotations: dict[str, str] | None = None
) -> dict[str, Any]:
    """Return the Job; its labels are those of its pods, so that one selector finds both."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": dict(spec["template"]["metadata"]["labels"]),
            "annotations": {ANNOTATION_PLAN: plan, **(annotations or {})},
            "ownerReferences": [owner.reference()],
        },
        "spec": spec,
    }


def run_spec(template: dict[str, Any], retries: int, timeout_s: int, shards: int = 1) -> dict[str, Any]:
    """Return the spec of a run's Job: wrong data (65) and wrong configuration (78) end it, a lost node is free.

    Each shard is an index with its own retries; one that has used them up ends the Job, since no run is published
    without all of its shards.
    """
    return {
        **(_indexed(retries, shards) if shards > 1 else {"backoffLimit": retries}),
        "activeDeadlineSeconds": timeout_s,
        "podReplacementPolicy": "Failed",  # never two pods of one run, or of one shard, at once
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": CONTAINER,
                        "operator": "In",
                        "values": [int(ExitCode.CHECKS_FAILED), int(ExitCode.CONFIGURATION)],
                    },
                },
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "template": template,
    }


def _indexed(retries: int, shards: int) -> dict[str, Any]:
    counts = {"completions": shards, "parallelism": shards}
    return {"completionMode": "Indexed", **counts, "backoffLimitPerIndex": retries, "maxFailedIndexes": 0}


def probe_spec(template: dict[str, Any]) -> dict[str, Any]:
    """Return the spec of a probe's Job: one attempt; the operator repeats it, ever more slowly."""
    return {"backoffLimit": 0, "activeDeadlineSeconds": PROBE_DEADLINE_S, "template": template}
