"""DataSource: where data come from."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from millstream_api.meta import ApiModel, ConditionedStatus, PodOverrides, SecretRef, StatusModel


class Connected(ApiModel):
    """What a DataSource and a Warehouse have in common: a plug-in, its configuration and its secret."""

    type: str = Field(
        min_length=1,
        max_length=63,
        pattern=r"^[a-z][a-z0-9_-]*$",
        description="Name of the plug-in. `millstream components` lists what the runner image has.",
    )
    config: dict[str, Any] = Field(
        default_factory=dict, description="Configuration of the plug-in; the probe validates it. No secrets here."
    )
    secret_ref: SecretRef | None = Field(default=None, description="Secret whose keys are merged into `config`.")
    pod: PodOverrides | None = Field(default=None, description="Overrides for the probe's pod.")
    probe_interval_seconds: int = Field(
        default=3600, ge=60, le=604800, description="How often the probe runs again, in seconds."
    )


class DataSourceSpec(Connected):
    """Where data come from: the plug-in `type`, its `config`, and a Secret."""


class ColumnStatus(StatusModel):
    """A column as the probe saw it."""

    name: str = Field(description="Column name.")
    type: str = Field(description="SQL type, in PostgreSQL's words.")
    nullable: bool = Field(default=True, description="Whether NULL may occur.")


class StreamStatus(StatusModel):
    """A stream (table, file set, endpoint) as the probe saw it."""

    name: str = Field(description="Stream name, as a Pipeline refers to it.")
    columns: list[ColumnStatus] = Field(default_factory=list, description="Columns; at most 100 are listed.")
    column_count: int = Field(default=0, description="How many columns the stream has.")
    primary_key: list[str] = Field(default_factory=list, description="Key columns, where the source knows them.")


class DataSourceStatus(ConditionedStatus):
    """What the last probe found."""

    stream_count: int | None = Field(default=None, description="How many streams the source offers.")
    streams: list[StreamStatus] = Field(default_factory=list, description="Streams; at most 50 are listed.")
    last_probe_time: str | None = Field(default=None, description="When the last probe ended, RFC 3339 UTC.")
    probe_hash: str | None = Field(default=None, description="Hash of what the last probe was made from.")
    probe_failures: int | None = Field(default=None, description="Probes in a row that failed and may be repeated.")
    secret_version: str | None = Field(default=None, description="Resource version of the Secret the last probe saw.")
