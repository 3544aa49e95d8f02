"""A RetentionPolicy on a real API server: from a user's object to its status; the test plays the node."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from api.live import AGENT, Body, Cluster, eventually
from api.manifests import manifest, retention_spec, warehouse_spec
from api.policies import DROP, HELD, table
from millstream_api import RetentionReport, StreamReport

pytestmark = pytest.mark.cluster

POLICY = "retentionpolicy"
ARCHIVE = {"url": "s3://cold/flights", "secretRef": {"name": "cold-s3"}}


@pytest.fixture
def kept(cluster: Cluster) -> Cluster:
    """A running operator, a ready Warehouse and a policy that was planned."""
    cluster.operator()
    cluster.ready_endpoints()
    cluster.secret("cold-s3", accessKeyId="a", secretAccessKey="b")
    cluster.policy(archive=ARCHIVE)
    cluster.finish(job(cluster, "retain-dry-run"), **told())
    cluster.becomes(POLICY, "keep", "Scheduled")
    return cluster


def job(cluster: Cluster, role: str = "retain") -> str:
    """Return the Job of that role which has not ended."""
    found = eventually(
        lambda: [item for item in cluster.list("job", f"millstream.dev/role={role}") if not ended(item)],
        f"a Job of role {role}",
    )
    return str(found[0]["metadata"]["name"])


def ended(item: Body) -> bool:
    return any(end["type"] in ("Complete", "Failed") for end in item.get("status", {}).get("conditions", []))


def told(message: str = "done", **more: Any) -> Body:
    retention = RetentionReport(**({"tables": [table()], "tables_count": 1} | more))
    return {"message": message, "retention": retention}


def env(cluster: Cluster, name: str) -> str:
    template = cluster.get("job", name)["spec"]["template"]["spec"]["containers"][0]
    return next((item["value"] for item in template["env"] if item["name"] == "MILLSTREAM_RETENTION"), "")


def test_plan_run_metrics_and_the_end(kept: Cluster) -> None:
    status = kept.status(POLICY, "keep")
    assert (status["live"], status["archived"], status["dropped"]) == (15, 3, 2)
    where = f'namespace="{kept.namespace}",policy="keep"'
    assert f"millstream_lock_wait_seconds_total{{{where}}} 0.0" in kept.processes[0].metrics()
    kept.fire(status["cronJob"], "keep-1")
    eventually(lambda: kept.status(POLICY, "keep").get("activeJob") == "keep-1", "the run to be seen")
    kept.finish("keep-1", **told("1 partition dropped", tables=[table(dropped=3, lock_wait_seconds=1.5)]))
    eventually(lambda: kept.status(POLICY, "keep").get("lastRun", {}).get("job") == "keep-1", "its report")
    status = kept.status(POLICY, "keep")
    assert (status["dropped"], status["lastRun"]["outcome"], "activeJob" in status) == (3, "Succeeded", False)
    assert kept.condition(POLICY, "keep", "Archived")[:2] == ("True", "ArchivesVerified")
    assert kept.condition(POLICY, "keep", "Blocked")[:2] == ("False", "NothingBlocked")
    line = kept.plane.kubectl("get", "rp", "keep", f"--namespace={kept.namespace}")
    assert "Succeeded" in line
    assert line.split("\n")[0].split()[:5] == ["NAME", "WAREHOUSE", "KEEP", "SCHEDULE", "LIVE"]
    zero = ("retention_runs_due", "retention_blocked_steps", "retention_planned_bytes", "archive_mismatches")
    for line in (
        f'millstream_partitions{{{where},state="dropped",table="raw.flights"}} 3.0',
        f"millstream_lock_wait_seconds_total{{{where}}} 1.5",
        f'millstream_retention_ready{{{where},reason="Scheduled"}} 1.0',
        *(f"millstream_{name}{{{where}}} 0.0" for name in zero),
    ):  # counted after the status is written
        eventually(lambda line=line: line in kept.processes[0].metrics(), line)
    kept.annotate(POLICY, "keep", "millstream.dev/run=now")
    running = job(kept)
    kept.delete(POLICY, "keep")
    for kind in ("cronjob", "job", "pod", "configmap"):
        kept.none_left(kind, "app.kubernetes.io/managed-by=millstream,millstream.dev/owner-kind=RetentionPolicy")
    assert running
    eventually(lambda: (text := kept.processes[0].metrics()) and 'policy="keep"' not in text, "its series to go")


def test_a_restart_with_an_unchanged_policy_writes_nothing(kept: Cluster) -> None:
    process = kept.processes[0]
    assert process.end() == 0
    mark = kept.plane.audit.mark()
    process.start()
    looked = re.compile(r'controller_runtime_reconcile_total{controller="RetentionPolicy",result="success"} (\d+)')
    before = eventually(lambda: looked.search(process.metrics()), "a look at the policy")[1]
    kept.annotate("warehouse", "dw", "example.com/look=again")
    eventually(lambda: looked.findall(process.metrics())[0] != before, "another look, since its Warehouse changed")
    written = [item for item in kept.plane.audit.writes(mark, agent=AGENT) if item.namespace == kept.namespace]
    assert [item for item in written if item.resource != "leases"] == []


def test_approval(kept: Cluster) -> None:
    kept.policy(archive=ARCHIVE, approval="manual")
    planned = {"digest": "d1", "approved": False, "plan": [DROP], "plan_count": 1}
    kept.finish(job(kept, "retain-dry-run"), **told(**planned))
    assert "millstream.dev/approve=d1" in kept.becomes(POLICY, "keep", "AwaitingApproval")
    kept.annotate(POLICY, "keep", "millstream.dev/approve=d0")
    assert "is 'd1'" in kept.becomes(POLICY, "keep", "ApprovalRefused")
    eventually(lambda: kept.events("ApprovalRefused", "keep"), "an event")
    assert kept.list("job", "millstream.dev/role=retain") == []
    kept.annotate(POLICY, "keep", "millstream.dev/approve=d1")
    running = job(kept)
    assert env(kept, running) == '{"approved":"d1"}'
    kept.finish(running, **told("1 partition dropped"))
    kept.becomes(POLICY, "keep", "Scheduled")
    assert kept.status(POLICY, "keep")["approved"] == "d1"
    assert len(kept.list("job", "millstream.dev/role=retain")) == 1


def test_bad_ends_blocks_and_a_warehouse_that_will_not_do(kept: Cluster) -> None:
    kept.annotate(POLICY, "keep", "millstream.dev/run=one")
    bad = table(outcome="failed", verify_failures=1, message="p2024_01: 10 rows archived, 11 in the table")
    kept.finish(job(kept), 65, **told("1 of 1 tables failed", tables=[bad], plan=[HELD], blocked=1))
    assert "p2024_01: 10 rows" in kept.becomes(POLICY, "keep", "VerificationFailed", "Archived")
    assert kept.condition(POLICY, "keep")[:2] == ("False", "VerificationFailed")
    assert "hold case7" in kept.condition(POLICY, "keep", "Blocked")[2]
    eventually(lambda: kept.events("VerificationFailed", "keep"), "an event")
    assert len(kept.list("job", "millstream.dev/role=retain")) == 1  # no second try of what would end the same
    kept.apply(manifest("Warehouse", "file", warehouse_spec(type="duckdb")))
    kept.policy(warehouseRef={"name": "file"})
    assert "type 'duckdb'" in kept.becomes(POLICY, "keep", "UnsupportedWarehouse", "Stalled")
    cronjob = kept.status(POLICY, "keep")["cronJob"]
    eventually(lambda: kept.get("cronjob", cronjob)["spec"]["suspend"] is True, "the schedule to stop")


def test_a_new_hold_ends_the_run_and_plans_again(kept: Cluster) -> None:
    kept.annotate(POLICY, "keep", "millstream.dev/run=one")
    running = job(kept)
    kept.pod_of(running)
    kept.policy(archive=ARCHIVE, holds=[{"name": "case7", "table": "raw.flights"}])
    kept.becomes(POLICY, "keep", "Planning")
    kept.plane.kubectl.wait("job", running, "delete", kept.namespace)
    kept.finish(job(kept, "retain-dry-run"), **told())
    kept.becomes(POLICY, "keep", "Scheduled")
    eventually(lambda: kept.events("SpecChanged", "keep"), "an event")


def test_a_restore(kept: Cluster) -> None:
    back = {"table": "raw.flights", "from": "2024-01-01", "to": "2024-02-01"}
    spec = {"policyRef": {"name": "keep"}, "trigger": "restore", "restore": back}
    kept.apply(manifest("PipelineRun", "back", spec))
    running = kept.phase("back", "Running")["job"]
    assert env(kept, running) == '{"restore":{"table":"raw.flights","from":"2024-01-01","to":"2024-02-01"}}'
    kept.finish(running, message="1 partition is back", totals=StreamReport(name="", read=120, loaded=120))
    assert kept.phase("back", "Succeeded")["rowsLoaded"] == 120
    eventually(lambda: kept.status(POLICY, "keep").get("lastRestore", {}).get("name") == "back", "the policy to say so")
    eventually(lambda: kept.events("RestoreSucceeded", "keep"), "an event")
    kept.delete(POLICY, "keep")
    kept.none_left("pipelinerun")


def test_what_git_says_and_what_is_there_do_not_differ(kept: Cluster) -> None:
    """After the API server has defaulted and the operator has written: no drift for kubectl, Helm and Argo CD."""
    kubectl, where = kept.plane.kubectl, f"--namespace={kept.namespace}"
    wanted = json.dumps(manifest("RetentionPolicy", "keep", retention_spec(archive=ARCHIVE, approval="manual")))
    kubectl(
        "apply",
        "-f",
        "-",
        where,
        "--server-side",
        "--field-manager=argocd-controller",
        "--force-conflicts",
        stdin=wanted,
    )
    planned = {"digest": "d1", "approved": False, "plan": [DROP], "plan_count": 1}
    kept.finish(job(kept, "retain-dry-run"), **told(**planned))
    kept.becomes(POLICY, "keep", "AwaitingApproval")
    kubectl("annotate", "rp/keep", "millstream.dev/approve=d1", where)
    kept.finish(job(kept), **told("1 partition dropped"))
    kept.becomes(POLICY, "keep", "Scheduled")
    assert kubectl("diff", "-f", "-", where, "--server-side", "--field-manager=argocd-controller", stdin=wanted) == ""
    kubectl("apply", "-f", "-", where, "--server-side", "--field-manager=argocd-controller", stdin=wanted)
    live = kept.get(POLICY, "keep")
    assert live["metadata"]["annotations"]["millstream.dev/approve"] == "d1"  # a sync takes no approval back
    assert live["metadata"]["generation"] == 2
    owned = [item for item in live["metadata"]["managedFields"] if "f:spec" in item["fieldsV1"]]
    assert {item["manager"] for item in owned} == {"argocd-controller", "kubectl"}


def test_a_namespace_goes_while_the_operator_is_away(kept: Cluster) -> None:
    """With a run under way, a restore that waits for it, and nobody to answer: nothing holds the namespace."""
    kept.annotate(POLICY, "keep", "millstream.dev/run=one")
    kept.pod_of(job(kept))
    back = {"table": "raw.flights", "from": "2024-01-01", "to": "2024-02-01"}
    kept.apply(manifest("PipelineRun", "back", {"policyRef": {"name": "keep"}, "trigger": "restore", "restore": back}))
    kept.phase("back", "Queued")
    assert kept.processes[0].end() == 0
    finalizers = [kept.get(*of)["metadata"].get("finalizers") for of in ((POLICY, "keep"), ("pipelinerun", "back"))]
    assert finalizers == [None, None]
    kept.plane.kubectl("delete", "namespace", kept.namespace, "--timeout=60s")


def test_a_warehouse_that_goes_stops_the_schedule_and_comes_back(kept: Cluster) -> None:
    cronjob = kept.status(POLICY, "keep")["cronJob"]
    kept.delete("warehouse", "dw")
    assert "'dw': not found in this namespace" in kept.becomes(POLICY, "keep", "WarehouseNotFound")
    eventually(lambda: kept.get("cronjob", cronjob)["spec"]["suspend"] is True, "the schedule to stop")
    kept.apply(manifest("Warehouse", "dw", warehouse_spec()))
    kept.answer_probe("warehouse", "dw")
    eventually(lambda: kept.get("cronjob", cronjob)["spec"]["suspend"] is False, "the schedule to go on")
