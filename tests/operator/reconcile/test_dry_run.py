"""Dry runs of a RetentionPolicy: what one was made for, and when it is made again."""

from __future__ import annotations

from dataclasses import replace

from api.manifests import retention_spec
from api.pipelines import conditions, kinds
from api.policies import ARCHIVE, SECRET, as_facts, made, report, view
from millstream_operator.reconcile import retentionpolicy
from millstream_operator.reconcile.observed import Context

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
