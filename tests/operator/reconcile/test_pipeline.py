"""Pipeline: schedule, gates, adoption, annotation, plans."""

from __future__ import annotations

from datetime import timedelta

import pytest

from api.manifests import Body, body, pipeline_spec, ready, scheduled, source_spec, stream, warehouse_spec
from api.pipelines import conditions, job, kinds, live_cronjob, message, run, view
from millstream_operator.reconcile import pipeline
from millstream_operator.reconcile.observed import Context, PlanFacts


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
    fired = pipeline.reconcile(view(spec, cronjob=cron, jobs=(job("flights-1"),)), ctx)
    assert kinds(fired) == ["PipelineRun", "Job"]


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


def test_unused_plans_are_deleted(ctx: Context) -> None:
    first = pipeline.reconcile(view(), ctx)
    names = [first.apply[0]["metadata"]["name"], "of-a-job", "unused"]
    old = tuple(PlanFacts(name, "2026-01-01T00:00:00Z") for name in names)
    jobs = (job("flights-1", adopted=True, plan="of-a-job"),)
    outcome = pipeline.reconcile(view(plans=old, jobs=jobs, runs=(run("flights-1", "Running"),)), ctx)
    assert [ref.name for ref in outcome.delete] == ["unused"]


def test_third_look_changes_nothing(ctx: Context) -> None:
    first = pipeline.reconcile(view(), ctx)
    second = pipeline.reconcile(view(status=first.status, cronjob=live_cronjob(first)), ctx)
    later = Context(ctx.now + timedelta(minutes=9), ctx.runner)
    third = pipeline.reconcile(view(status=second.status, cronjob=live_cronjob(second)), later)
    assert (third.apply, third.status, third.notes) == (first.apply, second.status, ())


def test_shards_reach_the_cronjob_and_the_pods(ctx: Context) -> None:
    cron = live_cronjob(pipeline.reconcile(view(scheduled(extract={"shards": 3})), ctx))
    spec = cron["spec"]["jobTemplate"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["backoffLimitPerIndex"]) == ("Indexed", 3, 3)
    env = {item["name"]: item.get("value") for item in spec["template"]["spec"]["containers"][0]["env"]}
    assert env["MILLSTREAM_SHARDS"] == "3"
    whole = live_cronjob(pipeline.reconcile(view(), ctx))["spec"]["jobTemplate"]["spec"]
    assert "completionMode" not in whole
    assert "MILLSTREAM_SHARDS" not in str(whole)
