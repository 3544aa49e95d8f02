"""RetentionPolicy: schedule, dry run, gates, the run annotation, what ends and what is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api.manifests import Body, body, ready, retention_spec, warehouse_spec
from api.pipelines import conditions, kinds, live_cronjob, message
from api.policies import ARCHIVE, SECRET, WAREHOUSE, as_facts, ended, env, like, made, report, view
from millstream_operator.reconcile import retentionpolicy
from millstream_operator.reconcile.observed import Context, PlanFacts, SecretFacts
from millstream_operator.reconcile.outcome import Outcome


def planned(ctx: Context, spec: Body | None = None, **around: Any) -> tuple[Body, Any]:
    """Return the status after the dry run of a new policy, and that Job."""
    dry_run = as_facts(made(retentionpolicy.reconcile(view(spec, **around), ctx)), report())
    status = retentionpolicy.reconcile(view(spec, jobs=(dry_run,), **around), ctx).status
    assert status is not None
    return status, dry_run


def reasons(outcome: Outcome) -> list[str]:
    return [note.reason for note in outcome.notes]


def test_a_policy_becomes_a_cronjob_and_a_dry_run(ctx: Context) -> None:
    spec = retention_spec(archive=ARCHIVE, timeoutSeconds=7200, pod={"cpu": "2"})
    spec["schedule"] = {"cron": "15 3 * * *", "timeZone": "Europe/Berlin"}
    outcome = retentionpolicy.reconcile(view(spec, secret=SECRET), ctx)
    assert kinds(outcome) == ["ConfigMap", "CronJob", "ConfigMap", "Job"]
    plan, cron, _, dry_run = outcome.apply
    assert '"action":"retain"' in plan["data"]["plan.json"]
    assert "Europe/Berlin" not in plan["data"]["plan.json"]
    template = cron["spec"].pop("jobTemplate")
    assert cron["spec"] == {
        "schedule": "15 3 * * *",
        "timeZone": "Europe/Berlin",
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 600,
        "suspend": False,
        "successfulJobsHistoryLimit": 53,
        "failedJobsHistoryLimit": 53,
    }
    assert template["metadata"]["annotations"] == {
        "millstream.dev/plan": plan["metadata"]["name"],
        "millstream.dev/generation": "1",
        "millstream.dev/configuration": dry_run["metadata"]["annotations"]["millstream.dev/configuration"],
    }
    pod = template["spec"]["template"]["spec"]
    assert (template["spec"]["backoffLimit"], template["spec"]["activeDeadlineSeconds"]) == (3, 7200)
    assert template["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [65, 78]
    assert (pod["containers"][0]["args"], pod["restartPolicy"]) == (["retain"], "Never")
    assert {volume["name"] for volume in pod["volumes"]} == {"plan", "tmp", "secret-warehouse", "secret-archive"}
    assert env(cron | {"spec": {"jobTemplate": template}}) is None
    assert env(dry_run) == '{"dryRun":true}'
    assert dry_run["spec"]["activeDeadlineSeconds"] == 3600
    assert conditions(outcome) == {
        "Archived": ("Unknown", "NotChecked"),
        "Ready": ("Unknown", "Planning"),
        "Reconciling": ("True", "Planning"),
        "Stalled": ("False", "Planning"),
    }


def test_the_dry_run_fills_the_status_once(ctx: Context) -> None:
    status, dry_run = planned(ctx)
    assert (status["live"], status["archived"], status["dropped"]) == (15, 3, 2)
    assert (status["plannedAt"], status["lastDryRun"]["outcome"]) == ("2026-03-01T11:00:00Z", "Succeeded")
    assert "lastRun" not in status
    again = retentionpolicy.reconcile(view(status=status, jobs=(dry_run,)), ctx)
    assert (again.status, again.notes, again.delete) == (status, (), ())
    assert kinds(again) == ["ConfigMap", "CronJob"]
    assert conditions(again)["Ready"] == ("True", "Scheduled")
    assert message(again) == "runs at 30 2 * * * (Etc/UTC); 0 step(s) planned"


def test_another_spec_is_planned_again_and_a_lost_job_is_not(ctx: Context) -> None:
    status, dry_run = planned(ctx)
    assert kinds(retentionpolicy.reconcile(view(status=status), ctx)) == ["ConfigMap", "CronJob"]
    spec = retention_spec(keep={"age": "2 years"})
    outcome = retentionpolicy.reconcile(view(spec, status=status, jobs=(dry_run,), meta={"generation": 2}), ctx)
    assert made(outcome)["metadata"]["name"] != dry_run.name
    assert [ref.name for ref in outcome.delete] == [dry_run.name]
    assert conditions(outcome)["Ready"] == ("Unknown", "Planning")
    secret = replace(view(status=status), warehouse=body("Warehouse", "dw", warehouse_spec(), status=ready(1)))
    outcome = retentionpolicy.reconcile(secret, ctx)
    assert conditions(outcome)["Ready"] == ("True", "Planning")  # what held for this spec still holds


def test_a_schedule_or_suspension_alone_plans_nothing(ctx: Context) -> None:
    status, _ = planned(ctx)
    spec = retention_spec(schedule={"cron": "@daily"}, suspend=True)
    outcome = retentionpolicy.reconcile(view(spec, status=status, meta={"generation": 2}), ctx)
    assert kinds(outcome) == ["ConfigMap", "CronJob"]
    assert live_cronjob(outcome)["spec"]["suspend"] is True
    assert conditions(outcome)["Ready"] == ("True", "Suspended")


@pytest.mark.parametrize(
    ("around", "reason", "words"),
    [
        ({"warehouse": None}, "WarehouseNotFound", "Warehouse 'dw': not found"),
        ({"warehouse": body("Warehouse", "dw", warehouse_spec())}, "WarehouseNotReady", "it is being probed"),
        (
            {"warehouse": body("Warehouse", "dw", warehouse_spec(), status=ready(1, "False", "Unreachable"))},
            "WarehouseNotReady",
            "Unreachable",
        ),
        ({"warehouse": body("Warehouse", "dw", warehouse_spec(config=7))}, "WarehouseNotReady", "probed"),
        ({"secret": SecretFacts("cold-s3", None)}, "SecretNotFound", "spec.archive.secretRef: Secret 'cold-s3'"),
    ],
)
def test_what_a_policy_waits_for(ctx: Context, around: dict[str, Any], reason: str, words: str) -> None:
    outcome = retentionpolicy.reconcile(view(retention_spec(archive=ARCHIVE), **around), ctx)
    assert outcome.apply == ()
    assert conditions(outcome)["Ready"] == ("False", reason)
    assert conditions(outcome)["Stalled"][0] == "False"
    assert words in message(outcome)
    assert outcome.requeue_s == (30 if reason == "SecretNotFound" else None)


@pytest.mark.parametrize(
    ("spec", "warehouse", "reason", "words"),
    [
        (
            retention_spec(),
            body("Warehouse", "dw", warehouse_spec(type="duckdb"), status=ready()),
            "UnsupportedWarehouse",
            "is of type 'duckdb', whose tables have no partitions; name one of type postgres",
        ),
        (retention_spec(keep={"age": "soon"}), WAREHOUSE, "InvalidSpec", "spec.keep.age"),
        (
            retention_spec(archive={"url": "file:///tmp/cold"}),
            WAREHOUSE,
            "InvalidSpec",
            "and goes with it; name a bucket, such as s3://bucket/prefix, or a PersistentVolumeClaim (spec.archive.vol",
        ),
        (retention_spec(archive={"url": "./cold"}), WAREHOUSE, "InvalidSpec", "spec.archive.url: './cold' is a folder"),
    ],
)
def test_what_cannot_be_carried_out_stops_the_schedule(
    ctx: Context, spec: Body, warehouse: Body, reason: str, words: str
) -> None:
    cron = live_cronjob(retentionpolicy.reconcile(view(), ctx))
    outcome = retentionpolicy.reconcile(view(spec, warehouse=warehouse, cronjob=cron), ctx)
    assert [item["spec"]["suspend"] for item in outcome.apply] == [True]
    assert conditions(outcome)["Stalled"] == ("True", reason)
    assert words in message(outcome)
    assert "until then no run starts" in message(outcome)
    cron["spec"]["suspend"] = True
    assert retentionpolicy.reconcile(view(spec, warehouse=warehouse, cronjob=cron), ctx).apply == ()


def test_a_hold_reaches_the_schedule_while_the_warehouse_is_away(ctx: Context) -> None:
    cron = live_cronjob(retentionpolicy.reconcile(view(), ctx))
    away = body("Warehouse", "dw", warehouse_spec(), status=ready(1, "False", "Unreachable"))
    spec = retention_spec(holds=[{"name": "case7", "table": "raw.flights"}])
    outcome = retentionpolicy.reconcile(view(spec, warehouse=away, cronjob=cron, meta={"generation": 2}), ctx)
    assert kinds(outcome) == ["ConfigMap", "CronJob"]
    assert "case7" in outcome.apply[0]["data"]["plan.json"]
    gone = retentionpolicy.reconcile(view(spec, warehouse=None, cronjob=cron, meta={"generation": 2}), ctx)
    assert live_cronjob(gone)["spec"]["suspend"] is True  # the hold cannot be handed to it


def test_a_run_of_an_older_spec_is_ended(ctx: Context) -> None:
    status, dry_run = planned(ctx)
    running = replace(dry_run, name="keep-1", uid="u1", role="retain", state="active", report=None)
    spec = retention_spec(holds=[{"name": "case7", "table": "raw.flights"}])
    outcome = retentionpolicy.reconcile(view(spec, status=status, jobs=(running,), meta={"generation": 2}), ctx)
    assert [(ref.name, ref.wait_for_pods) for ref in outcome.delete] == [("keep-1", True)]
    assert "SpecChanged" in reasons(outcome)
    leaving = replace(running, leaving=True)
    outcome = retentionpolicy.reconcile(view(spec, status=status, jobs=(leaving,), meta={"generation": 2}), ctx)
    assert (outcome.delete, "SpecChanged" in reasons(outcome)) == ((), False)
    other_reason = replace(running, plan="of-an-older-version")  # an upgrade changes no generation
    assert retentionpolicy.reconcile(view(status=status, jobs=(other_reason,)), ctx).delete == ()


def test_the_annotation_starts_one_run(ctx: Context) -> None:
    status, _ = planned(ctx)
    wish = {"annotations": {"millstream.dev/run": "now"}}
    outcome = retentionpolicy.reconcile(view(status=status, meta=wish), ctx)
    run = made(outcome)
    assert (env(run), run["metadata"]["labels"]["millstream.dev/role"]) == (None, "retain")
    assert outcome.status is not None
    assert (outcome.status["lastTrigger"], outcome.status["activeJob"]) == ("now", run["metadata"]["name"])
    active = as_facts(run, report(), state="active", report=None, finished=None)
    crashed = retentionpolicy.reconcile(view(status=status, meta=wish, jobs=(active,)), ctx)
    assert "Job" not in kinds(crashed)
    assert crashed.status == outcome.status
    done = as_facts(run, report(message="2 partitions dropped"), 5)
    after = retentionpolicy.reconcile(view(status=outcome.status, meta=wish, jobs=(done,)), ctx)
    assert after.status is not None
    assert "Job" not in kinds(after)
    assert after.status["lastRun"]["message"] == "2 partitions dropped"
    assert (after.status["lastSuccessAt"], "activeJob" in after.status) == ("2026-03-01T11:05:00Z", False)
    assert reasons(after) == ["RunSucceeded"]
    assert [facts.outcome for facts in after.counted] == ["Succeeded"]


def test_a_wish_waits_for_the_run_that_is_active_and_for_the_end_of_suspension(ctx: Context) -> None:
    status, dry_run = planned(ctx)
    wish = {"annotations": {"millstream.dev/run": "now"}}
    running = replace(dry_run, name="keep-1", uid="u1", role="retain", state="active", report=None)
    outcome = retentionpolicy.reconcile(view(status=status, meta=wish, jobs=(running,)), ctx)
    assert (kinds(outcome), "lastTrigger" in (outcome.status or {})) == (["ConfigMap", "CronJob"], False)
    outcome = retentionpolicy.reconcile(view(retention_spec(suspend=True), status=status, meta=wish), ctx)
    assert (kinds(outcome), "lastTrigger" in (outcome.status or {})) == (["ConfigMap", "CronJob"], False)


def test_a_dry_run_stands_in_nobodys_way(ctx: Context) -> None:
    dry_run = as_facts(made(retentionpolicy.reconcile(view(), ctx)), report(), state="active", trouble="no image")
    outcome = retentionpolicy.reconcile(view(jobs=(dry_run,)), ctx)
    assert kinds(outcome) == ["ConfigMap", "CronJob"]
    assert message(outcome).endswith("makes the plan: no image")
    tried = replace(dry_run, trouble="", report=report(75, "the archive does not answer"), attempts=2)
    assert message(retentionpolicy.reconcile(view(jobs=(tried,)), ctx)).endswith(
        "makes the plan: it is tried again: the archive does not answer"
    )
    wish = {"annotations": {"millstream.dev/run": "now"}}
    outcome = retentionpolicy.reconcile(view(jobs=(dry_run,), meta=wish), ctx)
    run = made(outcome)["metadata"]["name"]
    assert run != dry_run.name
    assert (conditions(outcome)["Ready"], message(outcome)) == (("Unknown", "Planning"), f"Job {run} makes the plan")
    active = as_facts(made(outcome), report(), state="active", report=None, finished=None)
    again = retentionpolicy.reconcile(view(status=outcome.status, jobs=(active,), meta=wish), ctx)
    assert (kinds(again), message(again)) == (["ConfigMap", "CronJob"], message(outcome))  # the run tells the plan


@pytest.mark.parametrize(
    ("code", "more", "ready_", "stalled"),
    [
        (65, {}, ("False", "ChecksFailed"), "False"),
        (75, {}, ("False", "RunFailed"), "False"),
        (75, {"reason": "DeadlineExceeded"}, ("False", "DeadlineExceeded"), "False"),
        (78, {}, ("False", "InvalidConfiguration"), "True"),
    ],
)
def test_how_a_failed_run_is_told_and_mended(
    ctx: Context, code: int, more: dict[str, Any], ready_: tuple[str, str], stalled: str
) -> None:
    status, dry_run = planned(ctx)
    run = ended("keep-1", report(code, "what and why"), 10, **like(dry_run), **more)
    outcome = retentionpolicy.reconcile(view(status=status, jobs=(run,)), ctx)
    assert conditions(outcome)["Ready"] == ready_
    assert conditions(outcome)["Stalled"][0] == stalled
    assert message(outcome) == "run keep-1: what and why"
    assert reasons(outcome) == [ready_[1]]
    again = retentionpolicy.reconcile(view(status=outcome.status, jobs=(run,)), ctx)
    assert (again.status, again.notes, again.counted) == (outcome.status, (), ())
    good = ended("keep-2", report(), 20, **like(dry_run))
    after = retentionpolicy.reconcile(view(status=outcome.status, jobs=(run, good)), ctx)
    assert conditions(after)["Ready"] == ("True", "Scheduled")


def test_a_wrong_configuration_is_mended_by_a_dry_run_that_succeeds(ctx: Context) -> None:
    first = retentionpolicy.reconcile(view(), ctx)
    wrong = as_facts(made(first), report(78, "no such column"))
    outcome = retentionpolicy.reconcile(view(jobs=(wrong,)), ctx)
    assert conditions(outcome)["Stalled"] == ("True", "InvalidConfiguration")
    assert kinds(outcome) == ["ConfigMap", "CronJob"]  # the same again would end the same
    spec = retention_spec(keep={"age": "2 years"})
    mended = view(spec, status=outcome.status, meta={"generation": 2})
    second = retentionpolicy.reconcile(mended, ctx)
    assert conditions(second)["Ready"] == ("Unknown", "Planning")
    good = as_facts(made(second), report(), 30)
    after = retentionpolicy.reconcile(replace(mended, jobs=(good,)), ctx)
    assert conditions(after)["Ready"] == ("True", "Scheduled")


def test_history_is_kept_and_old_plans_go(ctx: Context) -> None:
    status, dry_run = planned(ctx)
    good = [ended(f"good-{number}", report(), number, **like(dry_run)) for number in range(5)]
    bad = [ended(f"bad-{number}", report(75), 10 + number, plan="older") for number in range(4)]
    old = (ctx.now - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    plans = (
        PlanFacts(dry_run.plan, old),
        PlanFacts("older", old),
        PlanFacts("unused", old),
        PlanFacts("restores", old),
    )
    restore = body("PipelineRun", "back", {}, status={"phase": "Running", "plan": "restores"})
    outcome = retentionpolicy.reconcile(
        view(status=status, jobs=(*good, *bad, dry_run), plans=plans, restores=(restore,)), ctx
    )
    assert sorted(ref.name for ref in outcome.delete) == ["bad-0", "good-0", "good-1", "unused"]
    assert len(outcome.counted) == 9


def test_a_finished_restore_keeps_no_plan(ctx: Context) -> None:
    status, _ = planned(ctx)
    restore = body("PipelineRun", "back", {}, status={"phase": "Succeeded", "plan": "restores"})
    plans = (PlanFacts("restores", "2026-02-01T00:00:00Z"),)
    outcome = retentionpolicy.reconcile(view(status=status, plans=plans, restores=(restore,)), ctx)
    assert [ref.name for ref in outcome.delete] == ["restores"]
