"""Pipeline: schedule, gates, adoption, annotation, history, totals."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api.manifests import body, pipeline_spec, ready, run_spec, scheduled, source_spec, stream, warehouse_spec
from millstream_operator.reconcile import pipeline, plans
from millstream_operator.reconcile.observed import Context, JobFacts, PipelineView, PlanFacts
from millstream_operator.reconcile.outcome import Outcome

Body = dict[str, Any]
SOURCE = body("DataSource", "files", source_spec(), status=ready())
WAREHOUSE = body("Warehouse", "dw", warehouse_spec(), status=ready(secretVersion="7"))


def view(spec: Body | None = None, **more: Any) -> PipelineView:
    meta = more.pop("meta", {})
    found = body("Pipeline", "flights", spec or scheduled(), status=more.pop("status", None), **meta)
    return PipelineView(found, **({"source": SOURCE, "warehouse": WAREHOUSE} | more))


def conditions(outcome: Outcome) -> dict[str, tuple[str, str]]:
    assert outcome.status is not None
    return {item["type"]: (item["status"], item["reason"]) for item in outcome.status["conditions"]}


def message(outcome: Outcome, kind: str = "Ready") -> str:
    assert outcome.status is not None
    return next(item["message"] for item in outcome.status["conditions"] if item["type"] == kind)


def kinds(outcome: Outcome) -> list[str]:
    return [item["kind"] for item in outcome.apply]


def live_cronjob(outcome: Outcome) -> Body:
    return next(item for item in outcome.apply if item["kind"] == "CronJob")


def run(name: str, phase: str | None = None, minute: int = 0, **more: Any) -> Body:
    status: Body = {"phase": phase, **more.pop("status", {})} if phase else {}
    if phase not in (None, "Running", "Queued"):
        status["finishedAt"] = f"2026-03-01T11:{minute:02}:00Z"
    meta = {"ownerReferences": [{"kind": "Pipeline", "uid": "uid-flights"}]} | more.pop("meta", {})
    created = f"2026-03-01T10:{minute:02}:00Z"
    return body("PipelineRun", name, run_spec(**more), status=status, **{"creationTimestamp": created, **meta})


def job(name: str, **more: Any) -> JobFacts:
    values = {"uid": f"uid-{name}", "namespace": "shop", "owner_uid": "uid-flights", "run": name, "scheduled": True}
    return JobFacts(name, **(values | more))


def test_schedule_becomes_a_cronjob(ctx: Context) -> None:
    spec = scheduled(pod={"cpu": "2"}, retries={"limit": 5}, timeoutSeconds=900)
    spec["schedule"] |= {"timeZone": "America/New_York", "jitterSeconds": 30, "concurrencyPolicy": "Replace"}
    outcome = pipeline.reconcile(view(spec), ctx)
    assert kinds(outcome) == ["ConfigMap", "CronJob"]
    plan, cron = outcome.apply
    template = cron["spec"].pop("jobTemplate")
    assert cron["spec"] == {
        "schedule": "*/15 * * * *",
        "timeZone": "America/New_York",
        "concurrencyPolicy": "Replace",
        "startingDeadlineSeconds": 600,
        "suspend": False,
        "successfulJobsHistoryLimit": 53,
        "failedJobsHistoryLimit": 53,
    }
    assert template["metadata"]["annotations"]["millstream.dev/plan"] == plan["metadata"]["name"]
    assert (template["spec"]["backoffLimit"], template["spec"]["activeDeadlineSeconds"]) == (5, 900)
    pod = template["spec"]["template"]["spec"]
    env = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    assert env["MILLSTREAM_JITTER_SECONDS"] == "30"
    assert {volume["name"] for volume in pod["volumes"]} == {"plan", "tmp", "secret-warehouse"}
    assert conditions(outcome) == {
        "Ready": ("True", "Scheduled"),
        "Reconciling": ("False", "Scheduled"),
        "Stalled": ("False", "Scheduled"),
    }
    assert message(outcome) == "runs at */15 * * * * (America/New_York)"


def test_without_schedule_nothing_is_made(ctx: Context) -> None:
    outcome = pipeline.reconcile(view(pipeline_spec()), ctx)
    assert outcome.apply == ()
    assert conditions(outcome)["Ready"] == ("True", "OnDemand")


def test_changing_the_schedule_keeps_the_plan(ctx: Context) -> None:
    first = pipeline.reconcile(view(), ctx).apply[0]
    spec = scheduled(history={"successful": 9}, suspend=True)
    spec["schedule"]["cron"] = "@daily"
    assert pipeline.reconcile(view(spec), ctx).apply[0] == first


@pytest.mark.parametrize(
    ("around", "reason", "words"),
    [
        ({"source": None}, "SourceNotFound", "DataSource 'files': not found"),
        ({"warehouse": None}, "WarehouseNotFound", "Warehouse 'dw': not found"),
        (
            {"source": body("DataSource", "files", source_spec())},
            "SourceNotReady",
            "DataSource 'files': it is being probed",
        ),
        (
            {"source": body("DataSource", "files", source_spec(), status=ready(1), generation=2)},
            "SourceNotReady",
            "it is being probed",
        ),
        (
            {"warehouse": body("Warehouse", "dw", warehouse_spec(), status=ready(1, "False", "Unreachable"))},
            "WarehouseNotReady",
            "Unreachable",
        ),
        ({"source": body("DataSource", "files", {"type": 7}, status=ready())}, "SourceNotReady", "not valid"),
    ],
)
def test_waits_for_what_is_not_ready(ctx: Context, around: Body, reason: str, words: str) -> None:
    outcome = pipeline.reconcile(view(**around), ctx)
    assert outcome.apply == ()
    assert conditions(outcome)["Ready"] == ("False", reason)
    assert conditions(outcome)["Stalled"][0] == "False"
    assert words in message(outcome)
    assert [note.type for note in outcome.notes] == ["Normal"]


def test_bad_days_of_the_source_do_not_stop_the_schedule(ctx: Context) -> None:
    cron = live_cronjob(pipeline.reconcile(view(), ctx))
    down = body("DataSource", "files", source_spec(), status=ready(1, "False", "Unreachable"))
    outcome = pipeline.reconcile(view(source=down, cronjob=cron), ctx)
    assert (kinds(outcome), outcome.delete) == (["ConfigMap", "CronJob"], ())
    assert pipeline.reconcile(view(source=None, cronjob=cron), ctx).delete == ()


def test_suspend_reaches_the_cronjob_even_without_a_source(ctx: Context) -> None:
    cron = live_cronjob(pipeline.reconcile(view(), ctx))
    spec = scheduled(suspend=True)
    assert live_cronjob(pipeline.reconcile(view(spec, cronjob=cron), ctx))["spec"]["suspend"] is True
    outcome = pipeline.reconcile(view(spec, cronjob=cron, source=None), ctx)
    assert live_cronjob(outcome)["spec"] == cron["spec"] | {"suspend": True}
    assert conditions(pipeline.reconcile(view(spec), ctx))["Ready"] == ("True", "Suspended")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (scheduled(streams=[stream(writeDisposition="merge")]), "spec.streams[0]"),
        (pipeline_spec(schedule={"cron": "61 * * * *"}), "spec.schedule.cron: '61 * * * *' is no cron expression"),
        (pipeline_spec(schedule={"cron": "@daily", "timeZone": "Mars/Base"}), "'Mars/Base' is no IANA time zone"),
        (pipeline_spec(streams=[]), "spec.streams"),
    ],
)
def test_invalid_spec_stalls_and_leaves_the_schedule(ctx: Context, spec: Body, words: str) -> None:
    cron = live_cronjob(pipeline.reconcile(view(), ctx))
    outcome = pipeline.reconcile(view(spec, cronjob=cron), ctx)
    assert conditions(outcome)["Stalled"] == ("True", "InvalidSpec")
    assert words in message(outcome)
    assert (outcome.apply, outcome.delete, outcome.requeue_s) == ((), (), None)


def test_scheduled_jobs_are_adopted_once(ctx: Context) -> None:
    outcome = pipeline.reconcile(view(jobs=(job("flights-1"),)), ctx)
    made, mark = outcome.apply[2:]
    assert (made["kind"], made["metadata"]["name"], made["spec"]["trigger"]) == ("PipelineRun", "flights-1", "schedule")
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-flights"
    assert mark["metadata"]["annotations"] == {"millstream.dev/adopted": "flights-1"}
    assert outcome.status is not None
    assert outcome.status["activeRuns"] == ["flights-1"]
    adopted = (job("flights-1", adopted=True),)
    known = (run("flights-1", "Running", trigger="schedule"),)
    assert kinds(pipeline.reconcile(view(jobs=adopted, runs=known), ctx)) == ["ConfigMap", "CronJob"]


def test_job_of_a_deleted_run_is_deleted(ctx: Context) -> None:
    outcome = pipeline.reconcile(view(jobs=(job("flights-1", adopted=True),)), ctx)
    assert [(ref.kind, ref.name, ref.uid) for ref in outcome.delete] == [("Job", "flights-1", "uid-flights-1")]


def test_job_of_an_earlier_pipeline_of_that_name_is_not_ours(ctx: Context) -> None:
    outcome = pipeline.reconcile(view(jobs=(job("flights-1", owner_uid="uid-before"),)), ctx)
    assert kinds(outcome) == ["ConfigMap", "CronJob"]


def test_annotation_makes_one_run(ctx: Context) -> None:
    meta = {"annotations": {"millstream.dev/run": "today"}}
    first = pipeline.reconcile(view(pipeline_spec(), meta=meta), ctx)
    again = pipeline.reconcile(view(pipeline_spec(), meta=meta), ctx)
    assert kinds(first) == ["PipelineRun"]
    assert first.apply == again.apply
    assert first.apply[0]["spec"]["trigger"] == "manual"
    assert first.status is not None
    assert first.status["lastTrigger"] == "today"
    done = pipeline.reconcile(view(pipeline_spec(), meta=meta, status=first.status), ctx)
    assert done.apply == ()
    other = {"annotations": {"millstream.dev/run": "tomorrow"}}
    assert pipeline.reconcile(view(pipeline_spec(), meta=other), ctx).apply[0] != first.apply[0]


def test_finished_runs_are_counted_once(ctx: Context) -> None:
    result = {"rowsLoaded": 90, "rowsRead": 100, "checksRun": 10, "checksPassed": 9, "guarantee": "exactly-once"}
    runs = (run("a", "Succeeded", 1, status=result), run("b", "Succeeded", 2, status=result | {"rowsLoaded": 5}))
    first = pipeline.reconcile(view(runs=runs), ctx)
    assert first.status is not None
    assert first.status["rowsLoadedTotal"] == 95
    assert first.status["lastRun"]["name"] == "b"
    assert first.status["quality"] == "9/10"
    assert first.status["guarantee"] == "exactly-once"
    assert [facts.rows["loaded"] for facts in first.counted] == [90, 5]
    assert [note.reason for note in first.notes] == ["Scheduled", "RunSucceeded", "RunSucceeded"]
    again = pipeline.reconcile(view(runs=runs, status=first.status), ctx)
    assert again.status == first.status
    assert (again.counted, again.notes) == ((), ())
    gone = pipeline.reconcile(view(status=first.status), ctx)
    assert gone.status is not None
    assert (gone.status["rowsLoadedTotal"], gone.status["lastRun"]["name"]) == (95, "b")


def test_history_keeps_the_newest_and_only_deletes_what_is_counted(ctx: Context) -> None:
    phases = ["Succeeded", "Failed", "Succeeded", "ChecksFailed", "Succeeded", "Cancelled"]
    runs = tuple(run(f"r{number}", phase, number) for number, phase in enumerate(phases))
    jobs = (job("r0", adopted=True, state="succeeded"),)
    spec = scheduled(history={"successful": 1, "failed": 1})
    first = pipeline.reconcile(view(spec, runs=runs, jobs=jobs), ctx)
    assert first.delete == ()
    second = pipeline.reconcile(view(spec, runs=runs, jobs=jobs, status=first.status), ctx)
    assert [(ref.kind, ref.name) for ref in second.delete] == [
        ("PipelineRun", "r2"),
        ("PipelineRun", "r0"),
        ("Job", "r0"),
        ("PipelineRun", "r3"),
        ("PipelineRun", "r1"),
    ]


def test_removing_the_schedule_suspends_then_deletes(ctx: Context) -> None:
    cron = live_cronjob(pipeline.reconcile(view(), ctx))
    active = view(
        pipeline_spec(),
        cronjob=cron,
        jobs=(job("flights-1", adopted=True),),
        runs=(run("flights-1", "Running", trigger="schedule"),),
    )
    outcome = pipeline.reconcile(active, ctx)
    assert (live_cronjob(outcome)["spec"]["suspend"], outcome.delete) == (True, ())
    idle = pipeline.reconcile(view(pipeline_spec(), cronjob=cron), ctx)
    assert [ref.kind for ref in idle.delete] == ["CronJob"]


def test_wrong_configuration_stalls_until_it_is_changed(ctx: Context) -> None:
    refused = {
        "configuration": _configuration(ctx),
        **ready(1, "False", "InvalidConfiguration"),
    }
    bad = (run("a", "Failed", 1, status=refused),)
    outcome = pipeline.reconcile(view(runs=bad), ctx)
    assert conditions(outcome)["Stalled"] == ("True", "InvalidConfiguration")
    assert conditions(outcome)["Ready"] == ("False", "InvalidConfiguration")
    rotated = body("Warehouse", "dw", warehouse_spec(), status=ready(secretVersion="8"))
    assert conditions(pipeline.reconcile(view(runs=bad, warehouse=rotated), ctx))["Ready"] == ("True", "Scheduled")
    mended = scheduled(streams=[stream(target="raw.other")])
    assert conditions(pipeline.reconcile(view(mended, runs=bad), ctx))["Stalled"][0] == "False"
    better = (*bad, run("b", "Succeeded", 2))
    assert conditions(pipeline.reconcile(view(runs=better), ctx))["Ready"] == ("True", "Scheduled")


def _configuration(ctx: Context) -> str:
    from millstream_api.pipeline import PipelineSpec
    from millstream_operator.objects.naming import owner_of

    spec = PipelineSpec.model_validate(scheduled())
    plan = plans.run_plan(owner_of(view().body), spec, SOURCE, WAREHOUSE)
    return plans.configuration(plan, SOURCE, WAREHOUSE)


def test_failed_run_shows_and_refused_data_fail_passing_only(ctx: Context) -> None:
    failed = run("a", "Failed", 1, status=ready(1, "False", "RunFailed"))
    outcome = pipeline.reconcile(view(runs=(failed,)), ctx)
    assert conditions(outcome)["Ready"] == ("False", "RunFailed")
    check = {"name": "not_null(a)", "severity": "error", "outcome": "failed", "failedRows": 3}
    refused = run("b", "ChecksFailed", 2, status={"checksRun": 4, "checksPassed": 3, "checks": [check]})
    outcome = pipeline.reconcile(view(runs=(failed, refused)), ctx)
    assert conditions(outcome)["Ready"] == ("True", "Scheduled")
    assert conditions(outcome)["Passing"] == ("False", "ChecksFailed")
    assert message(outcome, "Passing") == "3 of 4 checks passed in run b; failed: not_null(a)"
    assert outcome.counted[1].failed_checks == {"error": 1}


@pytest.mark.parametrize(
    ("newest", "expected", "again_s"),
    [
        ("2026-03-01T11:00:00Z", ("True", "WithinLimit"), 3600),
        ("2026-03-01T09:00:00Z", ("False", "Stale"), None),
        (None, ("Unknown", "NotChecked"), None),
    ],
)
def test_freshness(ctx: Context, newest: str | None, expected: tuple[str, str], again_s: float | None) -> None:
    spec = scheduled(freshness={"field": "time_hour", "maxAge": "1h60m"})
    outcome = pipeline.reconcile(view(spec, runs=(run("a", "Succeeded", 1, status={"freshness": newest}),)), ctx)
    assert conditions(outcome)["Fresh"] == expected
    assert outcome.requeue_s == again_s
    assert ("Stale" in [note.reason for note in outcome.notes]) == (expected[1] == "Stale")
    without = pipeline.reconcile(view(status=outcome.status), ctx)
    assert "Fresh" not in conditions(without)


def test_unused_plans_are_deleted(ctx: Context) -> None:
    first = pipeline.reconcile(view(), ctx)
    names = [first.apply[0]["metadata"]["name"], "of-a-job", "unused"]
    old = tuple(PlanFacts(name, "2026-01-01T00:00:00Z") for name in names)
    jobs = (job("flights-1", adopted=True, plan="of-a-job"),)
    outcome = pipeline.reconcile(view(plans=old, jobs=jobs, runs=(run("flights-1", "Running"),)), ctx)
    assert [ref.name for ref in outcome.delete] == ["unused"]


def test_second_look_changes_nothing(ctx: Context) -> None:
    first = pipeline.reconcile(view(), ctx)
    later = Context(ctx.now + timedelta(days=1), ctx.runner)
    again = pipeline.reconcile(replace(view(status=first.status), cronjob=live_cronjob(first)), later)
    assert (again.apply, again.status, again.notes) == (first.apply, first.status, ())
