"""The configuration of the DuckDB warehouse; apart, so that reading a manifest needs no engine."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class DuckDBConfig(BaseModel):
    """Where the database file is, and what a run may use."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    path: str = Field(
        min_length=1, description="Database file; it is made when it is not there. One process at a time."
    )
    memory_limit: str = Field(
        default="256MB",
        pattern=r"^[0-9]+(\.[0-9]+)? ?([KMGT]i?B)$",
        description="How much memory DuckDB takes before it goes to a temporary folder beside the file.",
    )
    threads: int = Field(default=2, ge=1, le=256, description="How many threads DuckDB uses.")
