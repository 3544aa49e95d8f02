"""A RetentionPolicy whose spec makes sense, and what starts for it now: an approved plan, a wish, a dry run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from millstream_api import RetentionOptions
from millstream_api.meta import ANNOTATION_RUN
from millstream_api.retention_report import RetentionPolicyStatus
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_api.run_plan import RunPlan
from millstream_operator.objects.configmap import plan_configmap
from millstream_operator.objects.naming import Owner
from millstream_operator.reconcile import approving, policies, repeating, retained, retaining
from millstream_operator.reconcile.observed import Context, JobFacts, PolicyView, generation
from millstream_operator.reconcile.retaining import RUN_ROLE, retain_job
from millstream_operator.reconcile.runs import runs_among


@dataclass(frozen=True)
class Policy:
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

    @property
    def origin(self) -> dict[str, str]:
        """What a Job that is made now carries with it."""
        return retaining.origin(self.generation, self.token, self.approval.digest)

    @cached_property
    def running(self) -> JobFacts | None:
        """The run that is active; dry runs change nothing and stand in nobody's way."""
        return running(self.view)

    @cached_property
    def restoring(self) -> str:
        """Name of the restore that is active: it waits for runs, and runs wait for it."""
        runs = runs_among(self.owner, self.view.restores)
        return next((run.name for run in runs if run.active), "")

    @property
    def wish(self) -> str | None:
        """The value of the run annotation, where no run has been started for it."""
        wish = self.view.body["metadata"].get("annotations", {}).get(ANNOTATION_RUN)
        return wish if wish and wish != self.status.last_trigger else None

    @property
    def dry_run(self) -> str:
        """Name of the dry run of what is now to be carried out."""
        return retaining.dry_run_name(self.owner, self.token, repeating.failed_at(self.status, self.token))

    @property
    def planned(self) -> bool:
        """Whether what is now to be carried out has been planned, or the attempt has failed."""
        last = self.status.last_dry_run
        return self.status.planned_for == self.token or (last is not None and last.configuration == self.token)

    @property
    def repeats_in(self) -> float | None:
        """Seconds until the dry run is made again; None: it is not, or is about to tell, or has to wait."""
        if self.plan is None or self.blocker is not None or self.tells or self.has(self.dry_run):
            return None
        failed = retained.problem(self.status, self.token)
        return repeating.due_in(self.status, failed, self.token, self.ctx.now)

    @property
    def tells(self) -> bool:
        """Whether the run that is active has what a run would have now, and so will report the plan."""
        return self.running is not None and bool(self.token) and self.running.configuration == self.token

    def has(self, name: str) -> bool:
        return any(item.name == name for item in self.view.jobs)

    def leaves(self, name: str) -> bool:
        return any(item.name == name and item.leaving for item in self.view.jobs)

    def made(self, name: str, options: RetentionOptions) -> tuple[dict[str, Any], ...]:
        if self.plan is None:
            raise AssertionError("a policy without a plan starts nothing")
        runner = self.ctx.runner
        job = retain_job(name, self.owner, self.spec, self.plan, self.origin, runner, options)
        return plan_configmap(self.owner, self.plan), job


def running(view: PolicyView) -> JobFacts | None:
    """Return the run that is active, of whatever spec."""
    return next((item for item in view.jobs if item.role == RUN_ROLE and item.state == "active"), None)


@dataclass(frozen=True)
class Start:
    """What starts now, and which wishes are carried out with that."""

    objects: tuple[dict[str, Any], ...] = ()
    job: str | None = None
    wish: str | None = None
    wished: str | None = None  # the Job for it
    approved: bool = False


def start(policy: Policy) -> Start:
    """Return what starts now: an approved plan, then a wish, then a dry run where no run tells the plan anyway."""
    if policy.plan is None or policy.blocker is not None:
        return Start()
    options = RetentionOptions(approved=policy.approval.digest)
    wish = policy.wish
    wished = retaining.wished_name(policy.owner, wish or "", policy.status.last_triggered_job or "")
    approved = retaining.approved_name(policy.owner, policy.approval.digest, policy.status.planned_at or "")
    if policy.approval.starts and policy.has(approved) and not policy.leaves(approved):
        return Start(approved=True)  # the status was not written after it had been made
    if wish and policy.has(wished):
        return Start(wish=wish, wished=wished)
    if policy.running is None and not policy.restoring and not policy.spec.suspend:
        if policy.approval.starts and not policy.leaves(approved):
            return Start(policy.made(approved, options), approved, approved=True)
        if wish:
            return Start(policy.made(wished, options), wished, wish, wished)
    again_s = policy.repeats_in
    known = policy.planned and (again_s is None or again_s > 0)
    if known or policy.tells or policy.has(policy.dry_run):
        return Start()
    return Start(policy.made(policy.dry_run, options.model_copy(update={"dry_run": True})))
