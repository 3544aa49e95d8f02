"""The configuration of `files`: one place (`url`), and the streams in it."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic.alias_generators import to_camel

from millstream_pipelines.batch import MAX_BATCH_ROWS
from millstream_pipelines.storage_login import StorageLogin

_CAMEL = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid")

Format = Literal["csv", "tsv", "json", "ndjson", "parquet"]
_OneCharacter = Annotated[str, StringConstraints(min_length=1, max_length=1)]


class FileStream(BaseModel):
    """Which files make a stream, and how to read them."""

    model_config = _CAMEL
    name: str = Field(description="The stream's name, as pipelines refer to it.", min_length=1)
    glob: str = Field(
        default="*",
        description="Files of the stream, relative to `url`. `*` stays within a folder, `**` crosses folders. "
        "Names that begin with '.' or '_' are skipped unless the pattern says so.",
    )
    members: str = Field(default="**", description="Members to read of a zip archive, as a pattern like `glob`.")
    format: Format | None = Field(default=None, description="Empty: guessed from each file's name.")
    compression: Literal["auto", "none", "gzip", "zip", "zstd"] = Field(
        default="auto", description="auto: seen from the first bytes of each file, whatever its name."
    )
    nulls: list[str] = Field(default=[""], description="csv, tsv: unquoted texts that mean NULL.")
    quoted_nulls: bool = Field(default=False, description="csv, tsv: a quoted text listed in `nulls` is NULL too.")
    delimiter: _OneCharacter | None = Field(default=None, description="csv, tsv: empty means ',' for csv, tab for tsv.")
    quote: _OneCharacter | None = Field(default='"', description="csv, tsv: the quote character; null: there is none.")
    header: bool = Field(default=True, description="csv, tsv: the first row names the columns.")
    columns: list[str] = Field(
        default_factory=list, description="csv, tsv without header: the columns' names. Empty: column_1, column_2, …"
    )
    encoding: str = Field(default="utf-8", description="Text encoding, by its Python name: latin-1, cp1252, utf-16, …")
    timestamp_format: str | None = Field(
        default=None,
        description="csv, tsv, json: strptime pattern of local times, such as '%d/%m/%Y %H:%M'. Columns whose sampled "
        "values all fit are sent as ISO text. ISO 8601 needs none.",
    )
    primary_key: list[str] = Field(default_factory=list, description="Columns that identify a row. Empty: none known.")
    record_path: str | None = Field(
        default=None, description="json: where the records are, such as 'data.items'. Empty: the document itself."
    )
    nanoseconds: Literal["refuse", "truncate", "text"] = Field(
        default="refuse",
        description="parquet: what becomes of a time that microseconds cannot hold: fail, cut it, or send ISO text.",
    )
    infer_rows: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="csv, tsv, json: rows of the first and of the last file from which column types are told.",
    )

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            codecs.lookup(value)
        except LookupError:
            raise ValueError("unknown encoding; accepted are Python's names, such as utf-8, latin-1, cp1252") from None
        return value

    @model_validator(mode="after")
    def _fits_format(self) -> Self:
        if self.header and self.columns:
            raise ValueError("`columns` names the columns of files without header; set `header: false` or drop it")
        if self.record_path is not None and self.format not in (None, "json"):
            raise ValueError(f"`recordPath` belongs to format json, not {self.format}")
        if self.timestamp_format and ("%f" in self.timestamp_format or "%z" in self.timestamp_format.lower()):
            raise ValueError("`timestampFormat` takes no %f and no zone; such columns can be cast in the Pipeline")
        return self


class FilesConfig(StorageLogin):
    """Where the files are, how to log in, which streams they make."""

    url: str = Field(
        description="A folder or file: path, file:///…, s3://bucket/prefix, gs://bucket/prefix; https://… is one file."
    )
    streams: list[FileStream] = Field(
        default_factory=list, description="The streams. Empty: each file name, without its endings, is a stream."
    )
    batch_rows: int = Field(
        default=MAX_BATCH_ROWS, ge=1, le=MAX_BATCH_ROWS, description="Rows per batch, at most; fewer take less memory."
    )
    spool_megabytes: int = Field(
        default=10_240,
        ge=1,
        description="MiB of temporary disk for a file that needs seeking (zip, parquet) where the server cannot seek.",
    )

    @model_validator(mode="after")
    def _unique_streams(self) -> Self:
        names = [stream.name for stream in self.streams]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"`streams`: two streams are named '{twice[0]}'; names must differ")
        return self
