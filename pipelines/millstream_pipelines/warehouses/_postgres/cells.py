"""Which ranges of a partitioned table rows fall into: taken by a partition, retired, or still to be made. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from millstream_pipelines.retention.spans import Grid, Value, spelled


@dataclass(frozen=True)
class Away:
    """A range that has left the table. `low` or `high` is None where it is open."""

    low: Value | None
    high: Value | None
    state: str

    def has(self, value: Value) -> bool:
        """Return whether a value lies in it."""
        return (self.low is None or self.low <= value) and (self.high is None or value < self.high)  # type: ignore[operator]

    def told(self, table: str, grid: Grid) -> str:
        """Return why its rows are refused, and how they could be taken."""
        low = spelled(self.low, grid.kind) if self.low is not None else "the beginning"
        high = spelled(self.high, grid.kind) if self.high is not None else "the end"
        return (
            f"{table} has no rows from {low} to {high} any more: the range has been retired (state {self.state}); "
            "restore it (`millstream retention restore`) and replay the row, or discard the row"
        )


def merged(ranges: Iterable[tuple[Value | None, Value | None]]) -> list[tuple[Value | None, Value | None]]:
    """Return ranges in order, those that touch as one."""
    found: list[tuple[Value | None, Value | None]] = []
    for low, high in sorted(ranges, key=lambda item: (item[0] is not None, item[0] if item[0] is not None else 0)):
        if found and (found[-1][1] is None or found[-1][1] == low):
            found[-1] = (found[-1][0], found[-1][1] if found[-1][1] is None else high)
        else:
            found.append((low, high))
    return found


def sorted_out(values: Iterable[Value], away: Iterable[Away], grid: Grid) -> tuple[list[Value], list[Away]]:
    """Return of values that no partition takes the first of each range to make, and the retired ranges they fall in."""
    gone = list(away)
    firsts: list[Value] = []
    met: list[Away] = []
    for value in sorted(values):
        found = next((item for item in gone if item.has(value)), None)
        if found is not None:
            met += [found] if found not in met else []
            continue
        place = bisect_right(firsts, value)
        if place == 0 or grid.next(grid.floor(firsts[place - 1])) <= value:  # type: ignore[operator]
            firsts.insert(place, value)
    return firsts, met


__all__ = ["Away", "merged", "sorted_out"]
