"""Nested columns in a run: batches are taken apart as they are read, children load in their parents' transaction."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pyarrow as pa

from millstream_api import StreamReport
from millstream_api.stream import StreamSpec
from millstream_pipelines.batch import LINE, ROW, Batch, Reject
from millstream_pipelines.child_names import SEPARATOR
from millstream_pipelines.column_plan import Unnested
from millstream_pipelines.deferred_shaping import DeferredShaper
from millstream_pipelines.masking import REDACTED
from millstream_pipelines.nested import Opener
from millstream_pipelines.nested_children import ChildTables, NestedBatch
from millstream_pipelines.nested_layout import Layout, layout_of
from millstream_pipelines.nested_typed import opened_typed
from millstream_pipelines.own_lines import column_in_lines
from millstream_pipelines.plain_rows import PlainRows, ShapeOf
from millstream_pipelines.schema import Column, Schema, schema_of
from millstream_pipelines.sources.base import ReadRequest, Source
from millstream_pipelines.stream_result import StreamResult
from millstream_pipelines.warehouses.child_loads import ParentLoad


class Nest(PlainRows):
    """The nested columns of one stream, for one run."""

    def __init__(self, stream: StreamSpec, mask_key: bytes) -> None:
        super().__init__(stream, mask_key)
        self._nested: frozenset[str] = frozenset()
        self._opener = Opener(stream.nested, self._owner)
        self._origins: dict[str, str] = {}
        self._whole: set[str] = set()
        self._read = Schema(())
        self._rows = 0
        self._children = ChildTables(stream, mask_key, self._opener)

    @property
    def unnested(self) -> Unnested:
        """What became of nested columns so far."""
        return Unnested(dict(self._origins), self._nested - self._whole)

    # -- columns ------------------------------------------------------------------------------------------------

    def shaper(self, described: Schema) -> DeferredShaper:
        """See `PlainRows.shaper`."""
        return DeferredShaper(self._stream, described, self._owner, self._mask_key, self.unnested)

    def covers(self, shaper: DeferredShaper, batch: Batch) -> bool:
        """See `PlainRows.covers`."""
        return shaper.covers(batch.data.schema, batch.unnested if isinstance(batch, NestedBatch) else None)

    def described(self, source: Source, shape_of: ShapeOf) -> Schema:
        """Return the stream's columns with those that nested ones become: as the target knows them, and as a first
        batch has them."""
        stream = self._stream
        schema = self._read = super().described(source, shape_of)
        kept = {spec.source or spec.name for spec in stream.columns}
        self._nested = frozenset(
            column.name
            for column in schema
            if column.type in ("json", "jsonb")
            and column.name not in kept
            and (not stream.select or column.name in stream.select)
        )
        shape = shape_of(stream.target, schema)
        for column in shape.schema if shape is not None else ():
            origin = next((name for name in self._nested if column.name.startswith(f"{name}{SEPARATOR}")), None)
            if origin is not None and schema.get(column.name) is None:
                self._origins[column.name] = origin
                self._opener.types[((), column.name)] = column.type
                schema = schema.with_columns((*schema, Column(column.name, column.type)))
        for batch in self.sample(source):
            schema = self.united(schema, batch.data.schema)
        return schema

    def sample(self, source: Source) -> Iterator[NestedBatch]:
        """Yield the first batch of the stream, if it has one, taken apart."""
        request = ReadRequest(self._stream.name, columns=tuple(self._stream.select))
        with closing(_generator(source.read(request))) as batches:
            for batch in batches:
                if batch.data.num_rows:
                    yield self._opened(batch)
                    break
        self._rows = 0

    def typed(self, seen: pa.Schema) -> Schema:
        """Return the columns of a batch that was taken apart, with the types told."""
        made = {column.name: column for column in self._opener.schema((), self._origins)}
        columns = (made.get(column.name, column) for column in schema_of(seen) if column.name not in (ROW, LINE))
        return Schema(tuple(columns))

    def asked(self, request: ReadRequest) -> ReadRequest:
        """See `PlainRows.asked`."""
        return replace(request, layout=self._layout)

    def _layout(self) -> Layout | None:
        if any(column.type in ("json", "jsonb") and column.name not in self._nested for column in self._read):
            return None
        return layout_of(self._read, self._opener.places, self._opener.types)

    def opened(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches taken apart."""
        with closing(_generator(batches)) as given:
            for batch in given:
                yield self._opened(batch)

    def _opened(self, batch: Batch) -> NestedBatch:
        data, first = batch.data, self._rows
        if LINE in data.schema.names:
            found = opened_typed(data, self._nested)
            data = data.drop_columns([name for name in data.schema.names if name in self._nested])
        else:
            found = self._opener.opened(data, self._nested)
        self._origins |= found.origins
        self._whole |= found.whole
        for name, values in found.columns.items():
            data = data.append_column(name, values)
        if self._stream.nested.lists == "tables":
            data = data.append_column(ROW, pa.array(range(first, first + data.num_rows), pa.int64()))
        self._rows += data.num_rows
        return NestedBatch(data, batch.position, batch.rejects, tuple(found.children), self.unnested, first)

    # -- rows ---------------------------------------------------------------------------------------------------

    def completed(self, rejects: list[Reject], batch: Batch, shaper: DeferredShaper) -> list[Reject]:
        """Give rows that a check refused their nested columns back, so that their children are kept with them."""
        if not isinstance(batch, NestedBatch):
            return rejects
        data, private = batch.data, shaper.private_sources
        whole = {name: data.column(name) for name in data.schema.names if name in self._nested}
        if rejects and LINE in data.schema.names:
            whole = {name: column_in_lines(data, name) for name in self._read.names if name in self._nested}

        def row(given: dict[str, Any]) -> dict[str, Any]:
            number = given.get(ROW)
            if number is None:
                return given
            raw = {
                name: REDACTED if name in private else column[number - batch.first].as_py()
                for name, column in whole.items()
            }
            return {**{name: value for name, value in given.items() if name != ROW}, **raw}

        return [replace(item, row=row(item.row)) for item in rejects]

    def write(self, load: object, rows: pa.RecordBatch, batch: Batch, keys: Schema, shape_of: ShapeOf) -> None:
        """Take the children of rows that were written."""
        if isinstance(batch, NestedBatch) and batch.children:
            self._children.add(load, rows, batch, keys, shape_of)

    def settle(self, load: object, keys: Schema, shape_of: ShapeOf) -> None:
        """See `PlainRows.settle`."""
        self._children.send(load, keys, shape_of)

    def foreseen(self, keys: Schema) -> list[tuple[StreamSpec, Schema]]:
        """See `PlainRows.foreseen`."""
        return self._children.foreseen(keys)

    def tell(self, result: StreamResult, load: object) -> None:
        """Add what became of each child table in this run, by the ledger: an earlier attempt may have loaded it."""
        for (name, target), counts in load.children().items() if isinstance(load, ParentLoad) else ():
            result.children.append(StreamReport(name=name, target=target, guarantee=result.guarantee, **vars(counts)))
        for line in self._children.lines:
            result.drift += line.drift


def _generator(batches: Iterable[Batch]) -> Generator[Batch, None, None]:
    """Return an iterator that can be closed, and closes the source's with it."""
    iterator = iter(batches)
    try:
        yield from iterator
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
