"""What a table has beyond the limits that count: size, rows, a full disk. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from millstream_api.retentionpolicy import Keep
from millstream_pipelines.retention.facts import Partition, TableFacts
from millstream_pipelines.sizes import size_of


@dataclass
class Counted:
    """Bytes and rows of a table, and the bytes that the disk has too many, as partitions are taken off."""

    keep: Keep
    bytes: int
    rows: int
    over_bytes: int

    @classmethod
    def of(cls, facts: TableFacts, keep: Keep, over_bytes: int) -> Counted:
        """Count the whole table."""
        parts = facts.partitions
        return cls(keep, sum(part.bytes for part in parts), sum(part.rows for part in parts), over_bytes)

    def why(self) -> str:
        """Return which limit is passed; empty where none is."""
        keep = self.keep
        if keep.size and self.bytes > size_of(keep.size):
            return f"the table takes {self.bytes} bytes, more than {keep.size}"
        if keep.rows is not None and self.rows > keep.rows:
            return f"the table has about {self.rows} rows, more than {keep.rows}"
        if self.over_bytes > 0:
            return f"the database takes more than {keep.disk_pressure} of {keep.disk_size}"
        return ""

    def take_off(self, part: Partition, *, stays: bool = False) -> None:
        """Count without a partition; one that stays on the disk all the same frees nothing there."""
        self.bytes, self.rows = self.bytes - part.bytes, self.rows - part.rows
        self.over_bytes -= 0 if stays else part.bytes


__all__ = ["Counted"]
