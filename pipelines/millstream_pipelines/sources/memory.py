"""Source `memory`: rows written in the manifest itself. For examples, tests and small reference tables.

A value that does not fit its declared type makes its column text in that batch, as a file would send it: the engine's
cast then sets the one row aside. Positions count rows, so appending to the list is how such a stream grows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from millstream_pipelines.batch import MAX_BATCH_ROWS, Batch, Reject
from millstream_pipelines.bounds import Kind, kind_of, value
from millstream_pipelines.errors import unknown_value
from millstream_pipelines.schema import Column, Schema, arrow_type, normalized
from millstream_pipelines.sources.base import Feature, Range, ReadRequest, StreamInfo

_CAMEL = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid")


class MemoryStream(BaseModel):
    """The rows of one stream."""

    model_config = _CAMEL
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Column → SQL type, in order. Other columns come after these, with types that fit their values.",
    )
    rows: list[dict[str, Any]] = Field(
        default_factory=list,
        description='The rows, each column → value. {"_raw": text} alone is a row that cannot be parsed.',
    )
    primary_key: list[str] = Field(default_factory=list, description="Columns that identify a row. Empty: none known.")


class MemorySource:
    """Rows given in the configuration."""

    name: ClassVar[str] = "memory"
    features: ClassVar[frozenset[Feature]] = frozenset({"range", "slice"})

    class Config(BaseModel):
        """Streams and how many rows a batch holds."""

        model_config = _CAMEL
        streams: dict[str, MemoryStream] = Field(description="Stream name → its columns and rows.")
        batch_rows: int = Field(
            default=MAX_BATCH_ROWS, ge=1, le=MAX_BATCH_ROWS, description="Rows per batch; a batch is a place to resume."
        )

    def __init__(self, config: BaseModel, owner: str) -> None:
        self._config = self.Config.model_validate(config)
        self._owner = owner

    def streams(self) -> list[StreamInfo]:
        """Return every stream of the configuration."""
        return [self.describe(name) for name in self._config.streams]

    def describe(self, stream: str, columns: tuple[str, ...] = ()) -> StreamInfo:
        """Return one stream: declared types first, then those that follow from the values."""
        given = self._stream(stream)
        types = {name: normalized(type_name) for name, type_name in given.columns.items()}
        rows = [row for row in given.rows if set(row) != {"_raw"}]
        for name in dict.fromkeys(key for row in rows for key in row):
            types.setdefault(name, _type_of([row.get(name) for row in rows]))
        kept = tuple(Column(name, type_name) for name, type_name in types.items() if not columns or name in columns)
        return StreamInfo(stream, Schema(kept, tuple(given.primary_key)))

    def read(self, request: ReadRequest) -> Iterator[Batch]:
        """Yield the rows behind the position, `batchRows` at a time."""
        rows = self._stream(request.stream).rows
        schema = self.describe(request.stream, request.columns).schema
        if request.range is not None:
            rows = self._within(rows, request, request.range)
        if request.slice is not None:
            rows = rows[request.slice.index :: request.slice.count]
        start = int(request.position["rows"]) if request.position and request.mode == "incremental" else 0
        for first in range(start, len(rows), self._config.batch_rows):
            chunk = rows[first : first + self._config.batch_rows]
            rejects = [Reject("malformed_row", "row cannot be parsed", row) for row in chunk if set(row) == {"_raw"}]
            good = [row for row in chunk if set(row) != {"_raw"}]
            arrays = {column.name: _array([row.get(column.name) for row in good], column.type) for column in schema}
            data = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
            yield Batch(data, None if request.range or request.slice else {"rows": first + len(chunk)}, rejects)

    def guarantee(self, request: ReadRequest) -> tuple[Literal["exact", "repeats"], str]:
        """Return exact: rows are counted from the start of a list that only grows."""
        return "exact", "positions count the rows of the manifest"

    def doubts(self, request: ReadRequest) -> list[str]:
        """Return whether the list has become shorter than what was read of it."""
        rows, read = len(self._stream(request.stream).rows), int((request.position or {}).get("rows", 0))
        if rows >= read:
            return []
        where = f"{self._owner}: stream '{request.stream}'"
        told = f"{read} rows have been read, and the list holds {rows}; rows that are added are not read before there"
        return [f"{where}: {told} are more than {read}: run once with fullRefresh"]

    def why_incomplete(self, request: ReadRequest) -> str | None:
        """Return None: the manifest holds all rows there are."""
        return None

    def close(self) -> None:
        """Hold nothing, release nothing."""

    def _within(self, rows: list[dict[str, Any]], request: ReadRequest, stretch: Range) -> list[dict[str, Any]]:
        """Return the rows of a stretch of the cursor. A row without a value of its type is in none."""
        field = request.cursor_field or ""
        column = self.describe(request.stream).schema.get(field)
        kind = kind_of(column.type) if column else None
        if kind is None:
            names = self.describe(request.stream).schema.names
            raise unknown_value(f"{self._owner}: stream '{request.stream}'", "cursor.field", field, names)
        start, end = value(kind, stretch.start), value(kind, stretch.end)
        return [row for row in rows if _is_between(kind, row.get(field), start, end)]

    def _stream(self, name: str) -> MemoryStream:
        try:
            return self._config.streams[name]
        except KeyError:
            raise unknown_value(self._owner, "stream", name, self._config.streams) from None


def _is_between(kind: Kind, given: Any, start: Any, end: Any) -> bool:
    try:
        return bool(start <= value(kind, given) < end)
    except (ValueError, TypeError):
        return False


_TYPES: tuple[tuple[tuple[type, ...], str], ...] = (
    ((bool,), "boolean"),
    ((int,), "bigint"),
    ((int, float), "double precision"),
    ((int, Decimal), "numeric"),
    ((datetime,), "timestamp"),
    ((date,), "date"),
    ((bytes,), "bytea"),
    ((dict, list), "jsonb"),
)


def _type_of(values: list[Any]) -> str:
    """Return the first type that holds all values; text when none does."""
    seen = {type(value) for value in values if value is not None}
    for accepted, name in _TYPES:
        if seen and seen <= set(accepted):
            if name == "bigint" and any(value is not None and not -(2**63) <= value < 2**63 for value in values):
                return "numeric"
            if name == "timestamp" and all(value is None or value.tzinfo for value in values):
                return "timestamptz"
            return name
    return "text"


def _array(values: list[Any], type_name: str) -> pa.Array:
    """Return the values as the type's Arrow column; as text where one of them does not fit."""
    target = arrow_type(type_name)
    if target != pa.string():
        try:
            if any(isinstance(value, str) for value in values):
                return pa.array([_text(value) for value in values], pa.string()).cast(target)
            return pa.array(values, target)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            pass
    dump = json.dumps if type_name in ("json", "jsonb") else _text
    return pa.array([None if value is None else dump(value) for value in values], pa.string())


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return json.dumps(value) if isinstance(value, (bool, dict, list)) else str(value)


__all__ = ["MemorySource", "MemoryStream"]
