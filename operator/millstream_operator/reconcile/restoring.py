"""A PipelineRun that brings back what a RetentionPolicy has archived: what it waits for, and its Job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from millstream_api import RetentionOptions, conditions
from millstream_api.pipelinerun import PipelineRunSpec
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_api.run_plan import RunPlan
from millstream_operator.objects.configmap import plan_configmap, plan_name
from millstream_operator.objects.job import job
from millstream_operator.objects.naming import Owner, owner_of
from millstream_operator.reconcile import policies, retaining
from millstream_operator.reconcile.observed import Context, PolicyView
from millstream_operator.reconcile.runs import RunState, runs_among
from millstream_operator.reconcile.validation import Problem, parsed


@dataclass(frozen=True)
class Around:
    """The policy of a restore, as far as it is there and makes sense."""

    owner: Owner | None = None
    spec: RetentionPolicySpec | None = None
    plan: RunPlan | None = None
    token: str = ""
    blocker: policies.Blocker | None = None
    others: list[RunState] = field(default_factory=list)


def around(name: str, view: PolicyView | None) -> Around:
    """Return what a restore finds. It may start while the policy is suspended: that is when rows can stay."""
    if view is None:
        cure = "not found in this namespace; create it, or make a PipelineRun that names another"
        return Around(blocker=policies.Blocker(conditions.POLICY_NOT_FOUND, _waiting(name, cure)))
    owner = owner_of(view.body)
    others = runs_among(owner, view.restores)
    spec = parsed(RetentionPolicySpec, view.body.get("spec"))
    problem = spec if isinstance(spec, Problem) else retaining.refusal(spec, view)
    if isinstance(spec, Problem) or problem is not None:
        text = problem.message if problem is not None else ""
        blocker = policies.Blocker(conditions.POLICY_NOT_READY, _waiting(name, text))
        return Around(owner, blocker=blocker, others=others)
    plan, token = retaining.configured(owner, spec, view)
    found = retaining.blocker(spec, view) or _no_archive(name, spec) or _busy(view)
    return Around(owner, spec, plan, token, found, others)


def started(name: str, owner: Owner, spec: PipelineRunSpec, found: Around, ctx: Context) -> tuple[dict[str, Any], ...]:
    """Return the plan and the Job of a restore; `owner` is the PipelineRun."""
    if not (found.owner and found.spec and found.plan and spec.restore):
        raise AssertionError("a restore without its policy was not blocked")
    options = RetentionOptions(restore=spec.restore)
    body = retaining.retain_job_spec(found.owner, owner, found.spec, found.plan, ctx.runner, options)
    return plan_configmap(found.owner, found.plan), job(name, owner, body, plan_name(found.owner, found.plan))


def _no_archive(name: str, spec: RetentionPolicySpec) -> policies.Blocker | None:
    if spec.archive is not None:
        return None
    return policies.Blocker(conditions.POLICY_NOT_READY, _waiting(name, "it has no spec.archive to restore from"))


def _busy(view: PolicyView) -> policies.Blocker | None:
    """What a run of the policy is about to archive, and what comes back, are better not in each other's way."""
    active = next((item for item in view.jobs if item.role == retaining.RUN_ROLE and item.state == "active"), None)
    return policies.Blocker(conditions.QUEUED, f"waiting for the policy's run {active.name} to end") if active else None


def _waiting(name: str, why: str) -> str:
    return f"waiting for RetentionPolicy '{name}': {why}"
