"""RunPlans: what a runner gets to know, the Secrets mounted beside it, and the fingerprint of both."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from millstream_api.datasource import Connected, DataSourceSpec
from millstream_api.pipeline import History, PipelineSpec
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_api.run_plan import Endpoint, RunPlan
from millstream_api.warehouse import WarehouseSpec
from millstream_operator.objects.naming import Owner, short_hash
from millstream_operator.reconcile.observed import Body, PlanFacts, instant
from millstream_operator.reconcile.outcome import Ref

# A plan is made a moment before the Job that refers to it; until then nothing but its age protects it.
_YOUNG_S = 300


def endpoint(name: str, spec: Connected) -> Endpoint:
    """Return the DataSource or Warehouse as a runner sees it: no Secret values, only where they are mounted."""
    secret = spec.secret_ref.name if spec.secret_ref else None
    return Endpoint(name=name, type=spec.type, config=spec.config, secret_name=secret)


def run_plan(owner: Owner, spec: PipelineSpec, source: Body, warehouse: Body) -> RunPlan:
    """Return the plan of a Pipeline's run.

    How a run is scheduled and kept is no part of it: changing that must not change what runs, nor its name.
    """
    return RunPlan(
        action="run",
        namespace=owner.namespace,
        name=owner.name,
        uid=owner.uid,
        source=endpoint(source["metadata"]["name"], DataSourceSpec.model_validate(source["spec"])),
        warehouse=endpoint(warehouse["metadata"]["name"], WarehouseSpec.model_validate(warehouse["spec"])),
        pipeline=spec.model_copy(update={"schedule": None, "suspend": False, "history": History(), "pod": None}),
    )


def retention_plan(owner: Owner, spec: RetentionPolicySpec, warehouse: Body) -> RunPlan:
    """Return the plan of a policy's run; how it is scheduled and kept is no part of it."""
    return RunPlan(
        action="retain",
        namespace=owner.namespace,
        name=owner.name,
        uid=owner.uid,
        warehouse=endpoint(warehouse["metadata"]["name"], WarehouseSpec.model_validate(warehouse["spec"])),
        policy=RetentionPolicySpec.model_validate(spec.model_dump(exclude={"schedule", "suspend", "history", "pod"})),
    )


def mounted_secrets(plan: RunPlan) -> dict[str, str]:
    """Return role → Secret for the pod."""
    ends = {"source": plan.source, "warehouse": plan.warehouse}
    secrets = {role: end.secret_name for role, end in ends.items() if end is not None and end.secret_name}
    archive = plan.policy.archive if plan.policy is not None else None
    return secrets | ({"archive": archive.secret_ref.name} if archive is not None and archive.secret_ref else {})


def mounted_claims(plan: RunPlan) -> dict[str, str]:
    """Return folder → PersistentVolumeClaim for the pod."""
    archive = plan.policy.archive if plan.policy is not None else None
    return {archive.mount_path: archive.volume_claim} if archive is not None and archive.volume_claim else {}


def configuration(plan: RunPlan, source: Body, warehouse: Body) -> str:
    """Return the fingerprint of everything a person may change to mend a wrong configuration."""
    versions = [str(body.get("status", {}).get("secretVersion", "")) for body in (source, warehouse)]
    return short_hash(plan.digest(), *versions)


def unused(namespace: str, plans: Iterable[PlanFacts], used: Iterable[str], now: datetime) -> tuple[Ref, ...]:
    """Return the plans that nothing refers to any more."""
    keep = set(used)
    return tuple(
        Ref("ConfigMap", namespace, plan.name)
        for plan in plans
        if plan.name not in keep and plan.created and (now - instant(plan.created)).total_seconds() > _YOUNG_S
    )
