"""RetentionPolicy: its schedule, the dry run of a new spec, the run annotation, approval, history.

What a run removes does not come back by itself, so no run ever goes on with a spec that is no longer the current one:
a schedule whose spec cannot be carried out is suspended, a run that began with an older spec is ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from millstream_api import RetentionOptions, conditions
from millstream_api.meta import ANNOTATION_RUN
from millstream_api.retention_report import RetentionPolicyStatus
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_api.run_plan import RunPlan
from millstream_operator.objects.configmap import plan_configmap, plan_name
from millstream_operator.objects.cronjob import cronjob_name, suspended
from millstream_operator.objects.naming import Owner, owner_of
from millstream_operator.reconcile import approving, plans, policies, restored, retained, retaining
from millstream_operator.reconcile.observed import Body, Context, JobFacts, PolicyView, generation
from millstream_operator.reconcile.outcome import Note, Outcome, Ref
from millstream_operator.reconcile.retaining import DRY_RUN_ROLE, RUN_ROLE, retain_cronjob, retain_job
from millstream_operator.reconcile.runs import FINISHED
from millstream_operator.reconcile.standing import Standing, settled, stalled, status_of, turning_point, waiting
from millstream_operator.reconcile.validation import Problem, parsed

_SECRET_WAIT_S = 30  # Secrets are not watched (we want no right to list them), so we look again


@dataclass(frozen=True)
class _Policy:
    """A policy whose spec makes sense."""

    view: PolicyView
    ctx: Context
    owner: Owner
    spec: RetentionPolicySpec
    before: RetentionPolicyStatus  # as last written
    read: retained.Read  # with what has ended since
    plan: RunPlan | None  # None while there is nothing that could be carried out
    token: str
    blocker: policies.Blocker | None
    approval: approving.Approval

    @property
    def status(self) -> RetentionPolicyStatus:
        return self.read.status

    @property
    def generation(self) -> int:
        return generation(self.view.body)

    @cached_property
    def running(self) -> JobFacts | None:
        """The run that is active; dry runs change nothing and stand in nobody's way."""
        return next((item for item in self.view.jobs if item.role == RUN_ROLE and item.state == "active"), None)

    @property
    def dry_run(self) -> str:
        """Name of the dry run of what is now to be carried out."""
        return retaining.dry_run_name(self.owner, self.token)

    @property
    def planned(self) -> bool:
        """Whether what is now to be carried out has been planned, or the attempt has failed."""
        last = self.status.last_dry_run
        return self.status.planned_for == self.token or (last is not None and last.job == self.dry_run)

    @property
    def tells(self) -> bool:
        """Whether the run that is active is one of the current plan, and so will report it."""
        return (
            self.running is not None and self.plan is not None and self.running.plan == plan_name(self.owner, self.plan)
        )

    def has(self, name: str) -> bool:
        return any(item.name == name for item in self.view.jobs)

    def made(self, name: str, options: RetentionOptions) -> tuple[dict[str, Any], ...]:
        if self.plan is None:
            raise AssertionError("a policy without a plan starts nothing")
        runner = self.ctx.runner
        job = retain_job(name, self.owner, self.spec, self.plan, self.generation, runner, options)
        return plan_configmap(self.owner, self.plan), job


@dataclass(frozen=True)
class _Start:
    """What starts now, and which wishes are carried out with that."""

    objects: tuple[dict[str, Any], ...] = ()
    job: str | None = None
    wish: str | None = None
    approved: bool = False


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
    read = retained.read(before, view.jobs, plan_name(owner, plan) if plan else "", token)
    current = bool(token) and read.status.planned_for == token
    approval = approving.approval(spec, read.status, view.body, current)
    gate = retaining.blocker(spec, view)
    return _conclude(_Policy(view, ctx, owner, spec, before, read, plan, token, gate, approval))


def _conclude(policy: _Policy) -> Outcome:
    start, superseded = _start(policy), _superseded(policy)
    standing = _standing(policy, start)
    told = retained.domain(policy.spec, policy.status, policy.token)
    back = restored.restored(policy.owner, policy.spec.history, policy.before.last_restore, policy.view.restores)
    approval, known = policy.approval, policy.before.approved
    taken = approval.digest if start.approved or approval.digest == known else None
    active = policy.running.name if policy.running is not None else start.job
    status = policy.status.model_copy(
        update={
            "plan_name": plan_name(policy.owner, policy.plan) if policy.plan else policy.status.plan_name,
            "cron_job": cronjob_name(policy.owner),
            "active_job": active,
            "last_restore": back.last,
            "last_trigger": start.wish or policy.status.last_trigger,
            "approved": taken or None,
            "approval_refused": approval.refused or None,
        }
    )
    drop = () if policy.spec.archive is not None else (conditions.ARCHIVED,)
    lacks_secret = policy.blocker is not None and policy.blocker.reason == conditions.SECRET_NOT_FOUND
    return Outcome(
        apply=(*_schedule(policy), *start.objects),
        status=settled(status, policy.view.body, policy.ctx.now, standing, told, drop),
        delete=(*superseded, *_finished_with(policy), *back.gone, *_unused_plans(policy)),
        notes=(
            *turning_point(policy.before, standing),
            *policy.read.notes,
            *back.notes,
            *retained.turned(policy.before.conditions, [item for item in told if item.reason != standing.reason]),
            *_told(policy, start, superseded),
        ),
        counted=(*policy.read.facts, *back.facts),
        requeue_s=_SECRET_WAIT_S if lacks_secret else None,
    )


def _impossible(view: PolicyView, ctx: Context, before: RetentionPolicyStatus, standing: Standing) -> Outcome:
    """Stop the schedule: the spec it was made from is not what is wanted, and it may remove what shall stay."""
    read = retained.read(before, view.jobs, "", "")
    if view.cronjob is not None:
        standing = replace(standing, message=f"{standing.message}; until then no run starts")
    document = settled(read.status, view.body, ctx.now, standing)
    return Outcome(_stopped(view.cronjob), document, notes=turning_point(before, standing), counted=read.facts)


def _standing(policy: _Policy, start: _Start) -> Standing:
    """Return the first of: wrong configuration, waiting, planning, failed, suspended, awaiting approval, ready."""
    failed = retained.problem(policy.status, policy.token)
    wrong = failed is not None and failed.outcome == conditions.INVALID_CONFIGURATION
    if failed is not None and wrong and failed.configuration == policy.token:
        return stalled(failed.outcome, f"run {failed.job}: {failed.message}")
    if policy.blocker is not None:
        return waiting(policy.blocker.reason, policy.blocker.message)
    if not policy.planned:
        return _planning(policy, start)
    if failed is not None and not wrong:
        return waiting(failed.outcome, f"run {failed.job}: {failed.message}")
    if policy.spec.suspend:
        return Standing("True", conditions.SUSPENDED, "no run starts until spec.suspend is false")
    if policy.approval.refused:
        return Standing("True", conditions.APPROVAL_REFUSED, policy.approval.refusal())
    if policy.approval.awaits is not None and start.job is None:
        text = approving.waiting_text(policy.owner.name, policy.approval.awaits)
        return Standing("True", conditions.AWAITING_APPROVAL, text)
    schedule, active = policy.spec.schedule, policy.running
    trouble = f"; Job {active.name}: {said}" if active is not None and (said := retained.trouble(active)) else ""
    plan = policy.status.plan
    steps = f"; {plan.plan_count or len(plan.plan)} step(s) planned" if plan is not None else ""
    text = f"runs at {schedule.cron} ({schedule.time_zone}){steps}{retained.unborn(policy.status)}{trouble}"
    return Standing("True", conditions.SCHEDULED, text)


def _planning(policy: _Policy, start: _Start) -> Standing:
    """Say that the plan of a new spec is awaited; where only a Secret or a server changed, what held still holds."""
    name = start.job or (policy.running.name if policy.running is not None and policy.tells else policy.dry_run)
    job = next((item for item in policy.view.jobs if item.name == name), None)
    trouble = f": {said}" if job is not None and (said := retained.trouble(job)) else ""
    standing = Standing("Unknown", conditions.PLANNING, f"Job {name} makes the plan{trouble}", working=True)
    ready = conditions.find(policy.before.conditions, conditions.READY)
    same = ready is not None and ready.observed_generation == policy.generation
    return replace(standing, ready=ready.status) if ready is not None and same else standing


def _schedule(policy: _Policy) -> tuple[dict[str, Any], ...]:
    """A new schedule waits for what it needs; one that is there takes up every change, a hold first of all."""
    live = policy.view.cronjob
    if policy.plan is None:
        return _stopped(live)
    if policy.blocker is not None and live is None:
        return ()
    options, runner = RetentionOptions(approved=policy.approval.digest), policy.ctx.runner
    made = retain_cronjob(policy.owner, policy.spec, policy.plan, policy.generation, runner, options)
    return plan_configmap(policy.owner, policy.plan), made


def _stopped(live: Body | None) -> tuple[dict[str, Any], ...]:
    return () if live is None or live["spec"].get("suspend") else (suspended(live),)


def _start(policy: _Policy) -> _Start:
    """Return what starts now: an approved plan, then a wish, then a dry run where no run tells the plan anyway."""
    if policy.plan is None or policy.blocker is not None:
        return _Start()
    options = RetentionOptions(approved=policy.approval.digest)
    wish = policy.view.body["metadata"].get("annotations", {}).get(ANNOTATION_RUN)
    wish = wish if wish and wish != policy.status.last_trigger else None
    wished = retaining.wished_name(policy.owner, wish or "")
    approved = retaining.approved_name(policy.owner, policy.approval.digest, policy.status.planned_at or "")
    if policy.approval.starts and policy.has(approved):  # the status was not written after it had been made
        return _Start(approved=True)
    if wish and policy.has(wished):
        return _Start(wish=wish)
    if policy.running is None and not policy.spec.suspend:
        if policy.approval.starts:
            return _Start(policy.made(approved, options), approved, approved=True)
        if wish:
            return _Start(policy.made(wished, options), wished, wish)
    if policy.planned or policy.tells or policy.has(policy.dry_run):
        return _Start()
    return _Start(policy.made(policy.dry_run, RetentionOptions(dry_run=True)))


def _superseded(policy: _Policy) -> tuple[Ref, ...]:
    """End runs of an older spec. A plan that differs for another reason, such as an upgrade, lets them finish."""
    if policy.plan is None:
        return ()
    current = plan_name(policy.owner, policy.plan)
    return tuple(
        Ref("Job", item.namespace, item.name, item.uid, wait_for_pods=True)
        for item in policy.view.jobs
        if item.state == "active" and item.role == RUN_ROLE and not item.leaving
        if item.plan != current and item.generation < policy.generation
    )


def _told(policy: _Policy, start: _Start, superseded: Sequence[Ref]) -> tuple[Note, ...]:
    notes = [
        Note(
            "Warning", conditions.SPEC_CHANGED, f"run {ref.name} began with an older spec and is ended; its work stays"
        )
        for ref in superseded
    ]
    approval = policy.approval
    if start.approved:
        notes.append(Note("Normal", conditions.APPROVED, f"plan {approval.digest} is approved and carried out"))
    if approval.refused and approval.refused != policy.before.approval_refused:
        notes.append(Note("Warning", conditions.APPROVAL_REFUSED, approval.refusal()))
    return tuple(notes)


def _finished_with(policy: _Policy) -> tuple[Ref, ...]:
    """Return the runs beyond the history, all read, and the dry runs of what is no longer to be carried out."""
    done = sorted(
        (item for item in policy.view.jobs if item.role == RUN_ROLE and item.state != "active" and not item.leaving),
        key=lambda item: (item.finished or "", item.name),
        reverse=True,
    )
    good = [item for item in done if item.state == "succeeded"]
    bad = [item for item in done if item.state == "failed"]
    stale = [item for item in policy.view.jobs if item.role == DRY_RUN_ROLE and item.name != policy.dry_run]
    kept = policy.spec.history
    gone = [*good[kept.successful :], *bad[kept.failed :], *(item for item in stale if not item.leaving)]
    return tuple(Ref("Job", item.namespace, item.name, item.uid) for item in gone)


def _unused_plans(policy: _Policy) -> tuple[Ref, ...]:
    used = [plan_name(policy.owner, policy.plan)] if policy.plan else []
    live = policy.view.cronjob
    if live is not None:
        volumes = live["spec"]["jobTemplate"]["spec"]["template"]["spec"].get("volumes", [])
        used += [volume["configMap"]["name"] for volume in volumes if "configMap" in volume]
    used += [item.plan for item in policy.view.jobs]
    statuses = [body.get("status", {}) for body in policy.view.restores]
    used += [status.get("plan", "") for status in statuses if status.get("phase") not in FINISHED]
    return plans.unused(policy.owner.namespace, policy.view.plans, used, policy.ctx.now)
