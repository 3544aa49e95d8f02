"""Every handler's path on a real API server: from a user's object to its status."""

from __future__ import annotations

import pytest

from api.live import Cluster, eventually, loaded
from api.manifests import manifest, pipeline_spec, source_spec, warehouse_spec
from millstream_api.datasource import ColumnStatus, StreamStatus

pytestmark = pytest.mark.cluster


def test_probe_discovers_streams(cluster: Cluster) -> None:
    cluster.operator()
    cluster.apply(manifest("DataSource", "files", source_spec()))
    cluster.becomes("datasource", "files", "Probing")
    columns = [ColumnStatus(name="id", type="bigint", nullable=False)]
    found = StreamStatus(name="flights", columns=columns, column_count=1, primary_key=["id"])
    job = cluster.probe_job("datasource", "files")
    cluster.finish(job, discovered=[found], discovered_count=1)
    cluster.becomes("datasource", "files", "ProbeSucceeded")
    status = cluster.status("datasource", "files")
    assert status["streams"][0]["columns"] == [{"name": "id", "type": "bigint", "nullable": False}]
    assert cluster.condition("datasource", "files", "Reachable")[0] == "True"
    cluster.plane.kubectl.wait("job", job, "delete", cluster.namespace)


def test_bad_probes(cluster: Cluster) -> None:
    cluster.operator()
    cluster.secret("dw-login", password="wrong")
    cluster.apply(manifest("Warehouse", "dw", warehouse_spec()), manifest("DataSource", "files", source_spec()))
    cluster.answer_probe("warehouse", "dw", 78, message="password in Secret 'dw-login' was refused")
    text = cluster.becomes("warehouse", "dw", "InvalidConfiguration")
    assert "Secret 'dw-login'" in text
    assert cluster.condition("warehouse", "dw", "Stalled")[0] == "True"
    cluster.answer_probe("datasource", "files", 75, message="no route to host")
    assert cluster.becomes("datasource", "files", "Unreachable") == "no route to host"
    assert cluster.condition("datasource", "files", "Stalled")[0] == "False"


def test_secrets_that_come_or_change_are_probed_without_restart(cluster: Cluster) -> None:
    cluster.operator(MILLSTREAM_RESYNC_SECONDS="10")
    cluster.ready_endpoints()
    cluster.apply(manifest("Warehouse", "late", warehouse_spec(secretRef={"name": "late-login"})))
    assert "late-login" in cluster.becomes("warehouse", "late", "SecretNotFound")
    before = cluster.status("warehouse", "dw")["secretVersion"]
    cluster.secret("late-login", password="first")
    cluster.secret("dw-login", user="loader", password="second")
    for warehouse, secret in (("late", "late-login"), ("dw", "dw-login")):
        cluster.answer_probe("warehouse", warehouse)
        version = cluster.get("secret", secret)["metadata"]["resourceVersion"]
        eventually(
            lambda name=warehouse, version=version: cluster.status("warehouse", name)["secretVersion"] == version,
            f"a probe of {warehouse}",
        )
        cluster.becomes("warehouse", warehouse, "ProbeSucceeded")
    assert cluster.status("warehouse", "dw")["secretVersion"] != before


def test_scheduled_job_is_adopted_and_reported(flights: Cluster) -> None:
    cronjob = flights.status("pipeline", "flights")["cronJob"]
    flights.fire(cronjob, "flights-1")
    flights.phase("flights-1", "Running")
    assert flights.get("pipelinerun", "flights-1")["spec"]["trigger"] == "schedule"
    eventually(lambda: flights.status("pipeline", "flights")["activeRuns"] == ["flights-1"], "the active run")
    flights.finish("flights-1", **loaded(42, freshness="2026-03-01T09:00:00Z", guarantee="exactly-once"))
    status = flights.phase("flights-1", "Succeeded")
    assert (status["rowsLoaded"], status["exitCode"], status["attempts"]) == (42, 0, 1)
    flights.becomes("pipeline", "flights", "ChecksPassed", "Passing")
    status = flights.status("pipeline", "flights")
    assert (status["rowsLoadedTotal"], status["quality"], status["activeRuns"]) == (42, "2/2", [])
    assert (status["lastRun"]["outcome"], status["guarantee"]) == ("Succeeded", "exactly-once")
    where = f'namespace="{flights.namespace}",pipeline="flights"'
    outcome = f'namespace="{flights.namespace}",outcome="Succeeded",pipeline="flights"'
    for line in (
        f"millstream_runs_total{{{outcome}}} 1.0",
        f'millstream_rows_total{{{where},stage="loaded"}} 42.0',
        f"millstream_quality_score{{{where}}} 1.0",
    ):  # counted after the status is written
        eventually(lambda line=line: line in flights.processes[0].metrics(), line)


def test_deleting_a_scheduled_run_deletes_its_job(flights: Cluster) -> None:
    flights.fire(flights.status("pipeline", "flights")["cronJob"], "flights-1")
    flights.phase("flights-1", "Running")
    flights.delete("pipelinerun", "flights-1")
    flights.plane.kubectl.wait("job", "flights-1", "delete", flights.namespace)
    assert flights.list("pipelinerun") == []


@pytest.mark.parametrize(
    ("code", "phase", "reason"),
    [(65, "ChecksFailed", "ChecksFailed"), (75, "Failed", "RunFailed"), (78, "Failed", "InvalidConfiguration")],
)
def test_bad_ends_of_a_manual_run(flights: Cluster, code: int, phase: str, reason: str) -> None:
    flights.run("once", fullRefresh=True)
    job = flights.phase("once", "Running")["job"]
    flights.finish(job, code, message="what happened and what to do")
    flights.phase("once", phase)
    assert flights.condition("pipelinerun", "once")[1:] == (reason, "what happened and what to do")
    assert flights.condition("pipelinerun", "once", "Stalled")[0] == "True"
    assert len(flights.list("pod", f"batch.kubernetes.io/job-name={job}")) == 1
    if code == 78:
        flights.becomes("pipeline", "flights", "InvalidConfiguration", "Stalled")
        flights.pipeline(schedule={"cron": "0 0 1 1 *"}, streams=[{"name": "flights", "target": "raw.mended"}])
        flights.becomes("pipeline", "flights", "Scheduled")


def test_annotation_runs_once(flights: Cluster) -> None:
    flights.annotate("pipeline", "flights", "millstream.dev/run=today")
    from_annotation = eventually(lambda: flights.list("pipelinerun")[0], "a run")["metadata"]["name"]
    flights.phase(from_annotation, "Running")
    flights.finish(flights.status("pipelinerun", from_annotation)["job"], **loaded(1))
    flights.phase(from_annotation, "Succeeded")
    assert len(flights.list("pipelinerun")) == 1
    assert flights.status("pipeline", "flights")["lastTrigger"] == "today"


def test_runs_queue_oldest_first_then_history_is_kept(flights: Cluster) -> None:
    for name in ("a", "b", "c"):
        flights.run(name)
        flights.phase(name, "Running" if name == "a" else "Queued")
    for number, name in enumerate(("a", "b", "c")):
        flights.phase(name, "Running")
        waiting = ("b", "c")[number:]
        assert all(flights.status("pipelinerun", other)["phase"] == "Queued" for other in waiting if other != name)
        flights.finish(flights.status("pipelinerun", name)["job"], **loaded(10))
        if name == "c":
            flights.phase(name, "Succeeded")
    for gone in ("a", "b"):
        flights.plane.kubectl.wait("pipelinerun", gone, "delete", flights.namespace)
    assert [item["metadata"]["name"] for item in flights.list("pipelinerun")] == ["c"]
    eventually(lambda: flights.status("pipeline", "flights")["rowsLoadedTotal"] == 30, "30 rows in the total")
    eventually(lambda: len(flights.list("job", "millstream.dev/role=run")) == 1, "the Jobs of old runs to go")


def test_cancel_and_replace(flights: Cluster) -> None:
    flights.run("a")
    job = flights.phase("a", "Running")["job"]
    flights.run("a", cancel=True)
    flights.phase("a", "Cancelled")
    flights.plane.kubectl.wait("job", job, "delete", flights.namespace)
    flights.pipeline(schedule={"cron": "0 0 1 1 *", "concurrencyPolicy": "Replace"})
    flights.run("b")
    flights.phase("b", "Running")
    flights.run("c")
    flights.phase("c", "Running")
    assert flights.status("pipelinerun", "b")["phase"] == "Cancelled"


def test_suspend_holds_runs_back(flights: Cluster) -> None:
    flights.pipeline(schedule={"cron": "0 0 1 1 *"}, suspend=True)
    flights.becomes("pipeline", "flights", "Suspended")
    cronjob = flights.status("pipeline", "flights")["cronJob"]
    assert flights.get("cronjob", cronjob)["spec"]["suspend"] is True
    flights.run("later")
    flights.phase("later", "Queued")
    assert flights.condition("pipelinerun", "later")[1] == "Suspended"
    flights.pipeline(schedule={"cron": "0 0 1 1 *"}, suspend=False)
    flights.phase("later", "Running")


def test_deletion_leaves_nothing_behind(flights: Cluster) -> None:
    flights.fire(flights.status("pipeline", "flights")["cronJob"], "flights-1")
    flights.phase("flights-1", "Running")
    flights.run("waits")
    flights.phase("waits", "Queued")
    for kind, name in (("pipeline", "flights"), ("datasource", "files"), ("warehouse", "dw")):
        flights.delete(kind, name)
    for kind in ("cronjob", "job", "pod", "configmap"):
        flights.none_left(kind, "app.kubernetes.io/managed-by=millstream")
    for kind in ("pipeline", "pipelinerun", "datasource", "warehouse"):
        flights.none_left(kind)
    scraped = flights.processes[0].metrics
    eventually(lambda: (text := scraped()) and 'pipeline="flights"' not in text, "its series to go")


def test_bad_specs_stall_and_harm_nobody(flights: Cluster) -> None:
    bad = pipeline_spec(schedule={"cron": "0 0 31 2 *", "timeZone": "Mars/Phobos"})
    flights.apply(manifest("Pipeline", "wrong", bad))
    text = flights.becomes("pipeline", "wrong", "InvalidSpec", "Stalled")
    assert "spec.schedule.timeZone: 'Mars/Phobos' is no IANA time zone" in text
    label = pipeline_spec(schedule={"cron": "@daily"}, pod={"labels": {"no label!": "x"}})
    flights.apply(manifest("Pipeline", "refused", label))
    assert "no label!" in flights.becomes("pipeline", "refused", "InvalidSpec", "Stalled")
    flights.run("still-works")
    flights.phase("still-works", "Running")


def test_pipeline_waits_for_its_source(cluster: Cluster) -> None:
    cluster.operator()
    cluster.pipeline()
    assert "'files': not found" in cluster.becomes("pipeline", "flights", "SourceNotFound")
    cluster.run("once")
    cluster.phase("once", "Queued")
    cluster.ready_endpoints()
    cluster.becomes("pipeline", "flights", "OnDemand")
    cluster.phase("once", "Running")
