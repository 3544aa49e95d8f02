"""Pipeline: source, checks, load, transforms, checks, on a schedule."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from millstream_api.meta import ApiModel, ConditionedStatus, ObjectRef, PodOverrides, StatusModel
from millstream_api.schedule import Cron
from millstream_api.stream import CheckSpec, Duration, Identifier, StreamSpec, TableName


class Schedule(Cron):
    """When a Pipeline runs; the fields of a CronJob."""

    concurrency_policy: Literal["Allow", "Forbid", "Replace"] = Field(
        default="Forbid", description="What happens when a run is due while one is active; manual runs obey it too."
    )
    starting_deadline_seconds: int = Field(
        default=600,
        ge=10,
        le=604800,
        description="How late a run may start without counting as missed, in seconds; see `catchUp`.",
    )
    catch_up: Literal["none", "latest", "all"] = Field(
        default="latest",
        description="Runs missed for longer than `startingDeadlineSeconds`, after an outage: start none of them, only "
        "the latest, or all (the newest 100), one after the other. What came due while suspended is not missed.",
    )
    jitter_seconds: int = Field(
        default=0, ge=0, le=3600, description="A run starts up to this many seconds late, so that runs do not gather."
    )


class TransformSpec(ApiModel):
    """A table or view made from others by SQL; the order follows from what the SQL reads."""

    name: Identifier = Field(description="Name of the transform.")
    target: TableName = Field(description="Table or view to make, `schema.table`.")
    type: str = Field(default="sql", max_length=63, description="Name of the transform plug-in.")
    materialize: Literal["view", "table", "incremental"] = Field(
        default="view", description="A view, a table built anew and published at once, or rows merged by key."
    )
    sql: str = Field(min_length=1, max_length=50000, description="One SELECT statement.")
    primary_key: list[Identifier] = Field(
        default_factory=list, max_length=32, description="Key columns; `incremental` needs them."
    )
    checks: list[CheckSpec] = Field(default_factory=list, max_length=200, description="Set checks of the result.")

    @model_validator(mode="after")
    def _incremental_has_key(self) -> Self:
        if self.materialize == "incremental" and not self.primary_key:
            raise ValueError(f"transform '{self.name}': materialize 'incremental' needs `primaryKey`")
        return self


class Freshness(ApiModel):
    """How old the newest row may be."""

    field: Identifier = Field(description="Time column of the target, for example the time of the event.")
    max_age: Duration = Field(description="Largest age of the newest row, for example `24h`.")
    target: TableName | None = Field(default=None, description="Table to look at; empty means the first stream's.")
    severity: Literal["error", "warn"] = Field(default="warn", description="Whether stale data fail the run.")


class Extract(ApiModel):
    """How a run reads its source."""

    shards: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Pods that read one run together, each its slice of every stream; all slices publish at once. "
        "For mode full.",
    )
    max_rows_per_second: int | None = Field(
        default=None, ge=1, description="Read no faster than this, over all streams of a run."
    )


class ErrorBudget(ApiModel):
    """How many rows of a stream may be set aside before its run fails."""

    max_quarantined_ratio: float | None = Field(
        default=None, ge=0, le=1, description="Largest share of quarantined rows among rows read, 0 to 1."
    )
    max_quarantined_rows: int | None = Field(default=None, ge=0, description="Largest number of quarantined rows.")


class Retries(ApiModel):
    """How often a run that may succeed later is tried again."""

    limit: int = Field(default=3, ge=0, le=20, description="Retries after the first attempt.")
    backoff_seconds: int = Field(
        default=30,
        ge=1,
        le=3600,
        description="First wait of the command before it tries again, in seconds; it doubles. "
        "On a cluster the Job's own back-off counts: 10 s, doubling.",
    )


class History(ApiModel):
    """How many finished runs are kept."""

    successful: int = Field(default=3, ge=0, le=100, description="Successful runs to keep.")
    failed: int = Field(default=3, ge=0, le=100, description="Failed runs to keep.")


class PipelineSpec(ApiModel):
    """Source to checked rows in the warehouse."""

    source_ref: ObjectRef = Field(description="The DataSource.")
    warehouse_ref: ObjectRef = Field(description="The Warehouse.")
    schedule: Schedule | None = Field(default=None, description="When to run; empty means only on demand.")
    suspend: bool = Field(default=False, description="True stops new runs, scheduled and manual; active ones finish.")
    streams: list[StreamSpec] = Field(min_length=1, max_length=500, description="Streams to load.")
    transforms: list[TransformSpec] = Field(default_factory=list, max_length=200, description="Tables made from SQL.")
    checks: list[CheckSpec] = Field(
        default_factory=list, max_length=200, description="Set checks over tables, after the transforms."
    )
    freshness: Freshness | None = Field(default=None, description="How old the newest row may be.")
    extract: Extract = Field(default_factory=Extract, description="How a run reads its source.")
    error_budget: ErrorBudget = Field(default_factory=ErrorBudget, description="When bad rows fail a run.")
    retries: Retries = Field(default_factory=Retries, description="Retries of a run.")
    timeout_seconds: int = Field(
        default=86400, ge=60, le=2592000, description="A run that takes longer is ended and retried, in seconds."
    )
    history: History = Field(default_factory=History, description="How many finished runs are kept.")
    pod: PodOverrides | None = Field(default=None, description="Overrides for the run's pod.")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what, names in (
            ("stream", [stream.name for stream in self.streams]),
            ("target", [stream.target for stream in self.streams] + [t.target for t in self.transforms]),
            ("transform", [transform.name for transform in self.transforms]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} named twice: {', '.join(twice)}")
        for stream in self.streams if self.extract.shards > 1 else ():
            if stream.deletes.reconcile_every or (stream.mode == "full" and stream.write_disposition == "scd2"):
                raise ValueError(
                    f"stream '{stream.name}': what is gone is told from all keys, and a shard sees only its own; set "
                    "extract.shards to 1, or leave out deletes.reconcileEvery and scd2 in mode 'full'"
                )
        return self


class LastRun(StatusModel):
    """The newest finished run in short."""

    name: str = Field(description="Name of the PipelineRun.")
    outcome: str = Field(description="Succeeded, Failed, ChecksFailed or Cancelled.")
    finished_at: str | None = Field(default=None, description="When it ended, RFC 3339 UTC.")
    rows_loaded: int = Field(default=0, description="Rows loaded.")
    rows_quarantined: int = Field(default=0, description="Rows set aside.")


class CatchUp(StatusModel):
    """The scheduled times that have been looked at, and those that have yet to get their run."""

    schedule: str = Field(default="", description="Cron, time zone and `catchUp` that this is about.")
    since: str | None = Field(
        default=None, description="Times up to this one are settled, RFC 3339 UTC; empty while nothing is due."
    )
    missed: list[str] = Field(
        default_factory=list, description="Missed times whose runs have yet to start, oldest first; at most 100."
    )
    dropped: bool = Field(default=False, description="More were missed than are kept; the oldest get no run.")


class PipelineStatus(ConditionedStatus):
    """What the pipeline is doing and how its data are."""

    plan: str | None = Field(default=None, description="Name of the ConfigMap with the current RunPlan.")
    cron_job: str | None = Field(default=None, description="Name of the CronJob.")
    active_runs: list[str] = Field(default_factory=list, description="Runs that have not ended.")
    last_run: LastRun | None = Field(default=None, description="The newest finished run that was no backfill.")
    catch_up: CatchUp | None = Field(default=None, description="What `schedule.catchUp` still has to do.")
    last_trigger: str | None = Field(default=None, description="Newest value of the `millstream.dev/run` annotation.")
    rows_loaded_total: int | None = Field(default=None, description="Rows loaded by all reported runs, backfills too.")
    freshness: str | None = Field(default=None, description="Time of the newest row, RFC 3339 UTC.")
    quality: str | None = Field(default=None, description="Checks passed of checks run, in the last run.")
    counted_runs: list[str] = Field(
        default_factory=list, description="UIDs of finished runs that are in the totals; so each counts once."
    )
    guarantee: str | None = Field(default=None, description="Weakest delivery guarantee of the streams.")
