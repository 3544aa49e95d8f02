"""The configuration of the Parquet warehouse; apart, so that reading a manifest needs no engine."""

from __future__ import annotations

from pydantic import Field

from millstream_pipelines.storage_login import StorageLogin


class ParquetConfig(StorageLogin):
    """Where the tables are, how to log in, how large a file becomes, and what a set check may use."""

    url: str = Field(
        min_length=1,
        description="The folder of all tables: path, file:///…, s3://bucket/prefix, gs://bucket/prefix.",
    )
    file_megabytes: int = Field(
        default=256, ge=1, le=4096, description="MiB after which a file is closed and the next one begun."
    )
    commit_rows: int = Field(
        default=1_000_000,
        ge=1,
        description="Rows of an incremental stream per commit, and so per file; a minute ends one too.",
    )
    memory_limit: str = Field(
        default="96MB",
        pattern=r"^[0-9]+(\.[0-9]+)? ?([KMGT]i?B)$",
        description="How much memory a set check takes before it goes to temporary disk.",
    )
