"""Nothing goes on with a policy's older spec, though the new one cannot be carried out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from api.manifests import Body, retention_spec
from api.pipelines import conditions, live_cronjob
from api.policies import as_facts, ended, made, report, view
from millstream_operator.reconcile import retentionpolicy
from millstream_operator.reconcile.observed import Context, JobFacts
from millstream_operator.reconcile.outcome import Outcome

HELD = retention_spec(holds=[{"name": "case7", "table": "raw.flights"}])
MISSPELT = retention_spec(holds=[{"name": "case7", "table": "raw.fligths"}])
NEXT = {"generation": 2}


def running(ctx: Context) -> tuple[JobFacts, Body]:
    """Return a run that is active, and the status of its policy."""
    first = retentionpolicy.reconcile(view(), ctx)
    found = as_facts(made(first), report(), uid="u1", role="retain", state="active", report=None, finished=None)
    run = replace(found, name="keep-1")
    status = retentionpolicy.reconcile(view(jobs=(run,)), ctx).status
    assert status is not None
    assert status["activeJob"] == "keep-1"
    return run, status


def told(outcome: Outcome) -> list[str]:
    return [note.message for note in outcome.notes if note.reason in ("SpecChanged", "RunSucceeded")]


@pytest.mark.parametrize(
    ("spec", "around", "reason"),
    [(MISSPELT, {}, "InvalidSpec"), (HELD, {"warehouse": None}, "WarehouseNotFound")],
)
def test_the_run_is_ended(ctx: Context, spec: Body, around: dict[str, Any], reason: str) -> None:
    run, status = running(ctx)
    cron = live_cronjob(retentionpolicy.reconcile(view(), ctx))
    outcome = retentionpolicy.reconcile(view(spec, status=status, jobs=(run,), cronjob=cron, meta=NEXT, **around), ctx)
    assert conditions(outcome)["Ready"] == ("False", reason)
    assert live_cronjob(outcome)["spec"]["suspend"] is True
    assert [(ref.name, ref.wait_for_pods) for ref in outcome.delete] == [("keep-1", True)]
    assert told(outcome) == ["run keep-1 began with an older spec and is ended; its work stays"]
    leaving = replace(run, leaving=True)
    again = retentionpolicy.reconcile(
        view(spec, status=outcome.status, jobs=(leaving,), cronjob=cron, meta=NEXT, **around), ctx
    )
    assert (again.delete, again.notes, again.status) == ((), (), outcome.status)


def test_a_run_of_the_same_spec_goes_on(ctx: Context) -> None:
    run, status = running(ctx)
    outcome = retentionpolicy.reconcile(view(status=status, jobs=(run,), warehouse=None), ctx)
    assert outcome.delete == ()


def test_the_run_that_ended_meanwhile_is_told(ctx: Context) -> None:
    _, status = running(ctx)
    done = ended("keep-1", report(), 30, uid="u1")
    outcome = retentionpolicy.reconcile(view(MISSPELT, status=status, jobs=(done,), meta=NEXT), ctx)
    assert outcome.status is not None
    assert ("activeJob" in outcome.status, outcome.status["lastRun"]["job"]) == (False, "keep-1")
    assert told(outcome) == ["run keep-1: done"]
