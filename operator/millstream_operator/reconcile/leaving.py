"""What a look at a RetentionPolicy ends or deletes: runs of an older spec, history, what has no use any more."""

from __future__ import annotations

from millstream_api import conditions
from millstream_api.meta import ANNOTATION_APPROVE
from millstream_operator.objects.configmap import plan_name
from millstream_operator.reconcile import plans
from millstream_operator.reconcile.observed import JobFacts, PolicyView, generation
from millstream_operator.reconcile.outcome import Note, Ref
from millstream_operator.reconcile.retaining import DRY_RUN_ROLE, RUN_ROLE
from millstream_operator.reconcile.runs import FINISHED
from millstream_operator.reconcile.starting import Policy


def superseded(view: PolicyView, current: str) -> tuple[JobFacts, ...]:
    """Return runs of an older spec. A plan unlike `current` for another reason, say an upgrade, lets them finish."""
    return tuple(item for item in _active(view) if item.plan != current and item.generation < generation(view.body))


def unapproved(view: PolicyView) -> tuple[JobFacts, ...]:
    """Return the runs of a plan whose approval has been taken back, or given to another one, meanwhile."""
    said = view.body["metadata"].get("annotations", {}).get(ANNOTATION_APPROVE, "")
    return tuple(item for item in _active(view) if item.approved and item.approved != said)


def stopped(view: PolicyView, current: str) -> tuple[tuple[Ref, ...], tuple[Note, ...]]:
    """End both, and say why."""
    old = superseded(view, current)
    withdrawn = [item for item in unapproved(view) if item not in old]
    refs = [Ref("Job", item.namespace, item.name, item.uid, wait_for_pods=True) for item in (*old, *withdrawn)]
    return tuple(refs), (*map(_of_older_spec, old), *map(_taken_back, withdrawn))


def _active(view: PolicyView) -> list[JobFacts]:
    return [item for item in view.jobs if item.state == "active" and item.role == RUN_ROLE and not item.leaving]


def _of_older_spec(item: JobFacts) -> Note:
    text = f"run {item.name} began with an older spec and is ended; its work stays"
    return Note("Warning", conditions.SPEC_CHANGED, text)


def _taken_back(item: JobFacts) -> Note:
    text = f"the approval of plan {item.approved} is taken back: run {item.name} is ended; its work stays"
    return Note("Warning", conditions.APPROVAL_WITHDRAWN, text)


def finished_with(policy: Policy) -> tuple[Ref, ...]:
    """Return the runs beyond the history, all read, and the dry runs of what is no longer to be carried out."""
    done = sorted(
        (item for item in policy.view.jobs if item.role == RUN_ROLE and item.state != "active" and not item.leaving),
        key=lambda item: (item.finished or "", item.name),
        reverse=True,
    )
    good = [item for item in done if item.state == "succeeded"]
    bad = [item for item in done if item.state == "failed"]
    last = policy.status.last_dry_run
    current = {policy.dry_run, last.job if last is not None and last.configuration == policy.token else ""}
    stale = [item for item in policy.view.jobs if item.role == DRY_RUN_ROLE and item.name not in current]
    kept = policy.spec.history
    gone = [*good[kept.successful :], *bad[kept.failed :], *(item for item in stale if not item.leaving)]
    return tuple(Ref("Job", item.namespace, item.name, item.uid) for item in gone)


def unused_plans(policy: Policy) -> tuple[Ref, ...]:
    used = [plan_name(policy.owner, policy.plan)] if policy.plan else []
    live = policy.view.cronjob
    if live is not None:
        volumes = live["spec"]["jobTemplate"]["spec"]["template"]["spec"].get("volumes", [])
        used += [volume["configMap"]["name"] for volume in volumes if "configMap" in volume]
    used += [item.plan for item in policy.view.jobs]
    statuses = [body.get("status", {}) for body in policy.view.restores]
    used += [status.get("plan", "") for status in statuses if status.get("phase") not in FINISHED]
    return plans.unused(policy.owner.namespace, policy.view.plans, used, policy.ctx.now)
