"""Tables that wait for their archive or their drop and that somebody dropped, renamed or attached elsewhere by hand.

Nothing is guessed: a step for such a table is blocked by its name, until the table is put back or given up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from millstream_pipelines.retention import records
from millstream_pipelines.retention.ddl import Ddl, alone
from millstream_pipelines.retention.planning import Planned
from millstream_pipelines.retention.records import Retired
from millstream_pipelines.warehouses.names import quote, quote_table

# The number that a table had may be another's in a copy of the database: one without the column is no namesake.
_PLACES = """
SELECT t.id, to_regclass(t.quoted) IS NOT NULL,
  (SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = t.col AND NOT a.attisdropped
   WHERE c.oid = t.oid AND c.relkind IN ('r', 'p')),
  (SELECT i.inhparent::regclass::text FROM pg_inherits i
   WHERE i.inhrelid = to_regclass(t.quoted) AND i.inhparent IS DISTINCT FROM to_regclass(t.parent)::oid)
FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::text[]) t (id, quoted, oid, col, parent)
"""


@dataclass(frozen=True)
class _Place:
    """Where a record's table is: `now`, its name if it has another one; `above`, what it is attached to, if not its
    own."""

    is_there: bool
    now: str | None
    above: str | None

    def told(self, record: Retired) -> str:
        """Return what stands in the way of the record's next step, and what to do; empty where nothing does."""
        table = quote_table(record.partition)
        give_up = f"or give it up: millstream retention abandon --table {record.table}"
        if self.above is not None:
            return (
                f"table {record.partition}, which somebody attached to {self.above}: "
                f"ALTER TABLE {self.above} DETACH PARTITION {table}, {give_up}"
            )
        if self.is_there:
            return ""
        if self.now is not None:
            name = quote(record.partition.rpartition(".")[2])
            return (
                f"table {record.partition}, which was renamed to {self.now} before it was archived: "
                f"ALTER TABLE {self.now} RENAME TO {name} (in its schema), {give_up}"
            )
        return f"table {record.partition}, which is gone: dropped before it was archived. Bring it back, {give_up}"


def named(ddl: Ddl, steps: Sequence[Planned], archives: bool) -> list[Planned]:
    """Return the steps, those whose table is astray blocked by its name.

    `archives`: whether the policy has any; without, what somebody dropped is just dropped.
    """
    asked = [step.subject for step in steps if isinstance(step.subject, Retired) and step.subject.is_here]
    places = _places(ddl, asked)
    found = []
    for step in steps:
        record, why = step.subject, step.blocked_by
        if isinstance(record, Retired) and (place := places.get(record.id)) is not None:
            is_needed = place.above is not None or (archives and step.step in ("archive", "detach"))
            why = why or (place.told(record) if is_needed else "")
        found.append(replace(step, blocked_by=why))
    return found


def given_up(ddl: Ddl, table: str) -> list[str]:
    """Note as gone, for good, what is astray of a table; return what was said of it. RetriableError amid a run."""
    told = []
    with alone(ddl, table):
        here = [record for record in records.retired(ddl, table) if record.is_here]
        places, now = _places(ddl, here), ddl.rows("SELECT now()")[0][0]
        for record in here:
            place = places[record.id]
            if not place.told(record):
                continue
            where = place.above or place.now
            left = f"{record.partition} is given up" + (f"; its rows stay in {where}" if where else ", it is gone")
            records.advance(ddl, record, "dropped" if record.manifest is not None else "expired", now)
            told.append(left + ("" if record.manifest is None else "; its archive stays"))
    return told


def _places(ddl: Ddl, known: Sequence[Retired]) -> dict[int, _Place]:
    if not known:
        return {}
    columns = zip(
        *((r.id, quote_table(r.partition), r.oid, r.column, quote_table(r.table)) for r in known), strict=True
    )
    return {row[0]: _Place(*row[1:]) for row in ddl.rows(_PLACES, [list(column) for column in columns])}


__all__ = ["given_up", "named"]
