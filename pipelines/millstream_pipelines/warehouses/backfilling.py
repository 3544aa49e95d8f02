"""The protocol of a load with feature `backfill`: the intervals of a window, beside the forward load."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from millstream_pipelines.batch import Position
from millstream_pipelines.warehouses.base import Counts, StreamLoad


@runtime_checkable
class BackfillLoad(StreamLoad, Protocol):
    """The load of a backfill's intervals: one transaction each, beside the forward load, whose state stays as it is.

    merge updates only rows whose cursor is not larger than the one that comes in; append deletes the interval's rows
    in the transaction that inserts them again.
    """

    forward_position: Position | None
    """Where the forward load of the stream is."""

    def done(self) -> dict[tuple[str, str], Counts]:
        """Return the intervals (start, end) of this window that this run has committed, with their counts."""
        ...

    def others(self) -> str | None:
        """Return the name of another pipeline's stream that has loaded rows into the same target, None without one."""
        ...

    def interval(self, start: str, end: str) -> None:
        """Begin an interval: what is written up to the next commit is it, and replaces what was there."""
        ...
