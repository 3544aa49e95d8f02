"""Killed at any moment, restarted, doubled, cut off: runs complete and are reported once; idling writes nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from api.live import AGENT, Cluster, Process, eventually, install_crds, loaded
from api.manifests import manifest, pipeline_spec, source_spec
from millstream_api import KINDS

pytestmark = pytest.mark.cluster

PIPELINES = 200
Hanging = tuple[Cluster, Process, Callable[[int], None]]  # the last sends a signal to the API server


def writes(cluster: Cluster, since: int) -> list[Any]:
    """Return what the operator wrote in this namespace, its Lease left out."""
    found = cluster.plane.audit.writes(since, agent=AGENT) + cluster.plane.audit.writes(since, agent="kopf")
    return [item for item in found if item.namespace == cluster.namespace and item.resource != "leases"]


def made(cluster: Cluster, resource: str, since: int) -> list[str]:
    return [item.name for item in writes(cluster, since) if item.resource == resource and item.code == 201]


def test_killed_after_any_write_of_a_manual_run(cluster: Cluster) -> None:
    process = cluster.operator()
    cluster.ready_endpoints()
    cluster.pipeline(history={"successful": 20})
    cluster.becomes("pipeline", "flights", "OnDemand")
    for nth in range(1, 9):
        run, rows = f"run-{nth}", 7 * nth
        mark = cluster.plane.audit.mark()
        cluster.run(run)
        finished = False
        while process.alive:
            if len(writes(cluster, mark)) >= nth or _total(cluster) == rows:
                process.kill()
            time.sleep(0.005)  # no longer: the next write shall not come in between
            job = cluster.status("pipelinerun", run).get("job")
            if job and not finished:
                cluster.finish(job, **loaded(7))
                finished = True
        process.start()
        job = eventually(lambda run=run: cluster.status("pipelinerun", run)["job"], "the Job")
        if not finished:
            cluster.finish(job, **loaded(7))
        cluster.phase(run, "Succeeded")
        eventually(lambda rows=rows: _total(cluster) >= rows, "the total")
        assert _total(cluster) == rows
        assert cluster.status("pipeline", "flights")["activeRuns"] == []
        assert made(cluster, "jobs", mark) == [job]
    assert len(cluster.list("job", "millstream.dev/role=run")) == 8


def test_killed_after_any_write_of_a_scheduled_run(cluster: Cluster) -> None:
    process = cluster.operator()
    cluster.ready_endpoints()
    cluster.pipeline(schedule={"cron": "0 0 1 1 *"}, history={"successful": 20})
    cluster.becomes("pipeline", "flights", "Scheduled")
    for nth in range(1, 7):
        run, rows = f"flights-{nth}", 7 * nth
        mark = cluster.plane.audit.mark()
        cluster.fire(cluster.status("pipeline", "flights")["cronJob"], run)
        cluster.finish(run, **loaded(7))
        while process.alive:
            if len(writes(cluster, mark)) >= nth or _total(cluster) == rows:
                process.kill()
            time.sleep(0.005)
        process.start()
        cluster.phase(run, "Succeeded")
        eventually(lambda rows=rows: _total(cluster) >= rows, "the total")
        assert _total(cluster) == rows
        assert made(cluster, "jobs", mark) == []
        assert made(cluster, "pipelineruns", mark) == [run]


def _total(cluster: Cluster) -> int:
    return int(cluster.status("pipeline", "flights").get("rowsLoadedTotal", 0))


def test_runs_that_ended_while_the_operator_was_down_are_reported(cluster: Cluster) -> None:
    process = cluster.operator()
    cluster.ready_endpoints()
    cluster.pipeline(schedule={"cron": "0 0 1 1 *"}, history={"successful": 9})
    cluster.becomes("pipeline", "flights", "Scheduled")
    cronjob = cluster.status("pipeline", "flights")["cronJob"]
    process.kill()
    for number in range(5):
        cluster.fire(cronjob, f"flights-{number}")
        cluster.finish(f"flights-{number}", **loaded(10))
        cluster.plane.kubectl.wait("job", f"flights-{number}", "condition=Complete", cluster.namespace)
    process.start()
    eventually(lambda: cluster.status("pipeline", "flights").get("rowsLoadedTotal") == 50, "five runs to be counted")
    assert len(cluster.list("pipelinerun")) == 5
    eventually(lambda: len(cluster.events("RunSucceeded", "flights")) == 5, "an event for each")


def test_restart_with_200_unchanged_pipelines_writes_nothing(cluster: Cluster) -> None:
    process = cluster.operator()
    cluster.ready_endpoints()
    many = [
        manifest("Pipeline", f"p{number}", pipeline_spec(schedule={"cron": "0 0 1 1 *"})) for number in range(PIPELINES)
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(cluster.apply, many))

    def scheduled() -> int:
        return sum("since" in item.get("status", {}).get("catchUp", {}) for item in cluster.list("pipeline"))

    eventually(lambda: scheduled() == PIPELINES, "all to be scheduled", 300)
    assert process.end() == 0
    mark = cluster.plane.audit.mark()
    process.start()
    looked = r'controller_runtime_reconcile_total{controller="Pipeline",result="success"} (\d+)'
    eventually(lambda: _number(looked, process.metrics()) >= PIPELINES, "a look at each", 300)
    cluster.annotate("datasource", "files", "example.com/look=again")
    eventually(lambda: _number(looked, process.metrics()) >= 2 * PIPELINES, "another look at each", 300)
    assert writes(cluster, mark) == []
    leases = [item for item in cluster.plane.audit.writes(mark, agent=AGENT) if item.resource == "leases"]
    assert leases


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found.group(1)) if found else 0.0


def test_sigterm_hands_the_lease_over_at_once(cluster: Cluster) -> None:
    first = cluster.operator("first")
    assert first.end(signal.SIGTERM) == 0
    assert cluster.get("lease", "millstream-operator")["spec"]["holderIdentity"] == ""
    assert '"event": "operator.ends"' not in first.log


def test_lost_lease_ends_the_process(cluster: Cluster) -> None:
    process = cluster.operator("first")
    # A process is ready, as a standby, a moment before it has taken the lease.
    lease = eventually(lambda: cluster.get("lease", "millstream-operator"), "the lease to be taken")
    lease["spec"]["holderIdentity"] = "thief"
    cluster.plane.kubectl("replace", "--filename=-", stdin=json.dumps(_bare(lease)))
    eventually(lambda: not process.alive, "the operator to end")
    assert process.ended(0) == 1
    assert "LeaseLost" in process.log


def _bare(body: dict[str, Any]) -> dict[str, Any]:
    body["metadata"] = {key: body["metadata"][key] for key in ("name", "namespace")}
    return body


def test_second_replica_takes_over_and_the_first_does_not_write_when_it_wakes(cluster: Cluster) -> None:
    """A leader that is frozen for longer than its lease (a paused node) finds its fence closed."""
    first = cluster.operator("first")
    # It is ready before it leads, and the second one must not come before it.
    eventually(lambda: "leader.acquired" in first.log, "its lease")
    cluster.operator("second")
    first.send(signal.SIGSTOP)
    cluster.apply(manifest("DataSource", "files", source_spec()))
    cluster.answer_probe("datasource", "files")
    eventually(lambda: cluster.events("ProbeSucceeded"), "the second to have said all it has to say")
    cluster.none_left("job")
    lease = cluster.get("lease", "millstream-operator")["spec"]
    assert (lease["holderIdentity"], lease["leaseTransitions"]) == ("second", 2)
    mark = cluster.plane.audit.mark()
    first.send(signal.SIGCONT)
    eventually(lambda: not first.alive, "the first to end")
    assert first.ended(0) == 1
    assert writes(cluster, mark) == []


def test_what_others_change_is_put_right(cluster: Cluster) -> None:
    cluster.operator()
    cluster.ready_endpoints()
    cluster.pipeline(schedule={"cron": "0 0 1 1 *"})
    cluster.becomes("pipeline", "flights", "Scheduled")
    cronjob = cluster.status("pipeline", "flights")["cronJob"]
    where = f"--namespace={cluster.namespace}"
    cluster.plane.kubectl(
        "patch", "cronjob", cronjob, where, "--type=merge", '--patch={"spec":{"schedule":"1 1 1 1 1"}}'
    )
    eventually(lambda: cluster.get("cronjob", cronjob)["spec"]["schedule"] == "0 0 1 1 *", "the schedule to come back")
    cluster.delete("cronjob", cronjob)
    eventually(lambda: cluster.get("cronjob", cronjob)["spec"]["schedule"] == "0 0 1 1 *", "the CronJob to come back")


@pytest.fixture(scope="module")
def own_plane() -> Iterator[Any]:
    """A control plane that may be stopped and may be without our CRDs: no other test's operator lives on it."""
    from cluster import control_plane, runs

    run = runs.begin(tied=True)
    try:
        yield control_plane.begin(run)
    finally:
        run.end()


def test_absent_crds_are_told_and_waited_for(own_plane: Any, tmp_path: Path) -> None:
    own_plane.kubectl("delete", "crd", "--ignore-not-found", *(f"{kind.plural}.millstream.dev" for kind in KINDS))
    own_plane.kubectl.create_namespace("early")
    cluster = Cluster(own_plane, "early", tmp_path)
    process = cluster.operator(wait=False)
    try:
        eventually(lambda: "CRDs are missing: datasources" in process.readyz(), "the operator to say so")
        assert process.healthz() == "ok"
        install_crds(own_plane)
        eventually(lambda: process.readyz() == "ok", "the operator to go on")
        cluster.apply(manifest("DataSource", "files", source_spec()))
        cluster.becomes("datasource", "files", "Probing")
    finally:
        process.kill()


@pytest.fixture
def hanging(own_plane: Any, tmp_path: Path) -> Iterator[Hanging]:
    """An operator, and a way to stop its API server and let it go on."""
    install_crds(own_plane)
    own_plane.kubectl.create_namespace(tmp_path.name.replace("_", "-"))
    cluster = Cluster(own_plane, tmp_path.name.replace("_", "-"), tmp_path)
    server = next(item for item in own_plane.run.processes if item.name == "kube-apiserver")
    process = cluster.operator()
    eventually(lambda: "leader.acquired" in process.log, "its lease")
    yield cluster, process, lambda number: os.kill(server.pid, number)
    os.kill(server.pid, signal.SIGCONT)
    if process.alive:
        process.kill()


def test_api_server_that_hangs_is_survived(hanging: Hanging) -> None:
    cluster, process, server = hanging
    server(signal.SIGSTOP)
    time.sleep(4)  # shorter than the lease: not the fail-over is meant, but requests and watches that stall
    server(signal.SIGCONT)
    cluster.apply(manifest("DataSource", "files", source_spec()))
    cluster.becomes("datasource", "files", "Probing")
    assert process.alive


def test_api_server_that_hangs_holds_no_stop_up(hanging: Hanging) -> None:
    """The Lease cannot be given back: that is tried for a while and no longer."""
    _, process, server = hanging
    server(signal.SIGSTOP)
    assert process.end(signal.SIGTERM) == 0
    assert "leader.release_failed" in process.log
