"""`_millstream.erasures`: what was erased where and when, and which archives were judged; no data of the rows.

The condition stands there by its SHA-256 only, since its words may be personal themselves: who has the policy can
compare them. Counts grow in the transaction that deletes, so they are right whenever a run is killed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from millstream_api.retention_report import ErasedArchive, ErasureReceipt
from millstream_pipelines.retention.condition import Condition
from millstream_pipelines.retention.ddl import Ddl

_FIELDS = (
    "id, table_name, condition, reason, live_rows, detached_rows, quarantined_rows, archived_rows, archives, "
    "unjudged, begun_at, done_at, times"
)


@dataclass(frozen=True)
class Judged:
    """An archive that a condition was held against. `key`: its manifest now; `removed`: what it replaced is gone."""

    key: str
    rows: int = 0
    held: int = 0
    holds: tuple[str, ...] = ()
    supersedes: str = ""
    old_hash: str = ""
    new_hash: str = ""
    at: str = ""
    removed: bool = True

    def stored(self) -> dict[str, Any]:
        """Return it as the table has it; what says nothing is left out."""
        found = {name: value for name, value in vars(self).items() if value not in (0, "", ())}
        return found | {"removed": self.removed}


@dataclass(frozen=True)
class Receipt:
    """What an erasure has done so far. `done_at`: when nothing was left; None while something is. `times`: how often it
    was carried out, since rows may come back."""

    id: int
    table: str
    condition: str
    reason: str
    live_rows: int
    detached_rows: int
    quarantined_rows: int
    archived_rows: int
    archives: tuple[Judged, ...] = field(default=())
    unjudged: tuple[str, ...] = ()
    begun_at: datetime | None = None
    done_at: datetime | None = None
    times: int = 0

    def has_judged(self, key: str, holds: tuple[str, ...]) -> bool:
        """Return whether the archive needs no second look: rows that a hold kept are looked at when holds change."""
        return any(item.key == key and (not item.held or item.holds == holds) for item in self.archives)

    @property
    def held_rows(self) -> int:
        """How many rows holds keep in the archives that are in force."""
        latest = {item.key: item.held for item in self.archives}
        return sum(held for key, held in latest.items() if all(item.supersedes != key for item in self.archives))

    def told(self) -> ErasureReceipt:
        """Return it as reports have it."""
        return ErasureReceipt(
            table=self.table, reason=self.reason, condition=self.condition, live_rows=self.live_rows,
            detached_rows=self.detached_rows, quarantined_rows=self.quarantined_rows,
            archived_rows=self.archived_rows, archives_judged=len({item.key for item in self.archives}),
            archives=[
                ErasedArchive(archive=item.key, rows=item.rows, supersedes=item.supersedes, old_hash=item.old_hash,
                              new_hash=item.new_hash, at=item.at)
                for item in self.archives if item.rows
            ],
            unjudged=list(self.unjudged), begun_at=_shown(self.begun_at), done_at=_shown(self.done_at),
        )  # fmt: skip


def receipts(ddl: Ddl, policy: str) -> list[Receipt]:
    """Return the receipts of a policy, oldest first."""
    return [
        _receipt(row)
        for row in ddl.rows(f"SELECT {_FIELDS} FROM _millstream.erasures WHERE policy = %s ORDER BY id", (policy,))
    ]


def receipt_of(ddl: Ddl, policy: str, condition: Condition) -> Receipt | None:
    """Return an erasure's receipt; None where it has not begun."""
    found = ddl.rows(
        f"SELECT {_FIELDS} FROM _millstream.erasures WHERE policy = %s AND table_name = %s AND condition = %s "
        "AND reason = %s",
        (policy, condition.table, condition.mark, condition.reason),
    )
    return _receipt(found[0]) if found else None


def begin(ddl: Ddl, policy: str, condition: Condition) -> None:
    """Note that an erasure begins; one that has begun, or is done and has found rows again, stays."""
    ddl.rows(
        "INSERT INTO _millstream.erasures (policy, table_name, condition, reason, under_way) "
        "VALUES (%s, %s, %s, %s, true) "
        "ON CONFLICT (policy, table_name, condition, reason) DO UPDATE SET done_at = NULL, under_way = true",
        (policy, condition.table, condition.mark, condition.reason),
    )


def entering(receipt: Receipt, judged: Judged) -> tuple[str, tuple[Any, ...]]:
    """Return the statement that enters a judged archive in place of what it was, for a transaction that does more."""
    statement = (
        "UPDATE _millstream.erasures SET archived_rows = archived_rows + %s, archives = coalesce((SELECT "
        "jsonb_agg(e ORDER BY n) FROM jsonb_array_elements(archives) WITH ORDINALITY a (e, n) "
        "WHERE e->>'key' <> %s OR e ? 'rows'), '[]') || %s::jsonb WHERE id = %s"
    )
    return statement, (judged.rows, judged.key, json.dumps([judged.stored()]), receipt.id)


def removed(ddl: Ddl, receipt: Receipt, key: str) -> None:
    """Note that what an archive replaced has left the store."""
    ddl.rows(
        "UPDATE _millstream.erasures SET archives = (SELECT jsonb_agg(CASE WHEN e->>'key' = %s "
        "THEN e || '{\"removed\": true}' ELSE e END ORDER BY n) "
        "FROM jsonb_array_elements(archives) WITH ORDINALITY a (e, n)) WHERE id = %s",
        (key, receipt.id),
    )


def counted(ddl: Ddl, receipt: Receipt) -> None:
    """Note that what was begun is carried out: rows that come from now on are another thing to approve."""
    ddl.rows(
        "UPDATE _millstream.erasures SET times = times + 1, under_way = false WHERE id = %s AND under_way",
        (receipt.id,),
    )


def finish(ddl: Ddl, receipt: Receipt, at: datetime | None, unjudged: Iterable[str]) -> None:
    """Note when nothing was left, None while something is, and what nobody can judge."""
    ddl.rows(
        "UPDATE _millstream.erasures SET done_at = %s, unjudged = %s::jsonb WHERE id = %s",
        (at, json.dumps(list(unjudged)), receipt.id),
    )


def _receipt(row: tuple[Any, ...]) -> Receipt:
    archives = tuple(Judged(**item | {"holds": tuple(item.get("holds", ()))}) for item in row[8])
    known = dict(zip(("id", "table", "condition", "reason", "live_rows", "detached_rows", "quarantined_rows",
                      "archived_rows"), row, strict=False))  # fmt: skip
    return Receipt(**known, archives=archives, unjudged=tuple(row[9]), begun_at=row[10], done_at=row[11],
                   times=row[12])  # fmt: skip


def _shown(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


__all__ = ["Judged", "Receipt", "begin", "counted", "entering", "finish", "receipt_of", "receipts", "removed"]
