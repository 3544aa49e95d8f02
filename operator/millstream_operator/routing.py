"""Who must be looked at when an object changed. Too many keys are harmless (the queue dedupes, an idle look writes
nothing); a missing one waits for the resync."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from millstream_api.meta import LABEL_OWNER_UID
from millstream_operator.cluster.store import Store, key_of
from millstream_operator.queue import Key
from millstream_operator.reconcile.runs import FINISHED

Body = dict[str, Any]
Route = Callable[[Store, Body], Iterator[Key]]


def concerned(store: Store, body: Body) -> set[Key]:
    """Return the keys of our kinds that a change of `body` may matter to."""
    route = _ROUTES.get(body["kind"], _itself)
    return set(route(store, body))


def _itself(store: Store, body: Body) -> Iterator[Key]:
    yield key_of(body)


def _endpoint(store: Store, body: Body) -> Iterator[Key]:
    yield key_of(body)
    for pipeline in store.pipelines_using(*key_of(body)):
        yield from _pipeline(store, pipeline)
    for policy in store.policies_using(*key_of(body)[1:]) if body["kind"] == "Warehouse" else ():
        yield from _policy(store, policy)


def _policy(store: Store, body: Body) -> Iterator[Key]:
    yield key_of(body)
    yield from _unfinished(store.restores_of_policy(body["metadata"]["namespace"], body["metadata"]["name"]))


def _unfinished(runs: Iterable[Body]) -> Iterator[Key]:
    for run in runs:
        if run.get("status", {}).get("phase") not in FINISHED:
            yield key_of(run)


def _pipeline(store: Store, body: Body) -> Iterator[Key]:
    yield key_of(body)
    yield from _unfinished(store.runs_of_pipeline(body["metadata"]["namespace"], body["metadata"]["name"]))


def _run(store: Store, body: Body) -> Iterator[Key]:
    yield key_of(body)
    namespace, spec = body["metadata"]["namespace"], body["spec"]
    for field, kind, route in (("pipelineRef", "Pipeline", _pipeline), ("policyRef", "RetentionPolicy", _policy)):
        found = store.get(kind, namespace, (spec.get(field) or {}).get("name", ""))
        yield from route(store, found) if found is not None else ()


def _child(store: Store, body: Body) -> Iterator[Key]:
    owner = store.by_uid(body["metadata"].get("labels", {}).get(LABEL_OWNER_UID, ""))
    if owner is None:
        return
    route = {"PipelineRun": _run, "RetentionPolicy": _policy}.get(owner["kind"], _itself)
    yield from route(store, owner)


def _job(store: Store, body: Body) -> Iterator[Key]:
    yield from _child(store, body)
    yield from _adopted_run(store, body["metadata"]["namespace"], body["metadata"]["name"])


def _pod(store: Store, body: Body) -> Iterator[Key]:
    """A pod tells its run or probe something; the Pipeline hears of it through the run."""
    meta = body["metadata"]
    owner = store.by_uid(meta.get("labels", {}).get(LABEL_OWNER_UID, ""))
    if owner is not None and owner["kind"] != "Pipeline":
        yield key_of(owner)
    yield from _adopted_run(store, meta["namespace"], meta.get("labels", {}).get("batch.kubernetes.io/job-name", ""))


def _adopted_run(store: Store, namespace: str, name: str) -> Iterator[Key]:
    if store.get("PipelineRun", namespace, name) is not None:
        yield Key("PipelineRun", namespace, name)


_ROUTES: dict[str, Route] = {
    "DataSource": _endpoint,
    "Warehouse": _endpoint,
    "Pipeline": _pipeline,
    "PipelineRun": _run,
    "RetentionPolicy": _policy,
    "Job": _job,
    "CronJob": _child,
    "ConfigMap": _child,
    "Pod": _pod,
}
