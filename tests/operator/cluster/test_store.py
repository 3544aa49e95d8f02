"""The cache: newest wins, the deleted stay deleted, indexes follow."""

from __future__ import annotations

from typing import Any

import pytest

from api.manifests import body, pipeline_spec, run_spec
from millstream_operator.cluster.store import Store
from millstream_operator.queue import Key
from millstream_operator.routing import concerned

Body = dict[str, Any]


def pipeline(version: str = "1", uid: str = "uid-flights", name: str = "flights", **spec: Any) -> Body:
    return body("Pipeline", name, pipeline_spec(**spec), resourceVersion=version, uid=uid)


@pytest.fixture
def store() -> Store:
    return Store()


def test_newest_version_wins(store: Store) -> None:
    assert store.put(pipeline("9"))
    assert not store.put(pipeline("9"))
    assert not store.put(pipeline("8"))
    assert store.put(pipeline("10"))


def test_deleted_does_not_come_back_late(store: Store) -> None:
    store.put(pipeline("5"))
    assert store.remove(pipeline("6"))
    assert not store.put(pipeline("5"))
    assert store.get("Pipeline", "shop", "flights") is None
    assert store.put(pipeline("7", uid="uid-again"))
    assert not store.remove(pipeline("8"))
    assert store.get("Pipeline", "shop", "flights") is not None


def test_list_removes_what_vanished_but_not_what_is_newer(store: Store) -> None:
    store.put(pipeline("5", "uid-a", "a"))
    store.put(pipeline("20", "uid-b", "b"))
    changed = store.replace("Pipeline", None, [pipeline("7", "uid-c", "c")], version=10)
    assert changed == {Key("Pipeline", "shop", "a"), Key("Pipeline", "shop", "c")}
    assert [key.name for key in store.keys("Pipeline")] == ["b", "c"]
    assert store.replace("Pipeline", "elsewhere", [], version=30) == set()


def test_indexes_follow_changes(store: Store) -> None:
    store.put(pipeline("1"))
    assert store.pipelines_using("DataSource", "shop", "files")
    store.put(pipeline("2", sourceRef={"name": "other"}))
    assert not store.pipelines_using("DataSource", "shop", "files")
    assert store.pipelines_using("DataSource", "shop", "other")


JOB = {"kind": "Job", "metadata": {"name": "flights-1", "namespace": "shop", "uid": "uid-job", "labels": {}}}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (body("DataSource", "files", {}), {("DataSource", "files"), ("Pipeline", "flights"), ("PipelineRun", "waits")}),
        (pipeline("2"), {("Pipeline", "flights"), ("PipelineRun", "waits")}),
        (
            body("PipelineRun", "flights-1", run_spec(), status={"phase": "Succeeded"}),
            {("PipelineRun", "flights-1"), ("PipelineRun", "waits"), ("Pipeline", "flights")},
        ),
        (
            {**JOB, "metadata": {**JOB["metadata"], "labels": {"millstream.dev/owner-uid": "uid-flights"}}},
            {("Pipeline", "flights"), ("PipelineRun", "flights-1")},
        ),
        (
            {
                **JOB,
                "kind": "ConfigMap",
                "metadata": {**JOB["metadata"], "labels": {"millstream.dev/owner-uid": "gone"}},
            },
            set(),
        ),
    ],
)
def test_who_is_concerned(store: Store, changed: Body, expected: set[tuple[str, str]]) -> None:
    store.put(pipeline("1"))
    store.put(body("PipelineRun", "flights-1", run_spec(), status={"phase": "Succeeded"}))
    store.put(body("PipelineRun", "waits", run_spec(), status={"phase": "Queued"}))
    assert {(key.kind, key.name) for key in concerned(store, changed)} == expected
