"""`_millstream.retired`: every range that has begun to leave, where it is now, and what proves it.

States: `retiring` (a detach is under way) → `detached` → `archived` (verified) → `dropped` → `expired` (the archive,
too, is gone); `restored` ends a record. The row is written before the act it announces, so a killed run is understood.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.ranges import PartitionRange
from millstream_pipelines.warehouses.names import quote_table

State = Literal["retiring", "detached", "archived", "dropped", "expired", "restored"]

_FIELDS = (
    "table_name, partition, oid, column_name, kind, low, high, time_zone, id, state, why, rows, bytes, manifest, "
    " archive_url, archive_bytes, detached_at, archived_at, verified_at, dropped_at, restored_at, content_hash"
)


# Where the table that came back has left again and was archived, that archive has its rows. `back_as` says as which
# table a range came back, with the number of this table here: in a copy of the database both are others.
_LOST = """
coalesce(r.back_as[1] = '_millstream.retired'::regclass::oid::bigint AND r.manifest IS NOT NULL
  AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid::bigint = r.back_as[2])
  AND NOT EXISTS (SELECT FROM _millstream.retired n
    WHERE n.table_name = r.table_name AND n.id > r.id AND n.oid = r.back_as[2]), false)
"""


@dataclass(frozen=True)
class Retired(PartitionRange):
    """A range that has begun to leave."""

    id: int
    state: State
    why: str = ""
    rows: int | None = None
    bytes: int = 0
    manifest: str | None = None
    archive_url: str | None = None
    archive_bytes: int | None = None
    detached_at: datetime | None = None
    archived_at: datetime | None = None
    verified_at: datetime | None = None
    dropped_at: datetime | None = None
    restored_at: datetime | None = None
    content_hash: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether its table is still in the warehouse."""
        return self.state in ("retiring", "detached", "archived")


def warehouse_name(ddl: Ddl) -> str:
    """Return the name under which this warehouse's archives lie: it goes where the records go, with a dump too."""
    return UUID(ddl.rows("SELECT id::text FROM _millstream.warehouse")[0][0]).hex


def retired(ddl: Ddl, table: str) -> list[Retired]:
    """Return the records of ranges that are away or on their way, oldest range first.

    A range that came back and was dropped by hand is away again, in its archive: its record reads as `dropped`.
    """
    found = _records(ddl, f"table_name = %s AND (state <> 'restored' OR {_LOST})", table)
    return [replace(item, state="dropped") if item.state == "restored" else item for item in found]


def restored(ddl: Ddl, table: str) -> list[Retired]:
    """Return the records of ranges that came back and are here, oldest range first."""
    return _records(ddl, f"table_name = %s AND state = 'restored' AND NOT ({_LOST})", table)


def standing(ddl: Ddl, table: str) -> list[Retired]:
    """Return those of `restored` whose archive no newer one stands for."""
    return _records(
        ddl, f"table_name = %s AND state = 'restored' AND NOT ({_LOST}) AND manifest IS NOT NULL AND NOT {_SUPERSEDED}",
        table,
    )  # fmt: skip


def tables(ddl: Ddl, policy: str) -> list[str]:
    """Return the tables of which something has left under a policy."""
    return [
        row[0] for row in ddl.rows("SELECT DISTINCT table_name FROM _millstream.retired WHERE policy = %s", (policy,))
    ]


def _records(ddl: Ddl, condition: str, table: str) -> list[Retired]:
    found = ddl.rows(f"SELECT {_FIELDS} FROM _millstream.retired r WHERE {condition}", (table,))
    return sorted(
        (Retired(*row) for row in found),
        key=lambda item: (item.low is not None, item.kind, item.low_value or 0, item.id),  # values of one kind compare
    )


_SUPERSEDED = """
EXISTS (SELECT FROM _millstream.retired n WHERE n.table_name = r.table_name AND n.id > r.id
  AND n.low IS NOT DISTINCT FROM r.low AND n.high IS NOT DISTINCT FROM r.high AND n.manifest IS NOT NULL
  AND n.oid = coalesce(r.back_as[2], r.oid))
"""
_LEFTOVERS = f"""
SELECT r.id, a.folder, r.archive_url FROM _millstream.retired r, unnest(r.attempts) a (folder)
WHERE r.table_name = %s AND (r.state = 'expired' OR r.manifest IS NULL
  OR NOT starts_with(r.manifest, a.folder || '/') OR r.state = 'restored' AND {_SUPERSEDED})
"""
_CLOSED = """
UPDATE _millstream.retired SET state = 'dropped', dropped_at = now() WHERE table_name = %s AND state = 'archived'
AND low IS NOT DISTINCT FROM %s AND high IS NOT DISTINCT FROM %s AND manifest IS NOT NULL AND oid <> %s
"""
_ANNOUNCED = (
    "table_name", "partition", "oid", "column_name", "kind", "low", "high", "time_zone", "state", "why", "rows",
    "bytes",
)  # fmt: skip


def begin(ddl: Ddl, policy: str, record: Retired) -> Retired:
    """Note that an attached partition is to leave, before anything is done; return the record with its number.

    What was noted before of one that somebody attached again counts no more; what was dropped, by whatever hand, keeps
    its own record and archive.
    """
    ddl.rows(_CLOSED, (record.table, record.low, record.high, record.oid))
    values = [getattr(record, {"table_name": "table", "column_name": "column"}.get(name, name)) for name in _ANNOUNCED]
    ddl.rows(
        f"INSERT INTO _millstream.retired (policy, {', '.join(_ANNOUNCED)}) VALUES (%s{', %s' * len(_ANNOUNCED)}) "
        "ON CONFLICT (table_name, low, high) WHERE state IN ('retiring', 'detached', 'archived') DO UPDATE SET "
        "state = 'retiring', partition = excluded.partition, oid = excluded.oid, why = excluded.why, "
        "detached_at = NULL, archived_at = NULL, manifest = NULL",
        (policy, *values),
    )
    return next(
        item
        for item in retired(ddl, record.table)
        if item.is_here and item.low == record.low and item.high == record.high
    )


def attempting(ddl: Ddl, record: Retired, folder: str, url: str) -> None:
    """Note where an archive is about to be written, so that what a killed attempt leaves is known."""
    ddl.rows(
        "UPDATE _millstream.retired SET attempts = attempts || %s::text, archive_url = coalesce(archive_url, %s) "
        "WHERE id = %s",
        (folder, url, record.id),
    )


@dataclass(frozen=True)
class Leftover:
    """A folder that counts no more. `noted`: as the record has it, `url folder` where it lies at a url of before."""

    record: int
    noted: str
    archive_url: str | None

    @property
    def folder(self) -> str:
        """The folder, relative to the url."""
        return self.noted.rpartition(" ")[2]

    @property
    def url(self) -> str | None:
        """Where it lies, as far as is known."""
        return self.noted.rpartition(" ")[0] or self.archive_url


def leftovers(ddl: Ddl, table: str) -> list[Leftover]:
    """Return what lies in a store and counts no more: attempts that came to nothing, archives that a newer one of the
    same range stands for since the range came back."""
    return [Leftover(*row) for row in ddl.rows(_LEFTOVERS, (table,))]


def forget(ddl: Ddl, record_id: int, noted: str) -> None:
    """Note that a folder is deleted."""
    ddl.rows(
        "UPDATE _millstream.retired SET attempts = array_remove(attempts, %s::text) WHERE id = %s", (noted, record_id)
    )


def leaving_behind(record_id: int, folder: str, url: str | None) -> tuple[str, tuple[Any, ...]]:
    """Return the statement that notes where a folder lies that cannot be deleted: the policy names another url now."""
    statement = (
        "UPDATE _millstream.retired SET attempts = array_append(array_remove(attempts, %s::text), %s::text) "
        "WHERE id = %s"
    )
    return statement, (folder, f"{url} {folder}", record_id)


def advance(ddl: Ddl, record: Retired, state: State, at: datetime, **more: Any) -> None:
    """Note the next state, since when, and what else is known."""
    statement, values = advancing(record, state, at, **more)
    ddl.rows(statement, values)


def advancing(record: Retired, state: State, at: datetime, **more: Any) -> tuple[str, tuple[Any, ...]]:
    """Return the statement of `advance`, for a transaction that also does what it says."""
    stamp = "noted_at" if state == "retiring" else f"{state}_at"
    sets = [f"{name} = %s" for name in ("state", *more)]
    since = "%s" if state == "restored" else f"coalesce({stamp}, %s)"  # it may come back more than once
    return (
        f"UPDATE _millstream.retired SET {', '.join(sets)}, {stamp} = {since} WHERE id = %s",
        (state, *more.values(), at, record.id),
    )


def back(ddl: Ddl, record: Retired, at: datetime) -> None:
    """Note, in the transaction that attaches it, that a range is back, and as which table."""
    ddl.execute(*advancing(record, "restored", at))
    ddl.execute(
        "UPDATE _millstream.retired SET back_as = ARRAY['_millstream.retired'::regclass::oid::bigint, "
        "to_regclass(%s)::oid::bigint] WHERE id = %s",
        (quote_table(record.partition), record.id),
    )


__all__ = [
    "Leftover", "Retired", "State", "advance", "advancing", "attempting", "back", "begin", "forget", "leaving_behind",
    "leftovers", "restored", "retired", "standing", "tables", "warehouse_name",
]  # fmt: skip
