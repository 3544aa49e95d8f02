"""PipelineRuns the operator makes: for an adopted Job, and for the run annotation."""

from __future__ import annotations

from typing import Any, Literal

from millstream_api.meta import API_VERSION, LABEL_MANAGED_BY, LABEL_PIPELINE, MANAGED_BY
from millstream_operator.objects.naming import Owner, label_value


def pipelinerun(name: str, pipeline: Owner, trigger: Literal["manual", "schedule"]) -> dict[str, Any]:
    """Return the PipelineRun."""
    return {
        "apiVersion": API_VERSION,
        "kind": "PipelineRun",
        "metadata": {
            "name": name,
            "namespace": pipeline.namespace,
            "labels": {LABEL_MANAGED_BY: MANAGED_BY, LABEL_PIPELINE: label_value(pipeline.name)},
            "ownerReferences": [pipeline.reference()],
        },
        "spec": {"pipelineRef": {"name": pipeline.name}, "trigger": trigger},
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
