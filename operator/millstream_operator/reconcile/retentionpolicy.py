"""RetentionPolicy: its schedule, the dry run of a new spec, the run annotation, approval, history.

What a run removes does not come back by itself, so no run ever goes on with a spec that is no longer the current one:
a schedule whose spec cannot be carried out is suspended, a run that began with an older spec is ended.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from millstream_api import RetentionOptions, conditions
from millstream_api.retention_report import RetentionPolicyStatus
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_operator.objects.configmap import plan_configmap, plan_name
from millstream_operator.objects.cronjob import cronjob_name, suspended
from millstream_operator.objects.naming import owner_of
from millstream_operator.reconcile import approving, leaving, restored, retained, retaining
from millstream_operator.reconcile.observed import Body, Context, PolicyView, generation
from millstream_operator.reconcile.outcome import Note, Outcome
from millstream_operator.reconcile.retaining import retain_cronjob
from millstream_operator.reconcile.standing import Standing, settled, stalled, status_of, turning_point, waiting
from millstream_operator.reconcile.starting import Policy, Start, running, start
from millstream_operator.reconcile.validation import Problem, parsed

_SECRET_WAIT_S = 30  # Secrets are not watched (we want no right to list them), so we look again


def reconcile(view: PolicyView, ctx: Context) -> Outcome:
    """Decide what a RetentionPolicy needs."""
    before = status_of(RetentionPolicyStatus, view.body)
    spec = parsed(RetentionPolicySpec, view.body.get("spec"))
    if isinstance(spec, Problem):
        return _impossible(view, ctx, before, stalled(conditions.INVALID_SPEC, spec.message))
    if (refusal := retaining.refusal(spec, view)) is not None:
        return _impossible(view, ctx, before, stalled(refusal.reason, refusal.message))
    owner = owner_of(view.body)
    plan, token = retaining.configured(owner, spec, view)
    read = retained.read(before, view.jobs, token)
    current = bool(token) and read.status.planned_for == token
    approval = approving.approval(spec, read.status, view.body, current)
    gate = retaining.blocker(spec, view)
    return _conclude(Policy(view, ctx, owner, spec, before, read, plan, token, gate, approval))


def refused(view: PolicyView, ctx: Context, standing: Standing) -> Outcome:
    """Stop what goes on with an older spec, where the API server takes nothing of the current one, or not all of it."""
    spec, live = parsed(RetentionPolicySpec, view.body.get("spec")), view.cronjob
    plan = None if isinstance(spec, Problem) else retaining.configured(owner_of(view.body), spec, view)[0]
    current = plan_name(owner_of(view.body), plan) if plan is not None else ""
    if live is not None and retaining.made_for(live) >= generation(view.body):
        view = replace(view, cronjob=None)  # the schedule is of the current spec and may go on
    return _impossible(view, ctx, status_of(RetentionPolicyStatus, view.body), standing, current)


def _conclude(policy: Policy) -> Outcome:
    current = plan_name(policy.owner, policy.plan) if policy.plan is not None else ""
    begun, (stopped, why) = start(policy), leaving.stopped(policy.view, current)
    standing = _standing(policy, begun)
    told = retained.domain(policy.spec, policy.status, policy.token)
    back = restored.restored(policy.owner, policy.spec.history, policy.before, policy.view.restores)
    approval, known = policy.approval, policy.before.approved
    taken = approval.digest if begun.approved or approval.digest == known else None
    active = policy.running.name if policy.running is not None else begun.job
    status = policy.status.model_copy(
        update={
            "plan_name": current or policy.status.plan_name,
            "cron_job": cronjob_name(policy.owner),
            "active_job": active,
            "last_restore": back.last,
            "counted_restores": list(back.counted),
            "last_trigger": begun.wish or policy.status.last_trigger,
            "last_triggered_job": begun.wished or policy.status.last_triggered_job,
            "approved": taken or None,
            "approval_refused": approval.refused or None,
        }
    )
    drop = () if policy.spec.archive is not None else (conditions.ARCHIVED,)
    again_s = policy.repeats_in
    lacks_secret = policy.blocker is not None and policy.blocker.reason == conditions.SECRET_NOT_FOUND
    return Outcome(
        apply=(*_schedule(policy), *begun.objects),
        status=settled(status, policy.view.body, policy.ctx.now, standing, told, drop),
        delete=(*stopped, *leaving.finished_with(policy), *back.gone, *leaving.unused_plans(policy)),
        notes=(
            *turning_point(policy.before, standing),
            *policy.read.notes,
            *back.notes,
            *retained.turned(policy.before.conditions, [item for item in told if item.reason != standing.reason]),
            *why,
            *_told(policy, begun),
        ),
        counted=(*policy.read.facts, *back.facts),
        requeue_s=_SECRET_WAIT_S if lacks_secret else again_s if again_s is not None and again_s > 0 else None,
    )


def _impossible(
    view: PolicyView, ctx: Context, before: RetentionPolicyStatus, standing: Standing, current: str = ""
) -> Outcome:
    """Stop schedule and runs: the spec they were made from is not what is wanted, and may remove what shall stay."""
    read, active = retained.read(before, view.jobs, ""), running(view)
    stopped, why = leaving.stopped(view, current)
    if view.cronjob is not None:
        standing = replace(standing, message=f"{standing.message}; until then no run starts")
    status = read.status.model_copy(update={"active_job": active.name if active is not None else None})
    document = settled(status, view.body, ctx.now, standing)
    notes = (*turning_point(before, standing), *read.notes, *why)
    return Outcome(_stopped(view.cronjob), document, stopped, notes, read.facts)


def _standing(policy: Policy, begun: Start) -> Standing:
    """Return the first of: wrong configuration, waiting, planning, failed, suspended, awaiting approval, ready."""
    failed = retained.problem(policy.status, policy.token)
    wrong = failed is not None and failed.outcome == conditions.INVALID_CONFIGURATION
    if failed is not None and wrong and failed.configuration == policy.token:
        return stalled(failed.outcome, f"run {failed.job}: {failed.message}")
    if policy.blocker is not None:
        return waiting(policy.blocker.reason, policy.blocker.message)
    if not policy.planned:
        return _planning(policy, begun)
    if failed is not None and not wrong:
        return waiting(failed.outcome, f"run {failed.job}: {failed.message}")
    if policy.spec.suspend:
        return Standing("True", conditions.SUSPENDED, "no run starts until spec.suspend is false")
    if policy.approval.refused:
        return Standing("True", conditions.APPROVAL_REFUSED, policy.approval.refusal())
    if policy.approval.awaits is not None and begun.job is None:
        text = approving.waiting_text(policy.owner.name, policy.approval.awaits)
        return Standing("True", conditions.AWAITING_APPROVAL, text + _held_up(policy, begun))
    return Standing("True", conditions.SCHEDULED, _schedule_text(policy, begun))


def _schedule_text(policy: Policy, begun: Start) -> str:
    schedule, active = policy.spec.schedule, policy.running
    trouble = f"; Job {active.name}: {said}" if active is not None and (said := retained.trouble(active)) else ""
    plan = policy.status.plan
    steps = f"; {plan.plan_count or len(plan.plan)} step(s) planned" if plan is not None else ""
    more = f"{steps}{retained.unborn(policy.status)}{trouble}{_held_up(policy, begun)}"
    return f"runs at {schedule.cron} ({schedule.time_zone}){more}"


def _held_up(policy: Policy, begun: Start) -> str:
    """Return that what somebody asks for waits for a restore, as the end of a sentence."""
    asked = (policy.wish and not begun.wish) or (policy.approval.starts and not begun.approved)
    return f"; a run waits for restore {policy.restoring} to end" if asked and policy.restoring else ""


def _planning(policy: Policy, begun: Start) -> Standing:
    """Say that the plan of a new spec is awaited; where only a Secret or a server changed, what held still holds."""
    name = begun.job or (policy.running.name if policy.running is not None and policy.tells else policy.dry_run)
    job = next((item for item in policy.view.jobs if item.name == name), None)
    trouble = f": {said}" if job is not None and (said := retained.trouble(job)) else ""
    standing = Standing("Unknown", conditions.PLANNING, f"Job {name} makes the plan{trouble}", working=True)
    ready = conditions.find(policy.before.conditions, conditions.READY)
    same = ready is not None and ready.observed_generation == policy.generation
    return replace(standing, ready=ready.status) if ready is not None and same else standing


def _schedule(policy: Policy) -> tuple[dict[str, Any], ...]:
    """A new schedule waits for what it needs; one that is there takes up every change, a hold first of all."""
    live = policy.view.cronjob
    if policy.plan is None:
        return _stopped(live)
    if policy.blocker is not None and live is None:
        return ()
    options, runner = RetentionOptions(approved=policy.approval.digest), policy.ctx.runner
    made = retain_cronjob(policy.owner, policy.spec, policy.plan, policy.origin, runner, options)
    return plan_configmap(policy.owner, policy.plan), made


def _stopped(live: Body | None) -> tuple[dict[str, Any], ...]:
    return () if live is None or live["spec"].get("suspend") else (suspended(live),)


def _told(policy: Policy, begun: Start) -> tuple[Note, ...]:
    notes, approval = [], policy.approval
    if begun.approved:
        notes.append(Note("Normal", conditions.APPROVED, f"plan {approval.digest} is approved and carried out"))
    if approval.refused and approval.refused != policy.before.approval_refused:
        notes.append(Note("Warning", conditions.APPROVAL_REFUSED, approval.refusal()))
    return tuple(notes)
