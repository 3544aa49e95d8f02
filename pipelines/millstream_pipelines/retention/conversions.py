"""`_millstream.conversions`: how far each table that was turned is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.ondemand import full_name

UNDER_WAY = ("checking", "attached", "prepared", "copying", "indexed")
"""States of a conversion that is not at its end: `checking`, the table is plain still; later ones, it is split."""


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
    shape: str | None = None
    """What the table was like when the copy was begun, and how it was to be cut."""
    node: int | None = None
    """The old range's file then: it is another one when the rows were written anew."""


def conversion(ddl: Ddl, table: str) -> Conversion | None:
    """Return how far the conversion of a table is; None for one that was never turned."""
    found = ddl.rows(
        "SELECT table_name, old_name, state, position, copied, verified, note, switched_at, "
        "shape, node "
        "FROM _millstream.conversions WHERE table_name = %s",
        (full_name(table),),
    )
    return Conversion(*found[0]) if found else None


def note(ddl: Ddl, table: str, old: str, state: str) -> None:
    """Note, in the open transaction, that a conversion begins anew in this state."""
    ddl.execute(
        "INSERT INTO _millstream.conversions (table_name, old_name, state) VALUES (%s, %s, %s) "
        "ON CONFLICT (table_name) DO UPDATE SET old_name = EXCLUDED.old_name, state = EXCLUDED.state, position = NULL, "
        "copied = 0, verified = NULL, note = '', started_at = now(), switched_at = NULL, touched_at = now()",
        (full_name(table), old, state),
    )


__all__ = ["UNDER_WAY", "Conversion", "conversion", "note"]
