"""Which quarantined rows a later load has read again, so that a replay must not load them a second time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from millstream_pipelines.bounds import Kind, value
from millstream_pipelines.warehouses.set_aside import SetAside


@dataclass(frozen=True)
class Interval:
    """A stretch of the cursor, `start` <= cursor < `end`, that a backfill has loaded again; `at_us`: when, as epoch."""

    run: str
    start: str
    end: str
    at_us: int


@dataclass(frozen=True)
class Rereads:
    """What later loads have read. A merge needs none of it: there the rows of a key are compared."""

    full_load: str | None = None
    """The run whose rows the target has, of a stream that each run replaces."""
    intervals: Sequence[Interval] = ()
    """Of an append, where each backfill puts its stretch's rows anew."""
    cursor: str = ""
    kind: Kind | None = None

    def reason(self, item: SetAside) -> str | None:
        """Return why a row is out of date, or None."""
        if self.full_load is not None and item.run != self.full_load:
            return f"run '{self.full_load}' has read the whole stream again since"
        for interval in self.intervals:
            if interval.run != item.run and interval.at_us > item.set_aside_us and self._covers(interval, item):
                return f"backfill '{interval.run}' has read it again since"
        return None

    def _covers(self, interval: Interval, item: SetAside) -> bool:
        if self.kind is None or self.cursor not in item.row:
            return True  # nothing says that it is not in there
        try:
            seen = value(self.kind, item.row[self.cursor])
        except (ValueError, TypeError):
            return False  # a backfill finds rows by their cursor
        return bool(value(self.kind, interval.start) <= seen < value(self.kind, interval.end))  # type: ignore[operator]
