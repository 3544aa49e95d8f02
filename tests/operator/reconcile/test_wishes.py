"""Runs of a RetentionPolicy that a person asks for: what they wait for, and how a wish is told from an earlier one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from api.manifests import Body, body, retention_spec
from api.pipelines import kinds, message
from api.policies import DROP, as_facts, env, made, report, view
from millstream_operator.reconcile import retentionpolicy
from millstream_operator.reconcile.observed import Context, JobFacts

MANUAL = retention_spec(approval="manual")
BACK = {"table": "raw.flights", "from": "2024-01-01", "to": "2024-02-01"}


def said(**annotations: str) -> Body:
    return {"annotations": {f"millstream.dev/{name}": value for name, value in annotations.items()}}


def planned(ctx: Context, spec: Body | None = None, **told: Any) -> Body:
    dry_run = as_facts(made(retentionpolicy.reconcile(view(spec), ctx)), report(**told))
    status = retentionpolicy.reconcile(view(spec, jobs=(dry_run,)), ctx).status
    assert status is not None
    return status


def restore(phase: str) -> Body:
    spec = {"policyRef": {"name": "keep"}, "trigger": "restore", "restore": BACK}
    return body("PipelineRun", "back", spec, status={"phase": phase})


def test_runs_wait_for_a_restore_as_restores_wait_for_runs(ctx: Context) -> None:
    status = planned(ctx, MANUAL, digest="d1", plan=[DROP])
    for meta in (said(run="now"), said(approve="d1")):
        outcome = retentionpolicy.reconcile(view(MANUAL, status=status, meta=meta, restores=(restore("Running"),)), ctx)
        assert "Job" not in kinds(outcome)
        assert outcome.status is not None
        assert {"lastTrigger", "approved"}.isdisjoint(outcome.status)
        assert "a run waits for restore back to end" in message(outcome)
        for phase in ("Queued", "Succeeded"):
            around = {"status": outcome.status, "meta": meta, "restores": (restore(phase),)}
            assert "Job" in kinds(retentionpolicy.reconcile(view(MANUAL, **around), ctx))


def test_a_dry_run_waits_for_no_restore(ctx: Context) -> None:
    outcome = retentionpolicy.reconcile(view(restores=(restore("Running"),)), ctx)
    assert env(made(outcome)) == '{"dryRun":true}'
    assert "restore" not in message(outcome)


def test_an_approval_that_is_taken_back_ends_its_run(ctx: Context) -> None:
    status = planned(ctx, MANUAL, digest="d1", plan=[DROP])
    first = retentionpolicy.reconcile(view(MANUAL, status=status, meta=said(approve="d1")), ctx)
    run = as_facts(made(first), report(), state="active", report=None, finished=None)
    around: dict[str, Any] = {"status": first.status, "jobs": (run,)}
    assert retentionpolicy.reconcile(view(MANUAL, **around, meta=said(approve="d1")), ctx).delete == ()
    for spec, meta in ((MANUAL, {}), (MANUAL, said(approve="d2")), (retention_spec(keep={"age": "soon"}), {})):
        outcome = retentionpolicy.reconcile(view(spec, **around, meta=meta), ctx)
        assert [(ref.name, ref.wait_for_pods) for ref in outcome.delete] == [(run.name, True)]
        assert [note.message for note in outcome.notes if note.reason == "ApprovalWithdrawn"] == [
            f"the approval of plan d1 is taken back: run {run.name} is ended; its work stays"
        ]
    outcome = retentionpolicy.reconcile(view(MANUAL, **around), ctx)
    leaving = replace(run, leaving=True)
    for jobs, starts in (((leaving,), False), ((replace(leaving, state="failed"),), False), ((), True)):
        again = view(MANUAL, status=outcome.status, jobs=jobs, meta=said(approve="d1"))
        after = retentionpolicy.reconcile(again, ctx)
        assert after.status is not None
        assert (kinds(after)[-1] == "Job", after.status.get("approved") == "d1") == (starts, starts)


def test_a_wish_may_be_said_again(ctx: Context) -> None:
    status, jobs = planned(ctx), tuple[JobFacts, ...]()
    for minute, wish in enumerate(("now", "again", "now", "again", "now"), 1):
        outcome = retentionpolicy.reconcile(view(status=status, jobs=jobs, meta=said(run=wish)), ctx)
        run = as_facts(made(outcome), report(), minute, uid=f"u{minute}")
        assert run.name not in {job.name for job in jobs}
        crashed = retentionpolicy.reconcile(view(status=status, jobs=(*jobs, run), meta=said(run=wish)), ctx)
        assert "Job" not in kinds(crashed)
        assert (crashed.status, outcome.status) != (None, None)
        told = [(item or {})["lastTriggeredJob"] for item in (crashed.status, outcome.status)]
        assert told == [run.name, run.name]
        jobs, status = (*jobs, run), outcome.status or {}
