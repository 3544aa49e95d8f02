"""PipelineRuns the operator makes: for an adopted Job, for the run annotation, for a missed time of the schedule."""

from __future__ import annotations

from typing import Any

from millstream_api.meta import API_VERSION, LABEL_MANAGED_BY, LABEL_PIPELINE, MANAGED_BY
from millstream_api.run_options import Trigger
from millstream_operator.objects.naming import Owner, label_value


def pipelinerun(name: str, pipeline: Owner, trigger: Trigger, scheduled_for: str = "") -> dict[str, Any]:
    """Return the PipelineRun."""
    time = {"scheduledFor": scheduled_for} if scheduled_for else {}
    return {
        "apiVersion": API_VERSION,
        "kind": "PipelineRun",
        "metadata": {
            "name": name,
            "namespace": pipeline.namespace,
            "labels": {LABEL_MANAGED_BY: MANAGED_BY, LABEL_PIPELINE: label_value(pipeline.name)},
            "ownerReferences": [pipeline.reference()],
        },
        "spec": {"pipelineRef": {"name": pipeline.name}, "trigger": trigger, **time},
    }


def owned(run: dict[str, Any], pipeline: Owner) -> dict[str, Any]:
    """Return what makes a user's PipelineRun disappear together with its Pipeline."""
    meta = run["metadata"]
    return {
        "apiVersion": API_VERSION,
        "kind": "PipelineRun",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
            "ownerReferences": [pipeline.reference()],
        },
    }
