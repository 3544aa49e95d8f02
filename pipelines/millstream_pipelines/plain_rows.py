"""Rows taken as they are. `nested_run.Nest` takes them apart instead; this needs no Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from millstream_api.stream import StreamSpec
from millstream_pipelines.batch import Batch, Reject
from millstream_pipelines.deferred_shaping import DeferredShaper
from millstream_pipelines.deletes import read_columns
from millstream_pipelines.schema import Schema, schema_of
from millstream_pipelines.sources.base import ReadRequest, Source
from millstream_pipelines.stream_result import StreamResult
from millstream_pipelines.warehouses.fitting import TableShape

if TYPE_CHECKING:
    import pyarrow as pa

ShapeOf = Callable[[str, Schema], TableShape | None]


class PlainRows:
    """What a run does around the rows of a stream whose nested values stay what they are: nothing."""

    def __init__(self, stream: StreamSpec, mask_key: bytes) -> None:
        self._stream, self._mask_key = stream, mask_key
        self._owner = f"stream '{stream.name}'"

    def described(self, source: Source, shape_of: ShapeOf) -> Schema:
        """Return the stream's columns; `shape_of` tells the target."""
        return source.describe(self._stream.name, read_columns(self._stream)).schema

    def shaper(self, described: Schema) -> DeferredShaper:
        """Return the shaper of the stream's own rows."""
        return DeferredShaper(self._stream, described, self._owner, self._mask_key)

    def asked(self, request: ReadRequest) -> ReadRequest:
        """Return a request with what else a source may know."""
        return request

    def opened(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches as they are to be shaped."""
        return batches

    def covers(self, shaper: DeferredShaper, batch: Batch) -> bool:
        """Return whether a shaper knows all columns of a batch."""
        return shaper.covers(batch.data.schema)

    def typed(self, seen: pa.Schema) -> Schema:
        """Return the columns of a batch."""
        return schema_of(seen)

    def united(self, known: Schema, seen: pa.Schema) -> Schema:
        """Return the known columns and those of a batch that are new."""
        new = (column for column in self.typed(seen) if known.get(column.name) is None)
        return known.with_columns((*known, *new))

    def completed(self, rejects: list[Reject], batch: Batch, shaper: DeferredShaper) -> list[Reject]:
        """Return rows that a check refused as quarantine keeps them."""
        return rejects

    def write(self, load: object, rows: pa.RecordBatch, batch: Batch, keys: Schema, shape_of: ShapeOf) -> None:
        """Write what belongs to rows that were written."""

    def settle(self, load: object, keys: Schema, shape_of: ShapeOf) -> None:
        """Write what still waits of that, before the load settles."""

    def foreseen(self, keys: Schema) -> list[tuple[StreamSpec, Schema]]:
        """Return the child tables that a first batch shows, with their columns; `keys`: the stream's columns."""
        return []

    def tell(self, result: StreamResult, load: object) -> None:
        """Add what became of child tables."""


def rows_of(stream: StreamSpec, mask_key: bytes) -> PlainRows:
    """Return what takes the stream's nested values apart, as far as the manifest asks for it."""
    if stream.nested.objects == stream.nested.lists == "json":
        return PlainRows(stream, mask_key)
    from millstream_pipelines.nested_run import Nest

    made: PlainRows = Nest(stream, mask_key)
    return made
