"""Dry runs of a RetentionPolicy: what one was made for, and when it is made again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api.manifests import Body, body, ready, retention_spec, warehouse_spec
from api.pipelines import conditions, kinds
from api.policies import ARCHIVE, SECRET, as_facts, ended, made, report, view
from millstream_operator.reconcile import retentionpolicy
from millstream_operator.reconcile.observed import Context, JobFacts

ARCHIVED = retention_spec(archive=ARCHIVE)
MENDED = replace(SECRET, version="4")


def test_a_secret_that_is_mended_during_the_dry_run_is_tried(ctx: Context) -> None:
    first = made(retentionpolicy.reconcile(view(ARCHIVED, secret=SECRET), ctx))
    wrong = as_facts(first, report(78, "Secret 'cold-s3': the store refuses the key"))
    outcome = retentionpolicy.reconcile(view(ARCHIVED, secret=MENDED, jobs=(wrong,)), ctx)
    assert conditions(outcome)["Ready"][1] == "Planning"
    again = made(outcome)
    assert again["metadata"]["name"] != wrong.name
    assert [ref.name for ref in outcome.delete] == [wrong.name]
    good = as_facts(again, report(), 5)
    after = retentionpolicy.reconcile(view(ARCHIVED, secret=MENDED, status=outcome.status, jobs=(good,)), ctx)
    assert conditions(after)["Ready"] == ("True", "Scheduled")


def test_a_secret_that_is_mended_during_a_run_is_tried(ctx: Context) -> None:
    dry_run = as_facts(made(retentionpolicy.reconcile(view(ARCHIVED, secret=SECRET), ctx)), report())
    status = retentionpolicy.reconcile(view(ARCHIVED, secret=SECRET, jobs=(dry_run,)), ctx).status
    wish = {"annotations": {"millstream.dev/run": "now"}}
    run = made(retentionpolicy.reconcile(view(ARCHIVED, secret=SECRET, status=status, meta=wish), ctx))
    wrong = as_facts(run, report(78, "Secret 'cold-s3': the store refuses the key"), 5)
    outcome = retentionpolicy.reconcile(view(ARCHIVED, secret=MENDED, status=status, jobs=(wrong,)), ctx)
    assert (conditions(outcome)["Stalled"][0], conditions(outcome)["Ready"][1]) == ("False", "Planning")
    assert "Job" in kinds(outcome)


def test_what_was_made_for_an_older_warehouse_is_read_when_it_comes_back(ctx: Context) -> None:
    dry_run = as_facts(made(retentionpolicy.reconcile(view(), ctx)), report(78, "no such column"))
    gone = retentionpolicy.reconcile(view(jobs=(dry_run,), warehouse=None), ctx)
    outcome = retentionpolicy.reconcile(view(status=gone.status, jobs=(dry_run,)), ctx)
    assert conditions(outcome)["Stalled"] == ("True", "InvalidConfiguration")
    assert "Job" not in kinds(outcome)


SUSPENDED = retention_spec(suspend=True)


def at(ctx: Context, hour: int, minute: int) -> Context:
    return replace(ctx, now=ctx.now.replace(hour=hour, minute=minute))


def failed(made_from: Body, minute: int, **more: Any) -> JobFacts:
    """Return a dry run that failed before it could make a plan."""
    told = report(75, "the warehouse does not answer").model_copy(update={"retention": None})
    return as_facts(made_from, told, minute, uid=f"u{minute}", **more)


@pytest.mark.parametrize("how", [{}, {"reason": "DeadlineExceeded"}, {"report": None, "exit_code": 137}])
def test_one_that_failed_for_a_passing_reason_is_made_again_ever_more_slowly(ctx: Context, how: dict[str, Any]) -> None:
    first = failed(made(retentionpolicy.reconcile(view(SUSPENDED), ctx)), 0, **how)
    outcome = retentionpolicy.reconcile(view(SUSPENDED, jobs=(first,)), at(ctx, 11, 2))
    assert (conditions(outcome)["Ready"][0], kinds(outcome)) == ("False", ["ConfigMap", "CronJob"])
    assert (outcome.requeue_s, outcome.delete) == (180, ())  # its log can still be read
    reason = conditions(outcome)["Ready"][1]
    again = retentionpolicy.reconcile(view(SUSPENDED, status=outcome.status, jobs=(first,)), at(ctx, 11, 5))
    assert made(again)["metadata"]["name"] != first.name
    assert (again.status, again.requeue_s) == (outcome.status, None)  # what is known stays until there is an answer
    active = failed(made(again), 9, state="active", finished=None, report=None)
    waits = retentionpolicy.reconcile(view(SUSPENDED, status=again.status, jobs=(first, active)), at(ctx, 11, 7))
    assert (kinds(waits), waits.status, waits.requeue_s) == (["ConfigMap", "CronJob"], outcome.status, None)
    second = failed(made(again), 9, **how)
    outcome = retentionpolicy.reconcile(view(SUSPENDED, status=again.status, jobs=(first, second)), at(ctx, 11, 9))
    assert outcome.status is not None
    assert (outcome.status["dryRunFailures"], conditions(outcome)["Ready"]) == (2, ("False", reason))
    assert (outcome.requeue_s, [ref.name for ref in outcome.delete]) == (600, [first.name])
    third = retentionpolicy.reconcile(view(SUSPENDED, status=outcome.status, jobs=(second,)), at(ctx, 11, 19))
    good = as_facts(made(third), report(), 21)
    after = retentionpolicy.reconcile(view(SUSPENDED, status=third.status, jobs=(second, good)), at(ctx, 11, 22))
    assert after.status is not None
    assert (conditions(after)["Ready"], after.requeue_s) == (("True", "Suspended"), None)
    assert "dryRunFailures" not in after.status


def test_it_is_made_again_once_an_hour_at_least_and_waits_for_the_warehouse(ctx: Context) -> None:
    job = failed(made(retentionpolicy.reconcile(view(), ctx)), 0)
    status = retentionpolicy.reconcile(view(jobs=(job,)), at(ctx, 11, 0)).status
    assert status is not None
    often = {**status, "dryRunFailures": 40}
    assert retentionpolicy.reconcile(view(status=often, jobs=(job,)), at(ctx, 11, 0)).requeue_s == 3600
    away = body("Warehouse", "dw", warehouse_spec(), status=ready(1, "False", "Unreachable", secretVersion="7"))
    outcome = retentionpolicy.reconcile(view(status=often, jobs=(job,), warehouse=away), at(ctx, 13, 0))
    assert (outcome.apply, outcome.requeue_s) == ((), None)


@pytest.mark.parametrize("code", [65, 78])
def test_what_would_end_the_same_is_not_made_again(ctx: Context, code: int) -> None:
    job = as_facts(made(retentionpolicy.reconcile(view(), ctx)), report(code))
    outcome = retentionpolicy.reconcile(view(jobs=(job,)), replace(ctx, now=ctx.now + timedelta(days=2)))
    assert (kinds(outcome), outcome.requeue_s) == (["ConfigMap", "CronJob"], None)


def test_a_run_that_came_later_says_what_is_so(ctx: Context) -> None:
    job = failed(made(retentionpolicy.reconcile(view(), ctx)), 0)
    nightly = ended("keep-1", report(), 30, plan=job.plan, configuration=job.configuration)
    outcome = retentionpolicy.reconcile(view(jobs=(job, nightly)), ctx)
    assert (kinds(outcome), outcome.requeue_s) == (["ConfigMap", "CronJob"], None)
    assert conditions(outcome)["Ready"] == ("True", "Scheduled")
