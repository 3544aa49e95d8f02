"""RetentionPolicy: partitions made ahead, how long rows stay, where they go."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from millstream_api.meta import ApiModel, ConditionedStatus, ObjectRef, PodOverrides, SecretRef
from millstream_api.stream import Identifier, TableName

CalendarSpan = Annotated[
    str, StringConstraints(max_length=32, pattern=r"^[1-9][0-9]* (hour|day|week|month|quarter|year)s?$")
]
Day = Annotated[str, StringConstraints(max_length=10, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]


class PartitionBy(ApiModel):
    """How a table is cut."""

    column: Identifier = Field(description="Column of time, date or integer type.")
    interval: CalendarSpan = Field(description="Width of a partition, for example `1 month`.")
    time_zone: str = Field(default="Etc/UTC", max_length=64, description="IANA time zone the bounds are computed in.")
    premake: int = Field(default=3, ge=1, le=100, description="Partitions made ahead of the current one.")


class RetainedTable(ApiModel):
    """A table the policy owns."""

    name: TableName = Field(description="Table, `schema.table`.")
    partition_by: PartitionBy | None = Field(default=None, description="How the table is cut.")


class Keep(ApiModel):
    """How long rows stay; the first limit that is reached counts."""

    age: CalendarSpan | None = Field(default=None, description="Largest age, for example `13 months`.")
    size: str | None = Field(default=None, max_length=32, description="Largest size, for example `200Gi`.")
    rows: int | None = Field(default=None, ge=1, description="Largest number of rows.")


class Archive(ApiModel):
    """Where expired partitions go before they are dropped."""

    url: str = Field(min_length=1, max_length=1024, description="`s3://bucket/prefix`, `gs://…` or `file:///…`.")
    endpoint: str | None = Field(default=None, max_length=1024, description="S3-compatible endpoint.")
    secret_ref: SecretRef | None = Field(default=None, description="Secret with the store's credentials.")
    format: Literal["parquet"] = Field(default="parquet", description="File format.")
    keep: Keep | None = Field(default=None, description="How long archives stay; empty means for ever.")


class Hold(ApiModel):
    """A range that nothing may remove."""

    name: Identifier = Field(description="Name of the hold, for example a case number.")
    table: TableName = Field(description="Table that is held.")
    from_: Day = Field(alias="from", description="First day held.")
    to: Day = Field(description="First day no longer held.")


class RetentionPolicySpec(ApiModel):
    """The life cycle of tables: cut, keep, archive, drop."""

    warehouse_ref: ObjectRef = Field(description="The Warehouse that holds the tables.")
    tables: list[RetainedTable] = Field(min_length=1, max_length=500, description="Tables the policy owns.")
    keep: Keep = Field(default_factory=Keep, description="How long rows stay.")
    archive: Archive | None = Field(default=None, description="Where rows go first; empty means they are dropped.")
    grace: CalendarSpan = Field(default="7 days", description="How long a detached partition stays before the drop.")
    holds: list[Hold] = Field(default_factory=list, max_length=500, description="Ranges that nothing may remove.")
    schedule: str = Field(default="30 2 * * *", max_length=100, description="Five cron fields.")
    time_zone: str = Field(default="Etc/UTC", max_length=64, description="IANA time zone of the schedule.")
    approval: Literal["automatic", "manual"] = Field(
        default="automatic", description="`manual`: nothing irreversible until the plan's digest is approved."
    )
    suspend: bool = Field(default=False, description="True stops new runs.")
    pod: PodOverrides | None = Field(default=None, description="Overrides for the run's pod.")


class RetentionPolicyStatus(ConditionedStatus):
    """What the policy did last."""
