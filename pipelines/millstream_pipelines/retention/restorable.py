"""What can come back of a table: which records a stretch touches, and as which tables they would come."""

from __future__ import annotations

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.retention import records
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.ondemand import full_name
from millstream_pipelines.retention.records import Retired
from millstream_pipelines.retention.spans import parsed_in


def names_of(owner: str, chosen: Sequence[Retired], into: str | None) -> dict[int, str]:
    """Return the table that each record comes back as. ConfigurationError where one range would be attached twice."""
    names: dict[int, str] = {}
    for record in chosen:
        name = record.partition if into is None else f"{into}.{record.partition.rpartition('.')[2]}"
        times = sum(item.partition == record.partition for item in chosen if item.id in names)
        if times and into is None:
            raise ConfigurationError(
                f"{owner}: {record.partition} has left {times + 1} times, since rows came late; two tables cannot be "
                "attached for one range: restore with `into` a schema, and insert the rows from there"
            )
        names[record.id] = f"{name}_{times + 1}" if times else name
    return names


def overlapping(ddl: Ddl, table: str, start: str | None, end: str | None) -> list[Retired]:
    """Return the records of a table that a stretch touches, oldest first; none where all of it is back already.

    ConfigurationError when nothing of it has left.
    """
    table = full_name(table)
    found, back = records.retired(ddl, table), records.restored(ddl, table)
    if not found and not back:
        raise ConfigurationError(f"{ddl.owner}: nothing of table {table} has left the warehouse under any policy")
    misread: list[str] = []
    chosen = [item for item in found if _touches(item, start, end, misread) and item.state != "expired"]
    if not chosen and not any(_touches(item, start, end, misread) for item in back):
        if misread:
            raise ConfigurationError(f"{ddl.owner}: range of {table}: {misread[0]}")
        have = ", ".join(f"{item.low}..{item.high} ({item.state})" for item in [*found, *back][:20])
        stretch = f"between {start or 'the first row'} and {end or 'the last'}"
        raise ConfigurationError(f"{ddl.owner}: nothing of {table} {stretch} can come back; there is: {have}")
    return chosen


def _touches(record: Retired, start: str | None, end: str | None, misread: list[str]) -> bool:
    """Return whether a stretch touches a range; it is read as the range's column was, for a table may be made anew.

    What cannot be read so touches nothing, and is noted.
    """
    try:
        zone = ZoneInfo(record.time_zone)
        first = None if start is None else parsed_in(start, record.kind, zone)
        last = None if end is None else parsed_in(end, record.kind, zone)
    except ValueError as error:
        misread.append(f"{error}; the column is of type {record.kind}")
        return False
    low, high = record.low_value, record.high_value
    begins_before = low is None or last is None or low < last  # type: ignore[operator]  # of one kind
    return begins_before and (high is None or first is None or high > first)  # type: ignore[operator]


__all__ = ["names_of", "overlapping"]
