"""PipelineRun: one execution of a Pipeline, or a restore of what a RetentionPolicy has archived."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from millstream_api.meta import ConditionedStatus, ObjectRef
from millstream_api.retention_options import Restore
from millstream_api.run_options import RunOptions
from millstream_api.run_report import CheckResult, Drift, StreamReport

Phase = Literal["Queued", "Running", "Succeeded", "Failed", "ChecksFailed", "Cancelled"]


class PipelineRunSpec(RunOptions):
    """What to run, why and how. Immutable but for `cancel`."""

    pipeline_ref: ObjectRef | None = Field(default=None, description="The Pipeline to run; none for a restore.")
    policy_ref: ObjectRef | None = Field(
        default=None, description="The RetentionPolicy whose archives come back, for trigger `restore`."
    )
    restore: Restore | None = Field(default=None, description="What comes back, for trigger `restore`.")
    scheduled_for: str | None = Field(
        default=None, max_length=40, description="The scheduled time this run is for, RFC 3339 UTC; the operator's."
    )
    cancel: bool = Field(default=False, description="True ends the run; committed chunks stay.")

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if (self.pipeline_ref is None) == (self.policy_ref is None):
            raise ValueError("give `pipelineRef` or, with trigger 'restore', `policyRef`; one of them")
        restoring = self.trigger == "restore"
        if (self.policy_ref is not None) != restoring or (self.restore is not None) != restoring:
            raise ValueError("`policyRef`, `restore` and trigger 'restore' go together: give all or none")
        if restoring and (self.streams or self.full_refresh or self.max_rows_per_second is not None):
            raise ValueError("`streams`, `fullRefresh` and `maxRowsPerSecond` do not go with trigger 'restore'")
        return self


class PipelineRunStatus(ConditionedStatus):
    """How the run went."""

    phase: Phase | None = Field(default=None, description="Where the run stands.")
    job: str | None = Field(default=None, description="Name of the Job.")
    plan: str | None = Field(default=None, description="Name of the ConfigMap with the RunPlan that ran.")
    started_at: str | None = Field(default=None, description="When the Job started, RFC 3339 UTC.")
    finished_at: str | None = Field(default=None, description="When the Job ended, RFC 3339 UTC.")
    duration_seconds: float | None = Field(default=None, description="How long it took, in seconds.")
    attempts: int | None = Field(
        default=None, description="Pods that were started; of a sharded run, those beyond one per shard, plus one."
    )
    exit_code: int | None = Field(default=None, description="0 done, 65 checks failed, 75 retriable, 78 configuration.")
    shards: int | None = Field(default=None, description="Pods that read the run together, where more than one.")
    intervals_done: int | None = Field(default=None, description="Intervals of the window that are committed.")
    intervals_total: int | None = Field(default=None, description="Intervals of the window.")
    progress: str | None = Field(
        default=None, description="Intervals, or shards, done of all, as far as an ended pod has told; such as `12/31`."
    )
    rows_read: int | None = Field(default=None, description="Rows read from the source.")
    rows_loaded: int | None = Field(default=None, description="Rows written to the targets.")
    rows_quarantined: int | None = Field(default=None, description="Rows set aside.")
    rows_duplicate: int | None = Field(default=None, description="Rows with the key of a later row.")
    rows_filtered: int | None = Field(default=None, description="Rows the filter left out.")
    rows_deleted: int | None = Field(
        default=None, description="Rows taken out of the targets, or whose validity ended; no part of the sum."
    )
    bytes_read: int | None = Field(default=None, description="Bytes read from the source, as Arrow.")
    guarantee: str | None = Field(default=None, description="Weakest delivery guarantee of the streams.")
    freshness: str | None = Field(default=None, description="Time of the newest row, RFC 3339 UTC.")
    checks_run: int | None = Field(default=None, description="Checks that ran.")
    checks_passed: int | None = Field(default=None, description="Checks that passed.")
    configuration: str | None = Field(
        default=None, description="Hash of the plan and the Secrets' versions: whether a fix came after this run."
    )
    streams: list[StreamReport] = Field(default_factory=list, description="Per stream; at most 20 are listed.")
    checks: list[CheckResult] = Field(default_factory=list, description="Checks that did not pass; at most 20.")
    drift: list[Drift] = Field(
        default_factory=list, description="Changes of the source's shape that the run met; at most 20."
    )
    drift_count: int | None = Field(default=None, description="How many there were, listed or not.")
