"""The protocols of child tables: rows that load, change and go with rows of another table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import pyarrow as pa

from millstream_pipelines.batch import Reject
from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses.base import Counts


class ChildLoad(Protocol):
    """The load of a child table, part of its parent's load: the same transaction, settled and committed with it.

    Its rows are loaded where their parent is: a parent that a later row of its key replaces takes its children with it
    (they are duplicates), one that the warehouse sets aside too (they are set aside under the rule `parent`). In a
    merge the children of every merged key are replaced.
    """

    def shape(self, schema: Schema) -> Schema:
        """See `StreamLoad.shape`."""
        ...

    def write(self, rows: pa.RecordBatch, rejects: Iterable[Reject], counts: Counts) -> None:
        """Add rows after their parents were written; the last column, ROW, says which parent each belongs to."""
        ...


@runtime_checkable
class ParentLoad(Protocol):
    """A load that takes child tables (`features` has `children`); its LoadSpec is `numbered`."""

    def child(self, stream: str, target: str, key: tuple[str, ...]) -> ChildLoad:
        """Return the load of one child table; `key`: the parent's key under the child's names, then the places."""
        ...

    def children(self) -> dict[tuple[str, str], Counts]:
        """Return what this run has committed into child tables, in all its attempts: (stream, target) → counts."""
        ...
