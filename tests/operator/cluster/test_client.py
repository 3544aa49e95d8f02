"""The client, the events and the watch against a real API server, in process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.live import Cluster
from api.manifests import manifest, pipeline_spec, run_spec
from millstream_operator.cluster.client import Client, connect
from millstream_operator.cluster.errors import (
    ConflictError,
    ForbiddenError,
    GoneError,
    NotFoundError,
    PermanentApiError,
    from_status,
)
from millstream_operator.cluster.recorder import Recorder
from millstream_operator.cluster.reflector import Reflector
from millstream_operator.cluster.resources import BY_KIND, SECRET, cached
from millstream_operator.cluster.store import Store
from millstream_operator.metrics import Metrics
from millstream_operator.queue import TokenBucket
from millstream_operator.reconcile.outcome import Note, Ref
from millstream_operator.views import Views

pytestmark = pytest.mark.cluster
PIPELINE = BY_KIND["Pipeline"]


@pytest.fixture
async def client(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.plane.kubeconfig))
    client = await connect(Metrics(), TokenBucket(1000, 1000, time.monotonic))
    yield client
    await client.close()


def pipeline(cluster: Cluster, name: str = "a", **spec: Any) -> dict[str, Any]:
    return manifest("Pipeline", name, pipeline_spec(**spec), namespace=cluster.namespace)


def job(cluster: Cluster, **more: Any) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "runner", "image": "x"}]}
    labels = {"app.kubernetes.io/managed-by": "millstream"}
    meta = {"name": "j", "namespace": cluster.namespace, "labels": labels}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": {"spec": pod}, **more}}


async def test_errors_are_told_apart(cluster: Cluster, client: Client) -> None:
    assert await client.find(PIPELINE, cluster.namespace, "none") is None
    with pytest.raises(NotFoundError):
        await client.get(PIPELINE, cluster.namespace, "none")
    with pytest.raises(PermanentApiError, match="streams"):
        await client.apply(pipeline(cluster, streams=[]))
    wrong = job(cluster)
    wrong["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"memory": "lots"}}
    with pytest.raises(PermanentApiError, match="quantities"):
        await client.apply(wrong)
    assert isinstance(from_status(410, "too old"), GoneError)
    assert isinstance(from_status(403, "exceeded quota"), ForbiddenError)


async def test_status_of_a_namesake_is_not_touched(cluster: Cluster, client: Client) -> None:
    first = await client.apply(pipeline(cluster))
    await client.delete(Ref("Pipeline", cluster.namespace, "a", first["metadata"]["uid"]))
    await client.delete(Ref("Pipeline", cluster.namespace, "a", first["metadata"]["uid"]))
    second = await client.apply(pipeline(cluster))
    with pytest.raises(ConflictError):
        await client.apply_status(first, {"quality": "9/10"})
    assert (await client.apply_status(second, {"quality": "9/10"}))["status"] == {"quality": "9/10"}
    with pytest.raises(ConflictError):
        await client.delete(Ref("Pipeline", cluster.namespace, "a", first["metadata"]["uid"]))


async def test_secrets_come_without_content(cluster: Cluster, client: Client) -> None:
    cluster.secret("s", password="hunter2")
    found = await client.get(SECRET, cluster.namespace, "s")
    assert found["kind"] == "PartialObjectMetadata"
    assert "hunter2" not in str(found)
    assert "data" not in found


async def test_lists_come_in_pages(cluster: Cluster, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream_operator.cluster.client.PAGE_SIZE", 2)
    for number in range(5):
        await client.apply(manifest("PipelineRun", f"r{number}", run_spec(), namespace=cluster.namespace))
    items, version = await client.list_all(BY_KIND["PipelineRun"], cluster.namespace)
    assert (len(items), version.isdigit()) == (5, True)


async def test_reflector_follows_and_trims(cluster: Cluster, client: Client) -> None:
    store, heard = Store(), asyncio.Event()
    selector = "app.kubernetes.io/managed-by=millstream"
    reflector = Reflector(client, store, BY_KIND["Job"], cluster.namespace, selector, lambda _: heard.set())
    task = asyncio.create_task(reflector.run())
    await reflector.synced.wait()
    assert store.keys("Job") == []
    await client.apply(job(cluster))
    await heard.wait()
    known = store.get("Job", cluster.namespace, "j")
    assert known is not None
    assert "spec" not in known
    assert "managedFields" not in known["metadata"]
    await client.delete(Ref("Job", cluster.namespace, "j"))
    while store.keys("Job"):
        heard.clear()
        await heard.wait()
    task.cancel()


async def test_a_run_sees_its_pipeline_as_it_is_now(cluster: Cluster, client: Client) -> None:
    store = Store()
    store.put(cached(PIPELINE, await client.apply(pipeline(cluster))))
    run = await client.apply(
        manifest("PipelineRun", "r", run_spec(pipelineRef={"name": "a"}), namespace=cluster.namespace)
    )
    await client.apply(pipeline(cluster, suspend=True))
    seen = (await Views(store, client).run(cached(BY_KIND["PipelineRun"], run))).pipeline
    assert seen is not None
    assert seen.body["spec"]["suspend"] is True


async def test_repeated_events_are_counted(cluster: Cluster, client: Client) -> None:
    body = cached(PIPELINE, await client.apply(pipeline(cluster)))
    recorder = Recorder(client, "here")
    task = asyncio.create_task(recorder.run())
    for _ in range(3):
        recorder.record(body, Note("Warning", "Unreachable", "no route"))
    recorder.record(body, Note("Normal", "Scheduled", "runs"))
    for _ in range(40):  # far more than the object's budget
        recorder.record(body, Note("Normal", "Scheduled", "runs"))
    await recorder.flushed()
    task.cancel()
    events = {item["reason"]: item for item in cluster.events(name="a")}
    assert sorted(events) == ["Scheduled", "Unreachable"]
    assert (events["Unreachable"]["count"], events["Scheduled"]["count"]) == (3, 22)
    assert events["Unreachable"]["reportingComponent"] == "millstream-operator"
