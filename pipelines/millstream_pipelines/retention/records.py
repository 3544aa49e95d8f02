"""`_millstream.retired`: every range that has begun to leave, where it is now, and what proves it.

States: `retiring` (a detach is under way) → `detached` → `archived` (verified) → `dropped` → `expired` (the archive,
too, is gone); `restored` ends a record. The row is written before the act it announces, so a killed run is understood.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.spans import Kind, Value, parsed

State = Literal["retiring", "detached", "archived", "dropped", "expired", "restored"]

_FIELDS = (
    "id, table_name, partition, oid, column_name, kind, low, high, time_zone, state, why, rows, bytes, fingerprint, "
    "manifest, archive_url, archive_bytes, detached_at, archived_at, verified_at, dropped_at, restored_at"
)


@dataclass(frozen=True)
class Retired:
    """A range that has begun to leave."""

    id: int
    table: str
    partition: str
    oid: int
    column: str
    kind: Kind
    low: str | None
    high: str | None
    time_zone: str
    state: State
    why: str = ""
    rows: int | None = None
    bytes: int = 0
    fingerprint: str | None = None
    manifest: str | None = None
    archive_url: str | None = None
    archive_bytes: int | None = None
    detached_at: datetime | None = None
    archived_at: datetime | None = None
    verified_at: datetime | None = None
    dropped_at: datetime | None = None
    restored_at: datetime | None = None

    @property
    def low_value(self) -> Value | None:
        """The first value of its range."""
        return None if self.low is None else parsed(self.low, self.kind)

    @property
    def high_value(self) -> Value | None:
        """The first value behind its range."""
        return None if self.high is None else parsed(self.high, self.kind)

    @property
    def is_here(self) -> bool:
        """Whether its table is still in the warehouse."""
        return self.state in ("retiring", "detached", "archived")


def retired(ddl: Ddl, table: str) -> list[Retired]:
    """Return the records of ranges that are away or on their way, oldest range first."""
    return _records(ddl, "table_name = %s AND state <> 'restored'", table)


def restored(ddl: Ddl, table: str) -> list[Retired]:
    """Return the records of ranges that came back, oldest range first."""
    return _records(ddl, "table_name = %s AND state = 'restored'", table)


def tables(ddl: Ddl, policy: str) -> list[str]:
    """Return the tables of which something has left under a policy."""
    return [
        row[0] for row in ddl.rows("SELECT DISTINCT table_name FROM _millstream.retired WHERE policy = %s", (policy,))
    ]


def _records(ddl: Ddl, condition: str, table: str) -> list[Retired]:
    found = ddl.rows(f"SELECT {_FIELDS} FROM _millstream.retired WHERE {condition}", (table,))
    return sorted((Retired(*row) for row in found), key=lambda item: (item.low is not None, item.low_value or 0))


_ANNOUNCED = (
    "table_name", "partition", "oid", "column_name", "kind", "low", "high", "time_zone", "state", "why", "rows",
    "bytes",
)  # fmt: skip


def begin(ddl: Ddl, policy: str, record: Retired) -> Retired:
    """Note that a partition is to leave, before anything is done; return the record with its number."""
    values = [getattr(record, {"table_name": "table", "column_name": "column"}.get(name, name)) for name in _ANNOUNCED]
    ddl.rows(
        f"INSERT INTO _millstream.retired (policy, {', '.join(_ANNOUNCED)}) VALUES (%s{', %s' * len(_ANNOUNCED)}) "
        "ON CONFLICT DO NOTHING",
        (policy, *values),
    )
    return next(item for item in retired(ddl, record.table) if (item.low, item.high) == (record.low, record.high))


def advance(ddl: Ddl, record: Retired, state: State, at: datetime, **more: Any) -> None:
    """Note the next state, since when, and what else is known."""
    statement, values = advancing(record, state, at, **more)
    ddl.rows(statement, values)


def advancing(record: Retired, state: State, at: datetime, **more: Any) -> tuple[str, tuple[Any, ...]]:
    """Return the statement of `advance`, for a transaction that also does what it says."""
    stamp = "noted_at" if state == "retiring" else f"{state}_at"
    sets = [f"{name} = %s" for name in ("state", *more)]
    return (
        f"UPDATE _millstream.retired SET {', '.join(sets)}, {stamp} = coalesce({stamp}, %s) WHERE id = %s",
        (state, *more.values(), at, record.id),
    )


__all__ = ["Retired", "State", "advance", "advancing", "begin", "restored", "retired", "tables"]
