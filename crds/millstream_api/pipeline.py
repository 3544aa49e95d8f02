"""Pipeline: source, checks, load, transforms, checks, on a schedule."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic.alias_generators import to_camel

from millstream_api.meta import ApiModel, ConditionedStatus, ObjectRef, PodOverrides, StatusModel

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=63)]
TableName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=127, pattern=r"^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?$"),
]
Duration = Annotated[str, StringConstraints(max_length=32, pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$")]


class Schedule(ApiModel):
    """When a Pipeline runs; the fields of a CronJob."""

    cron: str = Field(
        max_length=100,
        pattern=r"^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|\S+ +\S+ +\S+ +\S+ +\S+)$",
        description="Five cron fields (minute hour day month weekday) or a macro such as `@hourly`.",
    )
    time_zone: str = Field(
        default="Etc/UTC",
        max_length=64,
        pattern=r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$",
        description="IANA time zone of the cron fields, for example `America/New_York`.",
    )
    concurrency_policy: Literal["Allow", "Forbid", "Replace"] = Field(
        default="Forbid", description="What happens when a run is due while one is active; manual runs obey it too."
    )
    starting_deadline_seconds: int = Field(
        default=600, ge=10, le=604800, description="How late a missed run may still start, in seconds."
    )
    jitter_seconds: int = Field(
        default=0, ge=0, le=3600, description="A run starts up to this many seconds late, so that runs do not gather."
    )

    @field_validator("cron")
    @classmethod
    def _due_some_day(cls, cron: str) -> str:
        if cron.startswith("@"):
            return cron
        try:
            CronSim(cron, datetime(2000, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise ValueError(
                f"'{cron}' is no cron expression ({error}); write five fields, e.g. '*/15 * * * *'"
            ) from error
        return cron

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"'{zone}' is no IANA time zone; write one such as 'Europe/Berlin' or 'Etc/UTC'"
            ) from error
        return zone


class Cursor(ApiModel):
    """The column an incremental read goes by."""

    field: Identifier = Field(description="A column that only grows, such as an id or a time of change.")
    lag: Duration | None = Field(default=None, description="Read again this much before the last cursor; needs merge.")


class Contract(ApiModel):
    """What happens when the source's shape changes."""

    columns: Literal["evolve", "freeze", "discard"] = Field(
        default="evolve", description="A new column: add it, fail the run, or leave it out."
    )
    types: Literal["freeze", "evolve"] = Field(
        default="freeze", description="A changed type: keep the target's type, or widen it where nothing is lost."
    )
    rows: Literal["quarantine", "freeze", "discard"] = Field(
        default="quarantine", description="A row that does not fit: set it aside, fail the run, or drop it (counted)."
    )


class ColumnSpec(ApiModel):
    """One column of the target: taken, renamed, cast, computed or masked."""

    name: Identifier = Field(description="Column name in the target.")
    source: Identifier | None = Field(default=None, description="Column name in the source; empty means the same.")
    type: str | None = Field(
        default=None, max_length=100, description="SQL type in PostgreSQL's words, for example `numeric(12,2)`."
    )
    expression: str | None = Field(
        default=None, max_length=10000, description="SQL expression over the source's columns (DuckDB's functions)."
    )
    mask: Literal["hash", "redact"] | None = Field(
        default=None, description="`hash` keeps equality (keyed SHA-256), `redact` keeps only NULL or not."
    )
    drop: bool = Field(default=False, description="Leave this column out of the target.")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.expression is not None and self.source is not None:
            raise ValueError(f"column '{self.name}': give `source` or `expression`, not both")
        return self


class CheckSpec(ApiModel):
    """A check: the plug-in's `type` and its own fields beside it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")

    type: str = Field(
        min_length=1, max_length=63, pattern=r"^[a-z][a-z0-9_]*$", description="Name of the check plug-in."
    )
    severity: Literal["error", "warn"] = Field(
        default="error",
        description="`error` sets the row aside (a row check) or fails the run (a set check); `warn` only counts.",
    )
    name: Identifier | None = Field(default=None, description="Name in reports; empty means type and columns.")

    def parameters(self) -> dict[str, Any]:
        """Return the plug-in's own fields, as written."""
        return dict(self.model_extra or {})


class StreamSpec(ApiModel):
    """One stream of the source and the table it goes to."""

    name: str = Field(min_length=1, max_length=253, description="Stream name, as the source's probe lists it.")
    target: TableName = Field(description="Target table, `schema.table`.")
    mode: Literal["full", "incremental"] = Field(
        default="full", description="Read everything each time, or only what is new."
    )
    cursor: Cursor | None = Field(default=None, description="What an incremental read goes by.")
    primary_key: list[Identifier] = Field(default_factory=list, max_length=32, description="Key columns of the target.")
    write_disposition: Literal["append", "replace", "merge"] = Field(
        default="append", description="Add rows, replace the table at once, or insert and update by key."
    )
    contract: Contract = Field(default_factory=Contract, description="What happens when the source's shape changes.")
    columns: list[ColumnSpec] = Field(
        default_factory=list,
        max_length=1600,
        description="Columns to rename, cast, compute, mask or drop. Columns not named here pass as they are.",
    )
    select: list[Identifier] = Field(
        default_factory=list, max_length=1600, description="Take only these columns of the source; empty means all."
    )
    filter: str | None = Field(
        default=None, max_length=10000, description="SQL condition; rows where it is not true are counted as filtered."
    )
    checks: list[CheckSpec] = Field(default_factory=list, max_length=200, description="Checks of this stream's rows.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.write_disposition == "merge" and not self.primary_key:
            raise ValueError(f"stream '{self.name}': writeDisposition 'merge' needs `primaryKey`")
        if self.write_disposition == "replace" and self.mode == "incremental":
            raise ValueError(f"stream '{self.name}': writeDisposition 'replace' needs mode 'full'")
        if self.cursor and self.cursor.lag and self.write_disposition != "merge":
            raise ValueError(f"stream '{self.name}': cursor.lag reads rows again and needs writeDisposition 'merge'")
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"stream '{self.name}': columns named twice: {', '.join(twice)}")
        return self


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
    """How many finished PipelineRuns are kept."""

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
        return self


class LastRun(StatusModel):
    """The newest finished run in short."""

    name: str = Field(description="Name of the PipelineRun.")
    outcome: str = Field(description="Succeeded, Failed, ChecksFailed or Cancelled.")
    finished_at: str | None = Field(default=None, description="When it ended, RFC 3339 UTC.")
    rows_loaded: int = Field(default=0, description="Rows loaded.")
    rows_quarantined: int = Field(default=0, description="Rows set aside.")


class PipelineStatus(ConditionedStatus):
    """What the pipeline is doing and how its data are."""

    plan: str | None = Field(default=None, description="Name of the ConfigMap with the current RunPlan.")
    cron_job: str | None = Field(default=None, description="Name of the CronJob.")
    active_runs: list[str] = Field(default_factory=list, description="Runs that have not ended.")
    last_run: LastRun | None = Field(default=None, description="The newest finished run.")
    last_trigger: str | None = Field(default=None, description="Newest value of the `millstream.dev/run` annotation.")
    rows_loaded_total: int | None = Field(default=None, description="Rows loaded by all reported runs.")
    freshness: str | None = Field(default=None, description="Time of the newest row, RFC 3339 UTC.")
    quality: str | None = Field(default=None, description="Checks passed of checks run, in the last run.")
    counted_runs: list[str] = Field(
        default_factory=list, description="UIDs of finished runs that are in the totals; so each counts once."
    )
    guarantee: str | None = Field(default=None, description="Weakest delivery guarantee of the streams.")
