"""The resources we read or write: their paths, and what of each object is kept in the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from millstream_api import API_VERSION, KINDS
from millstream_api.meta import ANNOTATION_APPLIED

Body = dict[str, Any]

_META = ("name", "namespace", "uid", "labels", "annotations", "ownerReferences", "resourceVersion")
_META_TIMES = ("creationTimestamp", "deletionTimestamp", "generation")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"  # doubles every object made by `kubectl apply`


@dataclass(frozen=True)
class Resource:
    """A kind on the API server."""

    api_version: str
    kind: str
    plural: str
    trim: Callable[[Body], Body]
    metadata_only: bool = False

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """Return the URL path of the collection, the object or its subresource."""
        root = "/api/v1" if self.api_version == "v1" else f"/apis/{self.api_version}"
        scope = f"/namespaces/{namespace}" if namespace else ""
        return "/".join(filter(None, (f"{root}{scope}/{self.plural}", name, subresource)))


def _metadata(body: Body) -> Body:
    meta = body["metadata"]
    kept = {key: meta[key] for key in (*_META, *_META_TIMES) if key in meta}
    if _LAST_APPLIED in kept.get("annotations", {}):
        kept["annotations"] = {key: value for key, value in kept["annotations"].items() if key != _LAST_APPLIED}
    return kept


def _whole(body: Body) -> Body:
    return body | {"metadata": _metadata(body)}


def _job(body: Body) -> Body:
    status = {key: value for key, value in body.get("status", {}).items() if key != "uncountedTerminatedPods"}
    spec = body.get("spec", {})
    indexed = {"spec": {"completions": spec["completions"]}} if spec.get("completionMode") == "Indexed" else {}
    return {"metadata": _metadata(body), "status": status, **indexed}


def _pod(body: Body) -> Body:
    status = body.get("status", {})
    return {
        "metadata": {key: value for key, value in _metadata(body).items() if key != "annotations"},
        "status": {key: status[key] for key in ("phase", "reason", "message", "containerStatuses") if key in status}
        | {"conditions": [item for item in status.get("conditions", []) if item.get("status") != "True"]},
    }


def _only_metadata(body: Body) -> Body:
    meta = _metadata(body)
    stamp = meta.get("annotations", {}).get(ANNOTATION_APPLIED)
    return {"metadata": meta | {"annotations": {ANNOTATION_APPLIED: stamp} if stamp else {}}}


OURS: tuple[Resource, ...] = tuple(Resource(API_VERSION, kind.name, kind.plural, _whole) for kind in KINDS)
CHILDREN: tuple[Resource, ...] = (
    Resource("batch/v1", "Job", "jobs", _job),
    Resource("batch/v1", "CronJob", "cronjobs", _whole),
    Resource("v1", "Pod", "pods", _pod),
    Resource("v1", "ConfigMap", "configmaps", _only_metadata, metadata_only=True),
)
SECRET = Resource("v1", "Secret", "secrets", _only_metadata, metadata_only=True)
EVENT = Resource("v1", "Event", "events", _whole)
LEASE = Resource("coordination.k8s.io/v1", "Lease", "leases", _whole)
BY_KIND: dict[str, Resource] = {item.kind: item for item in (*OURS, *CHILDREN, SECRET, EVENT, LEASE)}


def cached(resource: Resource, body: Body) -> Body:
    """Return what the cache keeps of an object; list items come without kind, so it is put in."""
    return {"apiVersion": resource.api_version, "kind": resource.kind, **resource.trim(body)}
