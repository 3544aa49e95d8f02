"""DataSource and Warehouse: when a probe starts, what its end means, when it is repeated."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api.manifests import body, source_spec, warehouse_spec
from millstream_api.datasource import ColumnStatus, StreamStatus
from millstream_api.run_report import RunReport
from millstream_operator.reconcile import datasource, warehouse
from millstream_operator.reconcile.observed import Context, JobFacts, PlanFacts, ProbeView, SecretFacts, rfc3339
from millstream_operator.reconcile.outcome import Outcome

SECRET = SecretFacts("dw-login", "7")


def conditions(outcome: Outcome) -> dict[str, tuple[str, str]]:
    assert outcome.status is not None
    return {item["type"]: (item["status"], item["reason"]) for item in outcome.status["conditions"]}


def message(outcome: Outcome) -> str:
    assert outcome.status is not None
    return next(item["message"] for item in outcome.status["conditions"] if item["type"] == "Ready")


def source(**more: Any) -> dict[str, Any]:
    return body("DataSource", "files", source_spec(), **more)


def started(view: ProbeView, ctx: Context) -> tuple[Outcome, JobFacts]:
    """Return the outcome that starts a probe, and its Job as it then is."""
    outcome = datasource.reconcile(view, ctx)
    made = outcome.apply[1]
    return outcome, JobFacts(made["metadata"]["name"], uid="job-1", namespace="shop", plan="p")


def ended(job: JobFacts, ctx: Context, code: int, **report: Any) -> JobFacts:
    state = "succeeded" if code == 0 else "failed"
    told = RunReport(exit_code=code, reason="X", **report)
    return replace(job, state=state, exit_code=code, report=told, finished=rfc3339(ctx.now))


def after(outcome: Outcome, **more: Any) -> dict[str, Any]:
    return source(status=outcome.status, **more)


def test_new_source_is_probed(ctx: Context) -> None:
    outcome, _ = started(ProbeView(source()), ctx)
    plan, job = outcome.apply
    assert (plan["kind"], job["kind"]) == ("ConfigMap", "Job")
    assert plan["immutable"] is True
    assert '"action":"probe-source"' in plan["data"]["plan.json"]
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["args"] == ["probe"]
    assert pod["volumes"][0]["configMap"]["name"] == plan["metadata"]["name"]
    assert job["metadata"]["ownerReferences"][0]["uid"] == "uid-files"
    assert conditions(outcome) == {
        "Ready": ("Unknown", "Probing"),
        "Reconciling": ("True", "Probing"),
        "Stalled": ("False", "Probing"),
    }


def test_crash_before_the_status_leads_to_the_same_job(ctx: Context) -> None:
    first, job = started(ProbeView(source()), ctx)
    later = Context(ctx.now + timedelta(seconds=40), ctx.runner)
    assert started(ProbeView(source()), later)[1].name == job.name
    again = datasource.reconcile(ProbeView(source(), (job,)), later)
    assert again.apply == ()
    assert conditions(again) == conditions(first)


def test_answer_fills_the_status(ctx: Context) -> None:
    _, job = started(ProbeView(source()), ctx)
    columns = [ColumnStatus(name=f"c{number}", type="text") for number in range(150)]
    streams = [StreamStatus(name=f"s{number}", columns=columns) for number in range(60)]
    done = ended(job, ctx, 0, discovered=streams, discovered_count=412, message="412 streams")
    outcome = datasource.reconcile(ProbeView(source(), (done,)), ctx)
    assert outcome.status is not None
    assert conditions(outcome) == {
        "Reachable": ("True", "ProbeSucceeded"),
        "Ready": ("True", "ProbeSucceeded"),
        "Reconciling": ("False", "ProbeSucceeded"),
        "Stalled": ("False", "ProbeSucceeded"),
    }
    assert outcome.status["streamCount"] == 412
    assert len(outcome.status["streams"]) == 50
    assert len(outcome.status["streams"][0]["columns"]) == 100
    assert [ref.name for ref in outcome.delete] == [job.name]
    assert outcome.requeue_s == 3600
    assert [note.reason for note in outcome.notes] == ["ProbeSucceeded"]


def test_nothing_is_written_while_nothing_changes(ctx: Context) -> None:
    _, job = started(ProbeView(source()), ctx)
    done = datasource.reconcile(ProbeView(source(), (ended(job, ctx, 0),)), ctx)
    later = Context(ctx.now + timedelta(minutes=30), ctx.runner)
    outcome = datasource.reconcile(ProbeView(after(done)), later)
    assert (outcome.apply, outcome.delete, outcome.notes) == ((), (), ())
    assert outcome.status == done.status
    assert outcome.requeue_s == 1800


def test_interval_over_probes_again_without_losing_ready(ctx: Context) -> None:
    _, job = started(ProbeView(source()), ctx)
    done = datasource.reconcile(ProbeView(source(), (ended(job, ctx, 0),)), ctx)
    later = Context(ctx.now + timedelta(hours=1), ctx.runner)
    outcome = datasource.reconcile(ProbeView(after(done)), later)
    assert outcome.apply[1]["metadata"]["name"] != job.name
    assert conditions(outcome)["Ready"] == ("True", "ProbeSucceeded")
    assert outcome.status == done.status


@pytest.mark.parametrize(
    ("code", "ready", "stalled", "again_s"),
    [
        (75, ("False", "Unreachable"), "False", 30),
        (78, ("False", "InvalidConfiguration"), "True", None),
        (1, ("False", "ProbeFailed"), "False", 30),
    ],
)
def test_bad_ends(ctx: Context, code: int, ready: tuple[str, str], stalled: str, again_s: float | None) -> None:
    _, job = started(ProbeView(source()), ctx)
    done = ended(job, ctx, code, message="password of Secret 'x' was refused")
    outcome = datasource.reconcile(ProbeView(source(), (done,)), ctx)
    assert conditions(outcome)["Ready"] == ready
    assert conditions(outcome)["Stalled"][0] == stalled
    assert "password of Secret 'x' was refused" in message(outcome)
    assert outcome.requeue_s == again_s
    assert outcome.notes[0].type == "Warning"


def test_failures_are_repeated_ever_more_slowly(ctx: Context) -> None:
    view, waits, now = ProbeView(source()), [], ctx.now
    for _ in range(8):
        at = Context(now, ctx.runner)
        _, job = started(view, at)
        outcome = datasource.reconcile(replace(view, jobs=(ended(job, at, 75),)), at)
        assert outcome.requeue_s is not None
        waits.append(outcome.requeue_s)
        view, now = ProbeView(after(outcome)), now + timedelta(seconds=outcome.requeue_s)
    assert waits == [30, 60, 120, 240, 480, 900, 900, 900]


def test_stalled_is_not_repeated_until_something_changes(ctx: Context) -> None:
    _, job = started(ProbeView(source()), ctx)
    stalled = datasource.reconcile(ProbeView(source(), (ended(job, ctx, 78),)), ctx)
    later = Context(ctx.now + timedelta(days=2), ctx.runner)
    assert datasource.reconcile(ProbeView(after(stalled)), later).apply == ()
    changed = after(stalled, generation=2)
    changed["spec"] = source_spec(config={"url": "s3://landing/other"})
    outcome = datasource.reconcile(ProbeView(changed), later)
    assert len(outcome.apply) == 2
    assert conditions(outcome)["Stalled"][0] == "False"
    asked = after(stalled, annotations={"millstream.dev/probe": "now"})
    assert len(datasource.reconcile(ProbeView(asked), later).apply) == 2


def test_rotated_secret_is_probed_and_ready_holds_meanwhile(ctx: Context) -> None:
    dw = body("Warehouse", "dw", warehouse_spec())
    first = warehouse.reconcile(ProbeView(dw, secret=SECRET), ctx)
    job = JobFacts(first.apply[1]["metadata"]["name"], namespace="shop")
    done = warehouse.reconcile(
        ProbeView(dw, (ended(job, ctx, 0, server_version="17.2", metadata_version=3),), secret=SECRET), ctx
    )
    assert done.status is not None
    assert (done.status["serverVersion"], done.status["metadataVersion"], done.status["secretVersion"]) == (
        "17.2",
        3,
        "7",
    )
    known = body("Warehouse", "dw", warehouse_spec(), status=done.status)
    outcome = warehouse.reconcile(ProbeView(known, secret=SecretFacts("dw-login", "8")), ctx)
    assert len(outcome.apply) == 2
    assert conditions(outcome)["Ready"][0] == "True"
    mounts = outcome.apply[1]["spec"]["template"]["spec"]["volumes"]
    assert {"name": "secret-warehouse", "secret": {"secretName": "dw-login", "defaultMode": 0o440}} in mounts


def test_missing_secret_is_named_and_waited_for(ctx: Context) -> None:
    view = ProbeView(body("Warehouse", "dw", warehouse_spec()), secret=SecretFacts("dw-login", None))
    outcome = warehouse.reconcile(view, ctx)
    assert outcome.apply == ()
    assert conditions(outcome)["Ready"] == ("False", "SecretNotFound")
    assert "Secret 'dw-login'" in message(outcome)
    assert outcome.requeue_s == 30


def test_invalid_spec_stalls(ctx: Context) -> None:
    wrong = body("DataSource", "files", source_spec(probeIntervalSeconds="often"))
    outcome = datasource.reconcile(ProbeView(wrong), ctx)
    assert conditions(outcome)["Stalled"] == ("True", "InvalidSpec")
    assert "spec.probeIntervalSeconds" in message(outcome)
    assert "'often'" in message(outcome)
    assert (outcome.apply, outcome.requeue_s) == ((), None)


def test_pod_that_cannot_start_is_told(ctx: Context) -> None:
    _, job = started(ProbeView(source()), ctx)
    stuck = replace(job, trouble="its pod waits: ImagePullBackOff")
    assert "ImagePullBackOff" in message(datasource.reconcile(ProbeView(source(), (stuck,)), ctx))


def test_death_without_a_word_is_told(ctx: Context) -> None:
    _, job = started(ProbeView(source()), ctx)
    dead = replace(job, state="failed", exit_code=137, trouble="more memory than its limit", finished=rfc3339(ctx.now))
    outcome = datasource.reconcile(ProbeView(source(), (dead,)), ctx)
    assert conditions(outcome)["Ready"] == ("False", "ProbeFailed")
    assert "more memory" in message(outcome)


def test_leftovers_are_deleted_but_not_young_plans(ctx: Context) -> None:
    _, job = started(ProbeView(source()), ctx)
    old = JobFacts("probe-files-0000000000", uid="old", namespace="shop", plan="plan-of-old-job")
    plans = (
        PlanFacts("plan-of-old-job", "2026-01-01T00:00:00Z"),
        PlanFacts("plan-old", "2026-01-01T00:00:00Z"),
        PlanFacts("plan-young", "2026-03-01T11:59:00Z"),
    )
    outcome = datasource.reconcile(ProbeView(source(), (job, old), plans), ctx)
    assert [(ref.kind, ref.name) for ref in outcome.delete] == [("Job", old.name), ("ConfigMap", "plan-old")]
