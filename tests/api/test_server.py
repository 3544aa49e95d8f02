"""The real API server takes the CRDs and refuses what they forbid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.manifests import manifest, pipeline_spec, retention_spec, run_spec, source_spec, stream, warehouse_spec
from cluster.processes import ClusterError
from millstream_api import KINDS

pytestmark = pytest.mark.cluster
CRDS = Path(__file__).parents[2] / "crds"


@pytest.fixture(scope="module")
def kubectl(control_plane: Any) -> Iterator[Any]:
    kubectl = control_plane.kubectl
    kubectl("apply", "--server-side", "--force-conflicts", f"--filename={CRDS}")
    for kind in KINDS:
        kubectl.wait("crd", f"{kind.plural}.millstream.dev", "condition=Established")
    kubectl.create_namespace("api-tests")
    yield kubectl
    kubectl("delete", "namespace", "api-tests", "--wait=false")


def test_no_crd_has_a_complaint(kubectl: Any) -> None:
    for kind in KINDS:
        found = kubectl.get("crd", f"{kind.plural}.millstream.dev")
        states = {item["type"]: item["status"] for item in found["status"]["conditions"]}
        assert states["Established"] == "True"
        assert states.get("NonStructuralSchema", "False") == "False"


ACCEPTED = [
    manifest("DataSource", "files", source_spec()),
    manifest("Warehouse", "dw", warehouse_spec()),
    manifest("Pipeline", "flights", pipeline_spec(schedule={"cron": "*/15 * * * *"}, transforms=[])),
    manifest("PipelineRun", "once", run_spec()),
    manifest("RetentionPolicy", "keep", retention_spec()),
]


@pytest.mark.parametrize("wanted", ACCEPTED, ids=lambda item: item["kind"])
def test_accepted_with_defaults(kubectl: Any, wanted: dict[str, Any]) -> None:
    kubectl.apply(wanted, namespace="api-tests")
    found = kubectl.get(wanted["kind"], wanted["metadata"]["name"], "api-tests")
    assert found["spec"].items() >= {}.items()
    if wanted["kind"] == "Pipeline":
        assert found["spec"]["history"] == {"successful": 3, "failed": 3}
        contract = {"tables": "evolve", "columns": "evolve", "types": "freeze", "rows": "quarantine"}
        assert found["spec"]["streams"][0]["contract"] == contract
        assert found["spec"]["schedule"]["timeZone"] == "Etc/UTC"


def stream_spec(**more: Any) -> dict[str, Any]:
    return pipeline_spec(streams=[stream(**more)])


def restore_spec(**more: Any) -> dict[str, Any]:
    back = {"table": "raw.flights", "from": "2024-01-01", "to": "2024-02-01"}
    return {"policyRef": {"name": "keep"}, "trigger": "restore", "restore": back, **more}


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("DataSource", source_spec(type="Post Gres"), "spec.type"),
    ("DataSource", source_spec(probeIntervalSeconds=5), "spec.probeIntervalSeconds"),
    ("Pipeline", stream_spec(writeDisposition="merge"), "writeDisposition merge and scd2 need primaryKey"),
    ("Pipeline", stream_spec(writeDisposition="replace", mode="incremental"), "replace needs mode full"),
    ("Pipeline", stream_spec(cursor={"field": "id", "lag": "5m"}), "needs writeDisposition merge"),
    ("Pipeline", stream_spec(columns=[{"name": "a", "source": "b", "expression": "c"}]), "not both"),
    ("Pipeline", stream_spec(writeDisposition="scd2"), "merge and scd2 need primaryKey"),
    ("Pipeline", stream_spec(deletes={"column": "gone"}), "deletes needs writeDisposition merge or scd2"),
    ("Pipeline", stream_spec(nested={"lists": "tables"}), "nested.lists tables needs primaryKey"),
    ("Pipeline", pipeline_spec(extract={"shards": 65}), "spec.extract.shards"),
    ("PipelineRun", run_spec(trigger="backfill"), "window and trigger backfill go together"),
    ("PipelineRun", run_spec(window={"from": "1", "to": "2"}), "window and trigger backfill go together"),
    ("PipelineRun", run_spec(trigger="backfill", window={"from": "1", "to": "1"}), "from must be before to"),
    (
        "PipelineRun",
        run_spec(trigger="backfill", window={"from": "1", "to": "2", "interval": "1d", "step": 1}),
        "not both",
    ),
    ("PipelineRun", {"trigger": "manual"}, "one of them"),
    ("PipelineRun", run_spec(trigger="restore"), "go together"),
    ("PipelineRun", restore_spec(pipelineRef={"name": "flights"}), "one of them"),
    ("PipelineRun", restore_spec(trigger="manual"), "go together"),
    ("PipelineRun", restore_spec(fullRefresh=True), "do not go with trigger restore"),
    ("PipelineRun", restore_spec(restore={"table": "a.b", "from": "1", "to": "1"}), "from must be before to"),
    ("PipelineRun", run_spec(replay={"rule": "x"}), "replay needs trigger replay"),
    ("PipelineRun", run_spec(trigger="replay", fullRefresh=True), "fullRefresh does not go with trigger"),
    ("Pipeline", stream_spec(target="raw; drop"), "spec.streams[0].target"),
    ("Pipeline", pipeline_spec(streams=[]), "spec.streams"),
    ("Pipeline", pipeline_spec(streams=[stream(), stream()]), "duplicate entries"),
    ("Pipeline", pipeline_spec(schedule={"cron": "hourly"}), "spec.schedule.cron"),
    ("Pipeline", pipeline_spec(schedule={"cron": "0 * * * *", "timeZone": "../etc"}), "spec.schedule.timeZone"),
    ("Pipeline", pipeline_spec(retries={"limit": 99}), "spec.retries.limit"),
    ("Pipeline", pipeline_spec(pod={"memory": "lots"}), "spec.pod.memory"),
    (
        "RetentionPolicy",
        retention_spec(archive={"url": "s3://cold/dw", "volumeClaim": "cold"}),
        "volumeClaim is mounted at the folder of url",
    ),
    ("RetentionPolicy", retention_spec(keep={"diskPressure": "85%"}), "diskPressure and diskSize go together"),
    (
        "RetentionPolicy",
        retention_spec(tables=[{"name": "t", "keep": {"diskSize": "1T"}}]),
        "diskPressure and diskSize go together",
    ),
    ("RetentionPolicy", retention_spec(tables=[{"pattern": "*"}]), "give name, or else schema, tag or both"),
    ("RetentionPolicy", retention_spec(tables=[{"name": "t", "tag": "x"}]), "give name, or else schema, tag or both"),
    (
        "RetentionPolicy",
        retention_spec(holds=[{"name": "h", "table": "a.b", "from": "2026-02-01", "to": "2026-02-01"}]),
        "from must be before to",
    ),
    (
        "RetentionPolicy",
        retention_spec(holds=[{"name": "h", "table": "a.b", "from": "2026-03-01 00:00:00+00", "to": "2026-02-01"}]),
        "from must be before to",
    ),
    (
        "RetentionPolicy",
        retention_spec(holds=[{"name": "h", "table": "a.b", "from": "10", "to": "9"}]),
        "from must be before to",
    ),
]


@pytest.mark.parametrize(("kind", "spec", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_refused(kubectl: Any, kind: str, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ClusterError) as refusal:
        kubectl.apply(manifest(kind, "bad", spec), namespace="api-tests", dry_run=True)
    assert words in str(refusal.value)


TRANSITIONS = [
    ("DataSource", "files", source_spec(), source_spec(type="rest"), "type is immutable"),
    ("PipelineRun", "twice", run_spec(), run_spec(fullRefresh=True), "fullRefresh is immutable"),
    ("PipelineRun", "other", run_spec(), run_spec(pipelineRef={"name": "b"}), "pipelineRef is immutable"),
    ("PipelineRun", "back", restore_spec(), restore_spec(policyRef={"name": "b"}), "policyRef is immutable"),
    ("PipelineRun", "streams", run_spec(), run_spec(streams=["a"]), "streams is immutable"),
    ("PipelineRun", "stopped", run_spec(cancel=True), run_spec(cancel=False), "a cancelled run stays cancelled"),
]


@pytest.mark.parametrize(("kind", "name", "before", "after", "words"), TRANSITIONS, ids=lambda value: str(value)[:30])
def test_transition_refused(
    kubectl: Any, kind: str, name: str, before: dict[str, Any], after: dict[str, Any], words: str
) -> None:
    kubectl.apply(manifest(kind, name, before), namespace="api-tests")
    with pytest.raises(ClusterError, match=words):
        kubectl.apply(manifest(kind, name, after), namespace="api-tests")


def test_users_see_short_names_columns_and_selectors(kubectl: Any) -> None:
    kubectl.apply(*ACCEPTED, namespace="api-tests")
    table = kubectl("get", "pl", "--namespace=api-tests")
    assert table.split("\n")[0].split()[:3] == ["NAME", "SCHEDULE", "LAST"]
    chosen = kubectl("get", "plr", "--namespace=api-tests", "--field-selector=spec.pipelineRef.name=flights", "-o=json")
    assert len(json.loads(chosen)["items"]) >= 1
    assert "datasource.millstream.dev/files" in kubectl("get", "millstream", "--namespace=api-tests", "-o=name")
