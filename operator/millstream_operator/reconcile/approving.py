"""Manual approval: which digest runs may act on, whether one starts a run now, and why another is refused."""

from __future__ import annotations

from dataclasses import dataclass

from millstream_api import RetentionReport
from millstream_api.meta import ANNOTATION_APPROVE
from millstream_api.retention_report import RetentionPolicyStatus
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_operator.reconcile.observed import Body


@dataclass(frozen=True)
class Approval:
    """Where the approval of a policy stands."""

    digest: str = ""  # in force: handed to every run, which knows the steps that it stands for
    starts: bool = False  # it names the current plan and no run has been started for it
    refused: str = ""  # the annotation's value, where it names another plan
    awaits: RetentionReport | None = None  # the plan that waits for somebody

    def refusal(self) -> str:
        """Return why the annotation's value is refused, and what to do."""
        text = f"approval '{self.refused[:64]}' is not the digest of the current plan"
        if self.awaits is None:
            return f"{text}; nothing waits for approval, so remove the annotation {ANNOTATION_APPROVE}"
        return f"{text}, which is '{self.awaits.digest}': look at status.plan, then set {ANNOTATION_APPROVE} to that"


def approval(spec: RetentionPolicySpec, status: RetentionPolicyStatus, body: Body, current: bool) -> Approval:
    """Decide. `current` says whether status.plan was made from the spec as it now is: no other can be approved."""
    if spec.approval != "manual":
        return Approval()
    said = body["metadata"].get("annotations", {}).get(ANNOTATION_APPROVE, "")
    plan = status.plan if current and status.plan is not None and status.plan.digest else None
    if not said:
        return Approval(awaits=plan)
    if said == status.approved:  # taken up before; what is left of it when a run was cut short has another digest
        new = plan if plan is not None and plan.digest != said and not plan.approved else None
        return Approval(said, awaits=new)
    if plan is not None and plan.digest == said:
        return Approval(said, starts=True)
    if not current:  # the plan is being made: what is said may be its digest
        return Approval(awaits=plan)
    return Approval(refused=said, awaits=plan)


def waiting_text(name: str, plan: RetentionReport) -> str:
    """Return what waits and how to approve it."""
    steps = f"{plan.plan_count or len(plan.plan)} step(s)"
    size = f", {_in_units(plan.bytes)} leave the warehouse" if plan.bytes else ""
    size += f", which saves {plan.saving} a month" if plan.bytes and plan.saving else ""
    command = f"kubectl annotate rp/{name} {ANNOTATION_APPROVE}={plan.digest} --overwrite"
    return f"plan {plan.digest} ({steps}{size}) waits for approval: look at status.plan, then {command}"


def _in_units(size_bytes: int) -> str:
    size, units = float(size_bytes), ["B", "KiB", "MiB", "GiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:,.0f} {units[0]}"
