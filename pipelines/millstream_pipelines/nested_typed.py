"""Nested Arrow values taken apart as `nested` takes JSON apart: a field, a list at a time, never a value. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from millstream_pipelines.child_names import SEPARATOR, Path
from millstream_pipelines.nested import VALUE, ChildRows, Opened


@dataclass
class _Table:
    """A table in the making."""

    path: Path = ()
    columns: dict[str, pa.Array] = field(default_factory=dict)
    places: tuple[pa.Array, ...] = ()
    parents: pa.Array | None = None


def opened_typed(batch: pa.RecordBatch, nested: frozenset[str]) -> Opened:
    """Return what the nested columns of a batch hold; they are typed as a `Layout` says."""
    found = Opened()
    for name in batch.schema.names:
        if name in nested:
            table = _Table()
            _open(name, batch.column(name), table, found)
            found.columns |= table.columns
            found.origins |= dict.fromkeys(table.columns, name)
    return found


def _open(name: str, values: pa.Array, table: _Table, found: Opened) -> None:
    kind = values.type
    if pa.types.is_struct(kind):
        for part, column in zip(kind, values.flatten(), strict=True):
            _open(f"{name}{SEPARATOR}{part.name}" if name else part.name, column, table, found)
    elif pa.types.is_list(kind):
        _list(name or VALUE, values, table, found)
    elif not pa.types.is_null(kind):
        table.columns[name or VALUE] = values


def _list(name: str, lists: pa.Array, table: _Table, found: Opened) -> None:
    elements = lists.flatten()
    if not len(elements):
        return
    owners = pc.list_parent_indices(lists)
    ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(lists), 0).cast(pa.int64()))
    starts = pc.subtract(ends, pc.fill_null(pc.list_value_length(lists), 0).cast(pa.int64()))
    places = pc.subtract(pa.array(range(len(elements)), pa.int64()), starts.take(owners))
    child = _Table(
        (*table.path, name), {}, (*(item.take(owners) for item in table.places), places),
        owners if table.parents is None else table.parents.take(owners),
    )  # fmt: skip
    _open("", elements, child, found)
    found.children.append(ChildRows(child.path, child.parents, child.places, child.columns))
