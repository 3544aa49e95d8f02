"""`_millstream.conversions`: how far each table that was turned is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.ondemand import full_name


@dataclass(frozen=True)
class Conversion:
    """A row of `_millstream.conversions`."""

    table: str
    old: str
    state: str
    position: list[str] | None
    copied: int
    verified: int | None
    note: str
    switched_at: datetime | None


def conversion(ddl: Ddl, table: str) -> Conversion | None:
    """Return how far the conversion of a table is; None for one that was never turned."""
    found = ddl.rows(
        "SELECT table_name, old_name, state, position, copied, verified, note, switched_at "
        "FROM _millstream.conversions WHERE table_name = %s",
        (full_name(table),),
    )
    return Conversion(*found[0]) if found else None


__all__ = ["Conversion", "conversion"]
