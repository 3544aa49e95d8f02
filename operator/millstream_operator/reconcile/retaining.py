"""What a policy's Jobs need and are made from: runs, dry runs and restores; the same for the CronJob's template."""

from __future__ import annotations

import json
from typing import Any

from millstream_api import RetentionOptions, conditions
from millstream_api.meta import (
    ANNOTATION_APPROVED,
    ANNOTATION_CONFIGURATION,
    ANNOTATION_GENERATION,
    ANNOTATION_PLAN,
    PodOverrides,
)
from millstream_api.pipeline import Retries, Schedule
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_api.run_plan import RunPlan
from millstream_operator.objects.configmap import plan_name
from millstream_operator.objects.cronjob import Timing, cronjob
from millstream_operator.objects.job import job, run_spec
from millstream_operator.objects.naming import MAX_JOB_NAME, Owner, child_name, labels, short_hash
from millstream_operator.objects.podtemplate import PodRequest, RunnerDefaults, pod_template
from millstream_operator.reconcile import plans, policies
from millstream_operator.reconcile.observed import Body, PolicyView

PARTITIONED = ("postgres",)  # warehouses whose tables a policy can cut, archive and drop
LASTING = ("s3://", "gs://")  # a pod has no storage of its own that outlives it
RUN_ROLE, DRY_RUN_ROLE = "retain", "retain-dry-run"
_DRY_RUN_TIMEOUT_S = 3600  # a guess: it reads catalogs; one that hangs must not hide the plan for a day
_USUAL = RetentionOptions()


def refusal(spec: RetentionPolicySpec, view: PolicyView) -> policies.Blocker | None:
    """Return what only another spec mends: an archive that would not outlive its run, a Warehouse of the wrong type."""
    archive = spec.archive
    if archive is not None and archive.volume_claim is None and not archive.url.startswith(LASTING):
        text = (
            f"'{archive.url}' is a folder of the run's pod and goes with it; name a bucket, such as "
            "s3://bucket/prefix, or a PersistentVolumeClaim (spec.archive.volumeClaim)"
        )
        return policies.Blocker(conditions.INVALID_SPEC, f"spec.archive.url: {text}")
    kind = view.warehouse["spec"].get("type", "") if view.warehouse is not None else PARTITIONED[0]
    if kind in PARTITIONED:
        return None
    name = spec.warehouse_ref.name
    cure = f"name one of type {' or '.join(PARTITIONED)}"
    text = f"spec.warehouseRef: Warehouse '{name}' is of type '{kind}', whose tables have no partitions; {cure}"
    return policies.Blocker(conditions.UNSUPPORTED_WAREHOUSE, text)


def configured(owner: Owner, spec: RetentionPolicySpec, view: PolicyView) -> tuple[RunPlan | None, str]:
    """Return the plan and the hash of everything that a person may change to mend a run."""
    try:
        plan = plans.retention_plan(owner, spec, view.warehouse) if view.warehouse is not None else None
    except ValueError:  # the Warehouse's own status says what is wrong with its spec, and it is not Ready
        plan = None
    if plan is None or view.warehouse is None:
        return None, ""
    version = str(view.warehouse.get("status", {}).get("secretVersion", ""))
    archive = view.secret.version or "" if view.secret is not None else ""
    pod = json.dumps(spec.pod.to_json(), sort_keys=True) if spec.pod else ""
    return plan, short_hash(plan.digest(), version, archive, pod)


def blocker(spec: RetentionPolicySpec, view: PolicyView) -> policies.Blocker | None:
    """Return what a run has to wait for."""
    found = policies.warehouse_usable(spec.warehouse_ref.name, view.warehouse)
    if found is None and view.secret is not None and view.secret.version is None:
        text = f"Secret '{view.secret.name}' is not in this namespace; create it or name another"
        return policies.Blocker(conditions.SECRET_NOT_FOUND, f"spec.archive.secretRef: {text}")
    return found


def dry_run_name(policy: Owner, token: str, failed_at: str) -> str:
    """Return the name of the dry run of a configuration: one, and one more after each time it failed in passing."""
    since = [failed_at] if failed_at else []
    return child_name(f"{policy.name[:40]}-dry-run", policy.uid, "dry-run", token, *since, limit=MAX_JOB_NAME)


def wished_name(policy: Owner, wish: str, before: str) -> str:
    """Return the name of the run that the run annotation asks for; `before` is the one it asked for before, if any.

    So a value that is said again, after another one, asks for another run.
    """
    since = [before] if before else []
    return child_name(policy.name, policy.uid, "run", wish, *since, limit=MAX_JOB_NAME)


def approved_name(policy: Owner, digest: str, planned_at: str) -> str:
    """Return the name of the run that carries out an approved plan: one per plan, not per digest, which may recur."""
    return child_name(policy.name, policy.uid, "approve", digest, planned_at, limit=MAX_JOB_NAME)


def origin(generation: int, token: str, approved: str = "") -> dict[str, str]:
    """Return the annotations that say which spec, configuration and approved plan a Job is made for."""
    approval = {ANNOTATION_APPROVED: approved} if approved else {}
    return {ANNOTATION_GENERATION: str(generation), ANNOTATION_CONFIGURATION: token, **approval}


def retain_job_spec(
    policy: Owner,
    owner: Owner,
    spec: RetentionPolicySpec,
    plan: RunPlan,
    runner: RunnerDefaults,
    options: RetentionOptions = _USUAL,
) -> dict[str, Any]:
    """Return the Job spec; `owner` is the policy, or the PipelineRun that asks for a restore."""
    request = PodRequest(
        command="retain",
        plan=plan_name(policy, plan),
        labels=labels(owner, DRY_RUN_ROLE if options.dry_run else RUN_ROLE),
        secrets=plans.mounted_secrets(plan),
        claims=plans.mounted_claims(plan),
        env=options.environment(),
        overrides=spec.pod or PodOverrides(),
    )
    timeout_s = min(spec.timeout_seconds, _DRY_RUN_TIMEOUT_S) if options.dry_run else spec.timeout_seconds
    return run_spec(pod_template(request, runner), Retries().limit, timeout_s)


def retain_job(
    name: str,
    policy: Owner,
    spec: RetentionPolicySpec,
    plan: RunPlan,
    origin: dict[str, str],
    runner: RunnerDefaults,
    options: RetentionOptions = _USUAL,
) -> dict[str, Any]:
    """Return a Job of the policy itself; it carries what it is made for."""
    body = retain_job_spec(policy, policy, spec, plan, runner, options)
    return job(name, policy, body, plan_name(policy, plan), origin)


def retain_cronjob(
    policy: Owner,
    spec: RetentionPolicySpec,
    plan: RunPlan,
    origin: dict[str, str],
    runner: RunnerDefaults,
    options: RetentionOptions,
) -> dict[str, Any]:
    """Return the CronJob: one run at a time, and none while the policy is suspended."""
    schedule = Schedule(cron=spec.schedule.cron, time_zone=spec.schedule.time_zone, concurrency_policy="Forbid")
    annotations = {ANNOTATION_PLAN: plan_name(policy, plan), **origin}
    body = retain_job_spec(policy, policy, spec, plan, runner, options)
    return cronjob(policy, Timing(schedule, spec.suspend, spec.history), body, annotations)


def made_for(live: Body) -> int:
    """Return the generation of the spec that a CronJob's runs are made for."""
    annotations = live["spec"]["jobTemplate"].get("metadata", {}).get("annotations", {})
    return int(annotations.get(ANNOTATION_GENERATION, 0))
