"""PipelineRun: what keeps a run waiting, what starts it, how it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from api.manifests import body, pipeline_spec, ready, run_spec, scheduled, source_spec, warehouse_spec
from millstream_api.run_report import CheckResult, RunReport, StreamReport
from millstream_operator.reconcile import pipelinerun
from millstream_operator.reconcile.observed import Context, JobFacts, PipelineView, RunView
from millstream_operator.reconcile.outcome import Outcome

Body = dict[str, Any]
SOURCE = body("DataSource", "files", source_spec(), status=ready())
WAREHOUSE = body("Warehouse", "dw", warehouse_spec(), status=ready())
OWNED = {"ownerReferences": [{"kind": "Pipeline", "uid": "uid-flights"}]}


def run(name: str = "once", minute: int = 5, phase: str | None = None, **more: Any) -> Body:
    status = {"phase": phase} if phase else None
    meta = {"creationTimestamp": f"2026-03-01T10:{minute:02}:00Z", **OWNED, **more.pop("meta", {})}
    return body("PipelineRun", name, run_spec(**more), status=status, **meta)


def around(spec: Body | None = None, **more: Any) -> PipelineView:
    found = body("Pipeline", "flights", spec or pipeline_spec())
    return PipelineView(found, **({"source": SOURCE, "warehouse": WAREHOUSE} | more))


def policy(name: str) -> Body:
    spec = scheduled()
    spec["schedule"]["concurrencyPolicy"] = name
    return spec


def job_of(run_body: Body, **more: Any) -> JobFacts:
    values = {"uid": "job-uid", "namespace": "shop", "run": run_body["metadata"]["name"], "plan": "p", "attempts": 1}
    values["owner_uid"] = run_body["metadata"]["uid"]
    return JobFacts(pipelinerun.job_name(run_body), **(values | more))


def ready_of(outcome: Outcome) -> tuple[str, str, str]:
    assert outcome.status is not None
    found = next(item for item in outcome.status["conditions"] if item["type"] == "Ready")
    return found["status"], found["reason"], found["message"]


def phase(outcome: Outcome) -> str | None:
    return outcome.status and outcome.status["phase"]


def test_manual_run_starts_a_job(ctx: Context) -> None:
    outcome = pipelinerun.reconcile(RunView(run(fullRefresh=True), None, around()), ctx)
    plan, job = outcome.apply
    assert (
        job["metadata"]["ownerReferences"][0] | {"uid": "uid-once", "kind": "PipelineRun"}
        == (job["metadata"]["ownerReferences"][0])
    )
    env = {item["name"]: item.get("value") for item in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["MILLSTREAM_OPTIONS"] == '{"fullRefresh": true}'
    assert "MILLSTREAM_JITTER_SECONDS" not in env
    assert plan["metadata"]["ownerReferences"][0]["kind"] == "Pipeline"
    assert phase(outcome) == "Running"
    assert outcome.status is not None
    assert (outcome.status["job"], outcome.status["plan"]) == (job["metadata"]["name"], plan["metadata"]["name"])
    again = pipelinerun.reconcile(RunView(run(fullRefresh=True), None, around()), ctx)
    assert again.apply == outcome.apply


def test_users_run_belongs_to_its_pipeline(ctx: Context) -> None:
    outcome = pipelinerun.reconcile(RunView(run(meta={"ownerReferences": []}), None, around()), ctx)
    assert outcome.apply[0]["metadata"]["ownerReferences"][0]["uid"] == "uid-flights"
    assert "spec" not in outcome.apply[0]


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (None, "PipelineNotFound"),
        (around(pipeline_spec(suspend=True)), "Suspended"),
        (around(pipeline_spec(streams=[])), "PipelineNotReady"),
        (around(source=None), "SourceNotFound"),
        (around(warehouse=body("Warehouse", "dw", warehouse_spec())), "WarehouseNotReady"),
        (around(runs=(run("other", 1, "Running"),)), "Queued"),
        (around(runs=(run("older", 1),)), "Queued"),
        (around(runs=(run("older", 1, "Cancelled"),), jobs=(job_of(run("older", 1)),)), "Queued"),
        (around(policy("Replace"), runs=(run("other", 1, "Running"),)), "Queued"),
    ],
)
def test_waits(ctx: Context, view: PipelineView | None, reason: str) -> None:
    outcome = pipelinerun.reconcile(RunView(run(), None, view), ctx)
    assert (outcome.apply, phase(outcome)) == ((), "Queued")
    assert ready_of(outcome)[:2] == ("False", reason)
    assert [note.type for note in outcome.notes] == ["Normal"]


@pytest.mark.parametrize(
    "others",
    [
        (run("younger", 9),),
        (run("older", 1, "Succeeded"),),
        (run("older", 1, cancel=True),),
        (run("older", 1, "Running", meta={"ownerReferences": [{"kind": "Pipeline", "uid": "uid-before"}]}),),
    ],
)
def test_does_not_wait_for(ctx: Context, others: tuple[Body, ...]) -> None:
    assert phase(pipelinerun.reconcile(RunView(run(), None, around(runs=others)), ctx)) == "Running"


def test_allow_lets_runs_overlap(ctx: Context) -> None:
    view = around(policy("Allow"), runs=(run("other", 1, "Running"),))
    assert phase(pipelinerun.reconcile(RunView(run(), None, view), ctx)) == "Running"


def test_unadopted_scheduled_job_counts_as_active(ctx: Context) -> None:
    active = JobFacts(
        "flights-1", owner_uid="uid-flights", run="flights-1", scheduled=True, created="2026-03-01T10:00:00Z"
    )
    assert phase(pipelinerun.reconcile(RunView(run(), None, around(jobs=(active,))), ctx)) == "Queued"


def test_replace_cancels_the_older_only(ctx: Context) -> None:
    older, newer = run("older", 1, "Running"), run("newer", 9, "Queued")
    view = around(policy("Replace"), runs=(older, newer))
    outcome = pipelinerun.reconcile(RunView(older, job_of(older), view), ctx)
    assert phase(outcome) == "Cancelled"
    assert "replaced by run newer" in ready_of(outcome)[2]
    assert [(ref.kind, ref.wait_for_pods) for ref in outcome.delete] == [("Job", True)]
    blocked = replace(view, source=None)
    assert phase(pipelinerun.reconcile(RunView(older, job_of(older), blocked), ctx)) == "Running"
    assert phase(pipelinerun.reconcile(RunView(newer, None, view), ctx)) == "Queued"


def test_cancel_deletes_the_job_and_says_so(ctx: Context) -> None:
    wanted = run(phase="Running", cancel=True)
    outcome = pipelinerun.reconcile(RunView(wanted, job_of(wanted), around()), ctx)
    assert phase(outcome) == "Cancelled"
    assert outcome.delete[0].uid == "job-uid"
    assert outcome.status is not None
    assert outcome.status["finishedAt"] == "2026-03-01T12:00:00Z"
    queued = pipelinerun.reconcile(RunView(run(cancel=True), None, around()), ctx)
    assert (phase(queued), queued.delete, queued.apply) == ("Cancelled", (), ())


def test_running_tells_of_trouble(ctx: Context) -> None:
    wanted = run(phase="Running")
    stuck = job_of(wanted, trouble="its pod waits: ImagePullBackOff", started="2026-03-01T10:06:00Z")
    outcome = pipelinerun.reconcile(RunView(wanted, stuck, around()), ctx)
    assert "ImagePullBackOff" in ready_of(outcome)[2]
    assert outcome.status is not None
    assert outcome.status["startedAt"] == "2026-03-01T10:06:00Z"


def finished(code: int, **more: Any) -> JobFacts:
    totals = StreamReport(
        name="", read=100, loaded=90, quarantined=6, duplicate=3, filtered=1, bytes_read=4096, deleted=2
    )
    check = CheckResult(name="not_null(a)", outcome="failed", failed_rows=6)
    report = RunReport(
        exit_code=code,
        reason="X",
        message="told by the runner",
        totals=totals,
        checks=[check],
        checks_run=10,
        checks_passed=9,
        freshness="2026-03-01T09:00:00Z",
        guarantee="exactly-once",
        duration_seconds=12.5,
    )
    values = {"state": "succeeded" if code == 0 else "failed", "exit_code": code, "report": report}
    return job_of(run(), **(values | {"started": "2026-03-01T10:06:00Z", "finished": "2026-03-01T10:07:00Z"} | more))


@pytest.mark.parametrize(
    ("job", "expected", "reason", "words"),
    [
        (finished(0), "Succeeded", "Succeeded", "told by the runner"),
        (finished(65), "ChecksFailed", "ChecksFailed", "told by the runner"),
        (finished(75), "Failed", "RunFailed", "told by the runner"),
        (finished(78), "Failed", "InvalidConfiguration", "told by the runner"),
        (finished(75, reason="DeadlineExceeded"), "Failed", "DeadlineExceeded", "told by the runner"),
        (finished(137, report=None, trouble="more memory than its limit"), "Failed", "RunFailed", "more memory"),
        (finished(1, report=None, message="BackoffLimitExceeded"), "Failed", "RunFailed", "BackoffLimitExceeded"),
        (finished(0, report=None), "Succeeded", "Succeeded", "the Job completed"),
    ],
)
def test_ends(ctx: Context, job: JobFacts, expected: str, reason: str, words: str) -> None:
    outcome = pipelinerun.reconcile(RunView(run(phase="Running"), job, around()), ctx)
    assert phase(outcome) == expected
    status, told, message = ready_of(outcome)
    assert (status, told) == ("True" if expected == "Succeeded" else "False", reason)
    assert words in message
    assert outcome.status is not None
    assert outcome.status["finishedAt"] == "2026-03-01T10:07:00Z"
    assert len(outcome.notes) == 1


@pytest.mark.parametrize(
    "view",
    [
        None,
        around(pipeline_spec(streams=[])),
        around(source=body("DataSource", "files", {"type": 7})),
        around(source=None, warehouse=None),
    ],
)
def test_ends_whatever_has_become_of_its_surroundings(ctx: Context, view: PipelineView | None) -> None:
    assert phase(pipelinerun.reconcile(RunView(run(phase="Running"), finished(0), view), ctx)) == "Succeeded"


def test_counts_come_from_the_report(ctx: Context) -> None:
    status = pipelinerun.reconcile(RunView(run(phase="Running"), finished(0), around()), ctx).status
    assert status is not None
    rows = [status[f"rows{stage}"] for stage in ("Read", "Loaded", "Quarantined", "Duplicate", "Filtered", "Deleted")]
    assert rows == [100, 90, 6, 3, 1, 2]
    assert (status["bytesRead"], status["durationSeconds"], status["guarantee"]) == (4096, 12.5, "exactly-once")
    assert (status["checksRun"], status["checksPassed"], status["checks"][0]["failedRows"]) == (10, 9, 6)


def test_result_that_came_before_the_cancel_counts(ctx: Context) -> None:
    outcome = pipelinerun.reconcile(RunView(run(phase="Running", cancel=True), finished(0), around()), ctx)
    assert phase(outcome) == "Succeeded"


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (RunView(run(phase="Running"), None, around()), "Failed"),
        (RunView(run("flights-1", trigger="schedule"), None, around(scheduled())), "Failed"),
        (RunView(run("flights-1", trigger="schedule"), None, around(policy("Replace"))), "Cancelled"),
    ],
)
def test_lost_job_ends_the_run(ctx: Context, view: RunView, expected: str) -> None:
    assert phase(pipelinerun.reconcile(view, ctx)) == expected


def test_finished_run_stays_as_it_is(ctx: Context) -> None:
    done = pipelinerun.reconcile(RunView(run(phase="Running"), finished(0), around()), ctx)
    known = body("PipelineRun", "once", run_spec(), status=done.status, **OWNED)
    assert pipelinerun.reconcile(RunView(known, None, None), ctx) == Outcome()
    late = body("PipelineRun", "once", run_spec(cancel=True), status=done.status, generation=2, **OWNED)
    moved = pipelinerun.reconcile(RunView(late, None, around()), ctx)
    assert phase(moved) == "Succeeded"
    assert moved.status is not None
    assert moved.status["observedGeneration"] == 2
    assert {item["observedGeneration"] for item in moved.status["conditions"]} == {2}
