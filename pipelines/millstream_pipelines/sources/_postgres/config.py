"""Configuration of the source `postgres`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

_CAMEL = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid")
TypeName = Annotated[str, StringConstraints(max_length=100, pattern=r'^[A-Za-z_"][\w .,()"\[\]]*$')]


class PostgresStream(BaseModel):
    """A stream beside the tables found: a query, or a table under another name or with other types."""

    model_config = _CAMEL
    name: str = Field(min_length=1, max_length=253, description="Name of the stream.")
    table: str | None = Field(default=None, description="Table or view, `schema.table`. Give this or `query`.")
    query: str | None = Field(default=None, description="One SELECT without a semicolon; it runs read-only.")
    primary_key: list[str] = Field(
        default_factory=list, description="Columns that identify a row. Empty: the table's own primary key, if any."
    )
    columns: dict[str, TypeName] = Field(
        default_factory=dict,
        description=(
            "Column → SQL type it is cast to at the source, for example {valid_until: text} to keep `infinity`, which "
            "a timestamp in a batch cannot hold."
        ),
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError(f"stream '{self.name}': give `table` or `query`, one of them")
        return self


class PostgresConfig(BaseModel):
    """Where the server is, what is read, and how long to wait for it."""

    model_config = _CAMEL
    host: str = Field(min_length=1, description="Host name, address, or directory of a socket.")
    port: int = Field(default=5432, ge=1, le=65535, description="Port.")
    database: str = Field(min_length=1, description="Database name.")
    user: str | None = Field(default=None, description="Role; usually a key of the Secret.")
    password: SecretStr | None = Field(default=None, description="Password; a key of the Secret.")
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        default="prefer", description="TLS as libpq names it; `verify-full` also checks the host's name."
    )
    options: dict[str, str] = Field(
        default_factory=dict, description="Further libpq connection parameters, for example {sslrootcert: /path}."
    )
    connect_timeout_seconds: int = Field(default=10, ge=2, le=600, description="Seconds a connection may take.")
    network_timeout_seconds: int = Field(
        default=120,
        ge=2,
        le=3600,
        description="Seconds the network may swallow what is sent before the connection counts as lost.",
    )
    statement_timeout_seconds: float = Field(
        default=0, ge=0, le=604800, description="Seconds one statement may run; 0 means no limit: big tables take time."
    )
    schemas: list[str] = Field(
        default_factory=list, description="Schemas whose tables are streams. Empty: all except the system's."
    )
    streams: list[PostgresStream] = Field(
        default_factory=list, description="Streams beside the tables found; the same name replaces the table found."
    )
    row_security: bool = Field(
        default=False,
        description="true: read what row level security shows. false: refuse a table where it would hide rows.",
    )
    wait_for_writers_seconds: float = Field(
        default=60,
        ge=0,
        le=3600,
        description="Incremental: seconds to wait for transactions that may still commit values below the cursor.",
    )
    cursor_time_zone: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z][A-Za-z0-9_+/-]*$",
        description=(
            "Time zone in which writers fill cursors of type timestamp or date, for example `UTC`. Empty: unknown, so "
            "reads wait longer (timestamp) or stop at the last day that has ended everywhere (date)."
        ),
    )
    trust_cursor_order: bool = Field(
        default=False,
        description=(
            "true: read a cursor although its order cannot be made sure (a replica, a subscription, a materialized "
            "view, a sequence with CACHE). Rows may then be missed."
        ),
    )


__all__ = ["PostgresConfig", "PostgresStream"]
