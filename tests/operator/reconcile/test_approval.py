"""Manual approval of a RetentionPolicy's plan, and the conditions Archived and Blocked."""

from __future__ import annotations

from typing import Any

import pytest

from api.manifests import Body, retention_spec
from api.pipelines import conditions, kinds, live_cronjob, message
from api.policies import ARCHIVE, DROP, HELD, SECRET, as_facts, ended, env, like, made, report, table, view
from millstream_api import PlannedStep
from millstream_operator.reconcile import retentionpolicy
from millstream_operator.reconcile.observed import Context, JobFacts
from millstream_operator.reconcile.outcome import Outcome

MANUAL = retention_spec(approval="manual")
PLANNED = {"digest": "d1", "approved": False, "plan": [DROP], "plan_count": 3, "bytes": 4096}
ARCHIVING = PlannedStep(table="raw.flights", step="archive", partition="p2024_02")
DUE = PlannedStep(table="raw.flights", step="detach", partition="p2024_03", why="older than 13 months")


def after(ctx: Context, spec: Body, told: dict[str, Any], **around: Any) -> tuple[Body, JobFacts]:
    """Return the status after a dry run that reported this, and that Job."""
    dry_run = as_facts(made(retentionpolicy.reconcile(view(spec, **around), ctx)), report(**told))
    status = retentionpolicy.reconcile(view(spec, jobs=(dry_run,), **around), ctx).status
    assert status is not None
    return status, dry_run


def saying(digest: str) -> Body:
    return {"annotations": {"millstream.dev/approve": digest}}


def notes(outcome: Outcome) -> dict[str, str]:
    return {note.reason: note.message for note in outcome.notes}


def test_a_plan_waits_for_its_digest(ctx: Context) -> None:
    status, _ = after(ctx, MANUAL, PLANNED)
    outcome = retentionpolicy.reconcile(view(MANUAL, status=status), ctx)
    assert conditions(outcome)["Ready"] == ("True", "AwaitingApproval")
    assert message(outcome) == (
        "plan d1 (3 step(s), 4 KiB leave the warehouse) waits for approval: look at status.plan, then "
        "kubectl annotate rp/keep millstream.dev/approve=d1 --overwrite"
    )
    assert env(live_cronjob(outcome)) is None
    nothing, _ = after(ctx, MANUAL, {"digest": ""})
    assert conditions(retentionpolicy.reconcile(view(MANUAL, status=nothing), ctx))["Ready"] == ("True", "Scheduled")


def test_an_approved_plan_starts_now_and_once(ctx: Context) -> None:
    status, _ = after(ctx, MANUAL, PLANNED)
    outcome = retentionpolicy.reconcile(view(MANUAL, status=status, meta=saying("d1")), ctx)
    run = made(outcome)
    assert env(run) == env(live_cronjob(outcome)) == '{"approved":"d1"}'
    assert outcome.status is not None
    assert (outcome.status["approved"], outcome.status["activeJob"]) == ("d1", run["metadata"]["name"])
    assert notes(outcome)["Approved"] == "plan d1 is approved and carried out"
    active = as_facts(run, report(), state="active", report=None, finished=None)
    crashed = retentionpolicy.reconcile(view(MANUAL, status=status, meta=saying("d1"), jobs=(active,)), ctx)
    assert (kinds(crashed), crashed.status) == (["ConfigMap", "CronJob"], outcome.status)
    done = as_facts(run, report(digest=""), 5)
    ready = retentionpolicy.reconcile(view(MANUAL, status=outcome.status, meta=saying("d1"), jobs=(done,)), ctx)
    assert (kinds(ready), conditions(ready)["Ready"]) == (["ConfigMap", "CronJob"], ("True", "Scheduled"))


def test_an_old_approval_covers_no_new_steps(ctx: Context) -> None:
    status, dry_run = after(ctx, MANUAL, PLANNED)
    outcome = retentionpolicy.reconcile(view(MANUAL, status=status, meta=saying("d1")), ctx)
    done = as_facts(made(outcome), report(digest=""), 5)
    nightly = ended("keep-2", report(**{**PLANNED, "digest": "d2"}), 30, **like(dry_run))
    jobs = (done, nightly)
    waits = retentionpolicy.reconcile(view(MANUAL, status=outcome.status, meta=saying("d1"), jobs=jobs), ctx)
    assert conditions(waits)["Ready"] == ("True", "AwaitingApproval")
    assert "millstream.dev/approve=d2" in message(waits)
    assert "ApprovalRefused" not in notes(waits)
    again = retentionpolicy.reconcile(view(MANUAL, status=waits.status, meta=saying("d2"), jobs=jobs), ctx)
    assert env(made(again)) == '{"approved":"d2"}'


def test_what_is_left_of_an_approved_plan_is_not_asked_for_again(ctx: Context) -> None:
    """A run was cut short: the rest of its plan has another digest, and what is told meanwhile names that one."""
    status, _ = after(ctx, MANUAL, PLANNED)
    status = retentionpolicy.reconcile(view(MANUAL, status=status, meta=saying("d1")), ctx).status or {}
    changed, meta = {**MANUAL, "timeoutSeconds": 7200}, {**saying("d1"), "generation": 2}
    planning = retentionpolicy.reconcile(view(changed, status=status, meta=meta), ctx)
    assert env(made(planning)) == '{"dryRun":true,"approved":"d1"}'
    rest = as_facts(made(planning), report(**{**PLANNED, "digest": "d2", "approved": True}), 5)
    outcome = retentionpolicy.reconcile(view(changed, status=planning.status, meta=meta, jobs=(rest,)), ctx)
    assert conditions(outcome)["Ready"] == ("True", "Scheduled")
    assert env(live_cronjob(outcome)) == '{"approved":"d1"}'
    more = as_facts(made(planning), report(**{**PLANNED, "digest": "d2"}), 5)
    outcome = retentionpolicy.reconcile(view(changed, status=planning.status, meta=meta, jobs=(more,)), ctx)
    assert conditions(outcome)["Ready"] == ("True", "AwaitingApproval")


def test_a_stale_digest_is_refused_once_and_names_the_current_one(ctx: Context) -> None:
    status, _ = after(ctx, MANUAL, PLANNED)
    outcome = retentionpolicy.reconcile(view(MANUAL, status=status, meta=saying("d0")), ctx)
    assert "Job" not in kinds(outcome)
    assert env(live_cronjob(outcome)) is None
    assert conditions(outcome)["Ready"] == ("True", "ApprovalRefused")
    assert message(outcome) == (
        "approval 'd0' is not the digest of the current plan, which is 'd1': look at status.plan, then set "
        "millstream.dev/approve to that"
    )
    assert notes(outcome)["ApprovalRefused"] == message(outcome)
    again = retentionpolicy.reconcile(view(MANUAL, status=outcome.status, meta=saying("d0")), ctx)
    assert (again.status, again.notes) == (outcome.status, ())
    right = retentionpolicy.reconcile(view(MANUAL, status=outcome.status, meta=saying("d1")), ctx)
    assert right.status is not None
    assert (env(made(right)), "approvalRefused" in right.status) == ('{"approved":"d1"}', False)


def test_an_approval_waits_for_the_plan_of_the_spec_and_for_the_end_of_suspension(ctx: Context) -> None:
    status, _ = after(ctx, MANUAL, PLANNED)
    changed = {**MANUAL, "keep": {"age": "2 years"}}
    outcome = retentionpolicy.reconcile(view(changed, status=status, meta={**saying("d1"), "generation": 2}), ctx)
    assert env(made(outcome)) == '{"dryRun":true}'  # d1 was the plan of the spec before
    assert "ApprovalRefused" not in notes(outcome)
    outcome = retentionpolicy.reconcile(view({**MANUAL, "suspend": True}, status=status, meta=saying("d1")), ctx)
    assert outcome.status is not None
    assert ("Job" in kinds(outcome), "approved" in outcome.status) == (False, False)


def test_automatic_approval_hands_over_no_digest(ctx: Context) -> None:
    status, _ = after(ctx, retention_spec(), PLANNED)
    outcome = retentionpolicy.reconcile(view(status=status, meta=saying("d1")), ctx)
    assert (env(live_cronjob(outcome)), kinds(outcome)) == (None, ["ConfigMap", "CronJob"])


@pytest.mark.parametrize(
    ("told", "archived", "words"),
    [
        ({}, ("True", "ArchivesVerified"), "3 range(s) have an archive"),
        ({"plan": [ARCHIVING, DROP]}, ("False", "ArchivePending"), "1 partition(s) wait for their archive: raw.flig"),
        ({"tables": [table(waiting=4)]}, ("False", "ArchivePending"), "4 partition(s) wait for their archive"),
        (
            {"plan": [DUE, ARCHIVING], "tables": [table(waiting=1)]},
            ("False", "ArchivePending"),
            "2 partition(s) wait for their archive: raw.flights p2024_03 (detach); raw.flights p2024_02 (archive)",
        ),
        ({"plan": [DUE.model_copy(update={"blocked_by": "hold case7"})]}, ("True", "ArchivesVerified"), "3 range(s)"),
    ],
)
def test_archived(ctx: Context, told: dict[str, Any], archived: tuple[str, str], words: str) -> None:
    spec = retention_spec(archive=ARCHIVE)
    status, _ = after(ctx, spec, told, secret=SECRET)
    outcome = retentionpolicy.reconcile(view(spec, status=status, secret=SECRET), ctx)
    assert conditions(outcome)["Archived"] == archived
    assert message(outcome, "Archived").startswith(words)
    without = retentionpolicy.reconcile(view(status=status, meta={"generation": 2}), ctx)
    assert "Archived" not in conditions(without)


def test_an_archive_that_does_not_match_is_told_with_its_table(ctx: Context) -> None:
    spec = retention_spec(archive=ARCHIVE)
    status, dry_run = after(ctx, spec, {}, secret=SECRET)
    bad = table(
        outcome="failed", verify_failures=1, message="p2024_01: 10 rows archived, 11 in the table; delete the attempt"
    )
    run = ended("keep-1", report(65, "1 of 2 tables failed", tables=[bad]), 10, **like(dry_run))
    outcome = retentionpolicy.reconcile(view(spec, status=status, secret=SECRET, jobs=(run,)), ctx)
    assert conditions(outcome)["Archived"] == ("False", "VerificationFailed")
    assert message(outcome, "Archived") == (
        "1 of 2 tables failed; raw.flights: p2024_01: 10 rows archived, 11 in the table; delete the attempt"
    )
    planned_again = as_facts(made(retentionpolicy.reconcile(view(), ctx)), report(), 20)
    changed = {**spec, "keep": {"age": "2 years"}}
    waits = retentionpolicy.reconcile(
        view(changed, status=outcome.status, secret=SECRET, meta={"generation": 2}), ctx
    ).status
    assert waits is not None
    seen = {item["type"]: item["observedGeneration"] for item in waits["conditions"]}
    assert seen == {"Ready": 2, "Reconciling": 2, "Stalled": 2, "Archived": 1, "Blocked": 1}  # nobody has looked yet
    later = view(spec, status=outcome.status, secret=SECRET, jobs=(planned_again,))
    assert conditions(retentionpolicy.reconcile(later, ctx))["Archived"] == ("False", "VerificationFailed")


def test_a_mismatch_beside_another_failure_has_its_own_event(ctx: Context) -> None:
    spec = retention_spec(archive=ARCHIVE)
    status, dry_run = after(ctx, spec, {}, secret=SECRET)
    bad = table(outcome="failed", verify_failures=1, message="10 rows archived, 11 in the table")
    run = ended("keep-1", report(75, "raw.other is locked", tables=[bad]), 10, **like(dry_run))
    outcome = retentionpolicy.reconcile(view(spec, status=status, secret=SECRET, jobs=(run,)), ctx)
    assert sorted(notes(outcome)) == ["RunFailed", "VerificationFailed"]
    assert conditions(outcome)["Archived"] == ("False", "VerificationFailed")


def test_what_blocks_is_named_and_told_once(ctx: Context) -> None:
    status, dry_run = after(ctx, retention_spec(), {})
    assert conditions(retentionpolicy.reconcile(view(status=status), ctx))["Blocked"] == ("False", "NothingBlocked")
    run = ended("keep-1", report(plan=[HELD], blocked=3), 10, **like(dry_run))
    outcome = retentionpolicy.reconcile(view(status=status, jobs=(run,)), ctx)
    assert conditions(outcome)["Blocked"] == ("True", "StepsBlocked")
    assert message(outcome, "Blocked") == "3 step(s) wait: raw.flights p2024_01 (drop): hold case7"
    assert notes(outcome)["StepsBlocked"] == message(outcome, "Blocked")
    clipped = report(tables=[table(outcome="blocked", message="mart.daily is 2 days behind")], blocked=1)
    after_that = ended("keep-2", clipped, 20, **like(dry_run))
    outcome = retentionpolicy.reconcile(view(status=outcome.status, jobs=(run, after_that)), ctx)
    assert message(outcome, "Blocked") == "1 step(s) wait: raw.flights: mart.daily is 2 days behind"
    assert "StepsBlocked" not in notes(outcome)
