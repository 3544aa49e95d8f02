"""Nested columns in a run: batches are taken apart as they are read, children load in their parents' transaction."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millstream_api import Drift, StreamReport
from millstream_api.stream import StreamSpec
from millstream_pipelines.batch import LINE, ROW, Batch, Reject
from millstream_pipelines.child_names import SEPARATOR, Path, child_stream, numbered, parent_key
from millstream_pipelines.column_plan import Unnested
from millstream_pipelines.deferred_shaping import DeferredShaper
from millstream_pipelines.drift import drifts
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.masking import REDACTED
from millstream_pipelines.nested import ChildRows, Opener
from millstream_pipelines.nested_layout import Layout, layout_of
from millstream_pipelines.nested_typed import opened_typed
from millstream_pipelines.own_lines import column_in_lines
from millstream_pipelines.plain_rows import PlainRows, ShapeOf
from millstream_pipelines.schema import Column, Schema, schema_of
from millstream_pipelines.shaping import Shaper
from millstream_pipelines.sources.base import ReadRequest, Source
from millstream_pipelines.stream_result import StreamResult
from millstream_pipelines.warehouses.base import Counts
from millstream_pipelines.warehouses.child_loads import ChildLoad, ParentLoad


@dataclass(frozen=True)
class NestedBatch(Batch):
    """A batch whose nested columns are taken apart; its rows are numbered by ROW from `first` on."""

    children: tuple[ChildRows, ...] = ()
    unnested: Unnested = field(default_factory=Unnested)
    first: int = 0


@dataclass
class Line:
    """One child table in a run."""

    stream: StreamSpec
    load: ChildLoad
    described: Schema
    shaper: Shaper | None = None
    drift: list[Drift] = field(default_factory=list)


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
        self._lines: dict[Path, Line] = {}

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
        """Write the children of rows that were written."""
        if not isinstance(batch, NestedBatch) or not batch.children:
            return
        if not isinstance(load, ParentLoad):
            raise ConfigurationError(f"{self._owner}: nested.lists 'tables' is not built for this warehouse")
        for child in batch.children:
            made = self._child_rows(child, rows, batch, keys)
            line = self._lines.get(child.path) or self._line(load, child.path)
            self._bind(line, made, child.path, keys, shape_of)
            self._write(line, made)

    def _child_rows(self, child: ChildRows, rows: pa.RecordBatch, batch: NestedBatch, keys: Schema) -> pa.RecordBatch:
        """Return the elements whose parents are among `rows`, with their parents' keys."""
        parents = pc.add(child.parents.cast(pa.int64()), pa.scalar(batch.first, pa.int64()))
        at, keep = child.parents, None
        if rows.num_rows != batch.data.num_rows:
            at = pc.index_in(parents, value_set=rows.column(ROW))
            keep = at.is_valid()
        named = parent_key(self._stream.primary_key)
        columns: dict[str, pa.Array] = {}
        for name in self._stream.primary_key:
            if keys.get(name) is None:
                raise ConfigurationError(f"{self._owner}: nested.lists needs key column '{name}' in the target")
            columns[named[name]] = rows.column(name).take(at)
        columns |= dict(zip(numbered(child.path), child.places, strict=True))
        for name, values in child.columns.items():
            if name in columns:
                raise ConfigurationError(
                    f"{self._owner}: the list '{'.'.join(child.path)}' has a field '{name}', which the child table "
                    "needs for itself; name the column under `columns` to keep it whole"
                )
            columns[name] = values
        made = pa.RecordBatch.from_pydict({**columns, ROW: parents})
        return made if keep is None else made.filter(keep)

    def _line(self, load: ParentLoad, path: Path) -> Line:
        stream = child_stream(self._stream, path)
        for other in self._lines.values():
            if other.stream.target == stream.target:
                raise ConfigurationError(
                    f"{self._owner}: the lists '{other.stream.name}' and '{stream.name}' would share the table "
                    f"{stream.target}; name one of them under `columns` to keep it whole"
                )
        made = Line(stream, load.child(stream.name, stream.target, tuple(stream.primary_key)), Schema(()))
        self._lines[path] = made
        return made

    def _bind(self, line: Line, rows: pa.RecordBatch, path: Path, keys: Schema, shape_of: ShapeOf) -> None:
        if line.shaper is not None and line.shaper.covers(rows.schema):
            return
        wanted = self._schema(path, [name for name in rows.schema.names if name != ROW], keys)
        known = {column.name: column for column in line.described}
        new = [column for column in wanted if column.name not in known]
        line.described = Schema((*line.described, *new), tuple(line.stream.primary_key))
        line.shaper = Shaper(line.stream, line.described, f"stream '{line.stream.name}'", self._mask_key)
        shape = shape_of(line.stream.target, line.shaper.schema)
        line.drift += drifts(
            line.stream.name, Schema(tuple(new)) if known else line.shaper.schema, shape, line.stream.contract
        )
        line.shaper.bind(line.load.shape(line.shaper.schema))

    def _schema(self, path: Path, names: list[str], keys: Schema) -> Schema:
        """Return a child table's columns: the parent's key, the places, then the fields among `names`."""
        own = {name: keys.get(key) for key, name in parent_key(self._stream.primary_key).items()}
        places = numbered(path)
        columns = [Column(name, found.type if found is not None else "text", False) for name, found in own.items()]
        columns += [Column(name, "bigint", False) for name in places]
        return Schema((*columns, *self._opener.schema(path, [n for n in names if n not in own and n not in places])))

    def _write(self, line: Line, rows: pa.RecordBatch) -> None:
        assert line.shaper is not None, "bound before"  # noqa: S101
        shaped = line.shaper.apply(Batch(rows))
        rule = line.stream.contract.rows
        if shaped.rejects and rule == "freeze":
            raise DataError(
                f"stream '{line.stream.name}': a row breaks {shaped.rejects[0].rule} and contract.rows is 'freeze': "
                f"{shaped.rejects[0].message}; nothing of this chunk was committed",
                reason="ContractBroken",
            )
        kept = shaped.rejects if rule == "quarantine" else []
        line.load.write(
            shaped.rows,
            kept,
            Counts(
                read=rows.num_rows,
                quarantined=len(kept),
                filtered=len(shaped.rejects) - len(kept),
                bytes_read=rows.nbytes,
            ),
        )

    def foreseen(self, keys: Schema) -> list[tuple[StreamSpec, Schema]]:
        """Return the child tables that the first batch shows, with their columns; `keys`: the stream's columns."""
        return [
            (child_stream(self._stream, path), self._schema(path, names, keys))
            for path, names in self._opener.tables().items()
        ]

    def tell(self, result: StreamResult, load: object) -> None:
        """Add what became of each child table in this run, by the ledger: an earlier attempt may have loaded it."""
        for (name, target), counts in load.children().items() if isinstance(load, ParentLoad) else ():
            result.children.append(StreamReport(name=name, target=target, guarantee=result.guarantee, **vars(counts)))
        for line in self._lines.values():
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
