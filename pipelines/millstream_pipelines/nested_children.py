"""Child tables in a run: the elements of lists, gathered over some batches, shaped and written behind their parents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from millstream_api import Drift
from millstream_api.stream import StreamSpec
from millstream_pipelines.batch import ROW, Batch
from millstream_pipelines.child_names import Path, child_stream, numbered, parent_key
from millstream_pipelines.column_plan import Unnested
from millstream_pipelines.drift import drifts
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.nested import ChildRows, Opener
from millstream_pipelines.plain_rows import ShapeOf
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.shaping import Shaper
from millstream_pipelines.warehouses.base import Counts
from millstream_pipelines.warehouses.child_loads import ChildLoad, ParentLoad

_MOST_WAITING_BYTES = 16 * 1024 * 1024
_MOST_TOGETHER = 100_000  # rows, as in a batch


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


class ChildTables:
    """The child tables of one stream, for one run.

    Rows wait for some batches: each change between the parent's COPY and a child's lets the server run dry.
    """

    def __init__(self, stream: StreamSpec, mask_key: bytes, opener: Opener) -> None:
        self._stream, self._mask_key, self._opener = stream, mask_key, opener
        self._owner = f"stream '{stream.name}'"
        self._lines: dict[Path, Line] = {}
        self._waiting: dict[Path, list[pa.RecordBatch]] = {}
        self._waiting_bytes = 0

    @property
    def lines(self) -> Iterable[Line]:
        """The tables so far."""
        return self._lines.values()

    def add(self, load: object, rows: pa.RecordBatch, batch: NestedBatch, keys: Schema, shape_of: ShapeOf) -> None:
        """Take the children of rows that were written; `keys`: the columns of the stream's target."""
        if not isinstance(load, ParentLoad):
            raise ConfigurationError(f"{self._owner}: nested.lists 'tables' is not built for this warehouse")
        for child in batch.children:
            made = self._child_rows(child, rows, batch, keys)
            self._waiting.setdefault(child.path, []).append(made)
            self._waiting_bytes += made.nbytes
        if self._waiting_bytes > _MOST_WAITING_BYTES:
            self.send(load, keys, shape_of)

    def send(self, load: object, keys: Schema, shape_of: ShapeOf) -> None:
        """Write the rows that wait."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, {}, 0
        for path, parts in waiting.items():
            assert isinstance(load, ParentLoad), "looked at before"  # noqa: S101
            line = self._lines.get(path) or self._line(load, path)
            for rows in _together(parts):
                self._bind(line, rows, path, keys, shape_of)
                self._write(line, rows)

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


def _together(parts: list[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    """Yield rows in their order, as many of one shape at once as a batch may have."""
    alike: list[pa.RecordBatch] = []
    for part in parts:
        rows = sum(item.num_rows for item in alike) + part.num_rows
        if alike and (rows > _MOST_TOGETHER or part.schema != alike[0].schema):
            yield pa.concat_batches(alike)
            alike = []
        alike.append(part)
    if alike:
        yield pa.concat_batches(alike)
