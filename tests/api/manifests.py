"""Objects as users and Kubernetes write them, for tests of the API and the control plane. Literals, no logic."""

from __future__ import annotations

from typing import Any

from millstream_api import API_VERSION

Body = dict[str, Any]

CREATED = "2026-03-01T00:00:00Z"


def body(kind: str, name: str, spec: Body, *, status: Body | None = None, **meta: Any) -> Body:
    """Return an object as the API server shows it."""
    metadata = {
        "name": name,
        "namespace": "shop",
        "uid": f"uid-{name}",
        "generation": 1,
        "resourceVersion": "1",
        "creationTimestamp": CREATED,
        "annotations": {},
        **meta,
    }
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec, "status": status or {}}


def manifest(kind: str, name: str, spec: Body, **meta: Any) -> Body:
    """Return an object as a user applies it."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, **meta}, "spec": spec}


def source_spec(**more: Any) -> Body:
    return {"type": "files", "config": {"url": "s3://landing/flights"}, **more}


def warehouse_spec(**more: Any) -> Body:
    return {"type": "postgres", "config": {"host": "postgres"}, "secretRef": {"name": "dw-login"}, **more}


def stream(**more: Any) -> Body:
    return {"name": "flights", "target": "raw.flights", **more}


def pipeline_spec(**more: Any) -> Body:
    return {
        "sourceRef": {"name": "files"},
        "warehouseRef": {"name": "dw"},
        "streams": [stream()],
        **more,
    }


def scheduled(**more: Any) -> Body:
    return pipeline_spec(schedule={"cron": "*/15 * * * *"}, **more)


def run_spec(**more: Any) -> Body:
    return {"pipelineRef": {"name": "flights"}, **more}


def retention_spec(**more: Any) -> Body:
    return {"warehouseRef": {"name": "dw"}, "tables": [{"name": "raw.flights"}], "keep": {"age": "13 months"}, **more}


def ready(generation: int = 1, status: str = "True", reason: str = "ProbeSucceeded", **more: Any) -> Body:
    """Return a status with that Ready condition."""
    condition = {
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": "",
        "observedGeneration": generation,
        "lastTransitionTime": CREATED,
    }
    return {"observedGeneration": generation, "conditions": [condition], **more}
