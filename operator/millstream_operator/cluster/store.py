"""The cache: what lists, watches and our own writes have shown, indexed for the questions the decisions ask.

The newest version of an object wins, whoever brings it; a deleted object does not come back through a late list.
Resource versions are compared as numbers, as Kubernetes itself does (and promises from 1.35 on).
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from typing import Any

from millstream_api.meta import LABEL_OWNER_UID, LABEL_PIPELINE
from millstream_operator.objects.naming import label_value
from millstream_operator.queue import Key

Body = dict[str, Any]

_REFERENCES = {
    "pipelineRef": "Pipeline",
    "policyRef": "RetentionPolicy",
    "sourceRef": "DataSource",
    "warehouseRef": "Warehouse",
}
_GRAVES = 10_000  # UIDs of deleted objects that are remembered, newest last


def key_of(body: Body) -> Key:
    """Return the key of an object."""
    meta = body["metadata"]
    return Key(body["kind"], meta.get("namespace", ""), meta["name"])


def version_of(body: Body) -> int:
    """Return the resource version as a number."""
    return int(body["metadata"].get("resourceVersion") or 0)


class Store:
    """Objects by key and by index."""

    def __init__(self) -> None:
        self._objects: dict[Key, Body] = {}
        self._index: dict[str, set[Key]] = defaultdict(set)
        self._graves: OrderedDict[str, None] = OrderedDict()

    def get(self, kind: str, namespace: str, name: str) -> Body | None:
        """Return an object or None."""
        return self._objects.get(Key(kind, namespace, name))

    def keys(self, kind: str) -> list[Key]:
        """Return the keys of all objects of a kind."""
        return sorted(self._index.get(f"kind/{kind}", ()))

    def owned(self, kind: str, owner_uid: str) -> list[Body]:
        """Return the children of that kind that carry the owner's UID as a label."""
        return self._of_kind(kind, f"owner/{owner_uid}")

    def jobs_of_pipeline(self, namespace: str, pipeline: str) -> list[Body]:
        """Return scheduled and manual Jobs of a Pipeline of that name."""
        return self._of_kind("Job", f"pipeline/{namespace}/{label_value(pipeline)}")

    def runs_of_pipeline(self, namespace: str, pipeline: str) -> list[Body]:
        """Return the PipelineRuns that refer to the Pipeline."""
        return self._of_kind("PipelineRun", f"refers/Pipeline/{namespace}/{pipeline}")

    def pods_of_job(self, job_uid: str) -> list[Body]:
        """Return the pods that the Job controls."""
        return self._of_kind("Pod", f"controller/{job_uid}")

    def pipelines_using(self, kind: str, namespace: str, name: str) -> list[Body]:
        """Return the Pipelines that refer to a DataSource or Warehouse."""
        return self._of_kind("Pipeline", f"refers/{kind}/{namespace}/{name}")

    def restores_of_policy(self, namespace: str, policy: str) -> list[Body]:
        """Return the PipelineRuns that bring back what the RetentionPolicy has archived."""
        return self._of_kind("PipelineRun", f"refers/RetentionPolicy/{namespace}/{policy}")

    def policies_using(self, namespace: str, warehouse: str) -> list[Body]:
        """Return the RetentionPolicies that refer to a Warehouse."""
        return self._of_kind("RetentionPolicy", f"refers/Warehouse/{namespace}/{warehouse}")

    def by_uid(self, uid: str) -> Body | None:
        """Return the object with that UID."""
        return next((self._objects[key] for key in self._index.get(f"uid/{uid}", ())), None)

    def put(self, body: Body) -> bool:
        """Keep an object unless what we have is as new; return whether it was taken."""
        key, uid = key_of(body), body["metadata"].get("uid", "")
        known = self._objects.get(key)
        if uid in self._graves:
            return False
        if known is not None:
            if version_of(known) >= version_of(body):
                return False
            self._forget(key, known)
        self._objects[key] = body
        for entry in _entries(body):
            self._index[entry].add(key)
        return True

    def remove(self, body: Body) -> bool:
        """Forget a deleted object; return whether it was known. A namesake that replaced it stays."""
        key, uid = key_of(body), body["metadata"].get("uid", "")
        self._graves[uid] = None
        while len(self._graves) > _GRAVES:
            self._graves.popitem(last=False)
        known = self._objects.get(key)
        if known is None or known["metadata"].get("uid") != uid:
            return False
        self._forget(key, known)
        return True

    def replace(self, kind: str, namespace: str | None, bodies: Iterable[Body], version: int) -> set[Key]:
        """Take a whole list, as of `version`; return the keys that changed, those that vanished included."""
        listed = {key_of(body): body for body in bodies}
        changed = {key for key, body in listed.items() if self.put(body)}
        for key in self.keys(kind):
            known = self._objects[key]
            if namespace not in (None, key.namespace) or key in listed or version_of(known) > version:
                continue
            self.remove(known)
            changed.add(key)
        return changed

    def _of_kind(self, kind: str, entry: str) -> list[Body]:
        return [self._objects[key] for key in sorted(self._index.get(entry, ())) if key.kind == kind]

    def _forget(self, key: Key, body: Body) -> None:
        del self._objects[key]
        for entry in _entries(body):
            self._index[entry].discard(key)
            if not self._index[entry]:
                del self._index[entry]


def _entries(body: Body) -> set[str]:
    meta, spec = body["metadata"], body.get("spec", {})
    labels, namespace = meta.get("labels", {}), meta.get("namespace", "")
    entries = {f"kind/{body['kind']}", f"uid/{meta.get('uid', '')}"}
    if LABEL_OWNER_UID in labels:
        entries.add(f"owner/{labels[LABEL_OWNER_UID]}")
    if LABEL_PIPELINE in labels:
        entries.add(f"pipeline/{namespace}/{labels[LABEL_PIPELINE]}")
    entries.update(f"controller/{ref['uid']}" for ref in meta.get("ownerReferences", ()) if ref.get("controller"))
    for field, kind in _REFERENCES.items():
        if isinstance(spec.get(field), dict) and "name" in spec[field]:
            entries.add(f"refers/{kind}/{namespace}/{spec[field]['name']}")
    return entries
