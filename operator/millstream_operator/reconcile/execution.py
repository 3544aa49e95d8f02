"""What a run's Job is made from; the same for a manual run and for the CronJob's template."""

from __future__ import annotations

from typing import Any

from millstream_api import RunOptions
from millstream_api.meta import LABEL_PIPELINE, PodOverrides
from millstream_api.pipeline import PipelineSpec
from millstream_api.run_plan import RunPlan
from millstream_operator.objects.configmap import plan_name
from millstream_operator.objects.job import run_spec
from millstream_operator.objects.naming import Owner, label_value, labels
from millstream_operator.objects.podtemplate import PodRequest, RunnerDefaults, pod_template
from millstream_operator.reconcile.plans import mounted_secrets

SHARDS_ENV = "MILLSTREAM_SHARDS"
JITTER_ENV = "MILLSTREAM_JITTER_SECONDS"
_USUAL = RunOptions()


def run_job_spec(
    pipeline: Owner,
    owner: Owner,
    spec: PipelineSpec,
    plan: RunPlan,
    runner: RunnerDefaults,
    options: RunOptions = _USUAL,
    jitter_s: int | None = None,
) -> dict[str, Any]:
    """Return the Job spec of a run; `owner` is the Pipeline of a scheduled run, else the PipelineRun."""
    whole = options.trigger in ("backfill", "replay")  # shards cut up a stream that is read in full
    shards = 1 if whole else spec.extract.shards
    env = options.environment()
    env |= {JITTER_ENV: str(jitter_s)} if jitter_s is not None else {}
    env |= {SHARDS_ENV: str(shards)} if shards > 1 else {}
    request = PodRequest(
        command="run",
        plan=plan_name(pipeline, plan),
        labels=labels(owner, "run", {LABEL_PIPELINE: label_value(pipeline.name)}),
        secrets=mounted_secrets(plan),
        env=env,
        overrides=spec.pod or PodOverrides(),
    )
    return run_spec(pod_template(request, runner), spec.retries.limit, spec.timeout_seconds, shards)
