"""A range of a table that leaves, is archived, or is away: what a record, a manifest and an order to archive have."""

from __future__ import annotations

from dataclasses import dataclass

from millstream_pipelines.retention.spans import Kind, Value, parsed


@dataclass(frozen=True)
class PartitionRange:
    """A partition of a table, and which rows it takes. `low` or `high` is None where it is open."""

    table: str
    partition: str
    oid: int
    column: str
    kind: Kind
    low: str | None
    high: str | None
    time_zone: str

    @property
    def terms(self) -> tuple[str, str, int, str, Kind, str | None, str | None, str]:
        """What makes the range, in the order of the fields: for another that is of the same."""
        return (self.table, self.partition, self.oid, self.column, self.kind, self.low, self.high, self.time_zone)

    @property
    def low_value(self) -> Value | None:
        """The first value of its range."""
        return None if self.low is None else parsed(self.low, self.kind)

    @property
    def high_value(self) -> Value | None:
        """The first value behind its range."""
        return None if self.high is None else parsed(self.high, self.kind)


__all__ = ["PartitionRange"]
