"""What the database would refuse, asked before it is tried: so that a plan names what only trying told.

Rows that a foreign key still has in a range, views and other objects bound to a partition itself, tables of another
role, a detach that somebody began and left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.dependence import still_refers
from millstream_pipelines.retention.facts import TableFacts
from millstream_pipelines.retention.planning import Planned
from millstream_pipelines.warehouses.names import quote, quote_table

# What goes with a table is its `own`; what is bound to any of that otherwise is what a DROP stumbles over. The parts
# that a foreign key to the whole table has at a partition leave with its detach.
_BOUND = """
WITH RECURSIVE tables AS (
  SELECT t.name, to_regclass(t.quoted)::oid AS oid FROM unnest(%s::text[], %s::text[]) t (name, quoted)
), own AS (
  SELECT oid AS root, 'pg_class'::regclass::oid AS class, oid AS object FROM tables WHERE oid IS NOT NULL
  UNION
  SELECT o.root, d.classid, d.objid FROM own o
  JOIN pg_depend d ON d.refclassid = o.class AND d.refobjid = o.object AND d.deptype IN ('a', 'i', 'P', 'S')
)
SELECT DISTINCT t.name, CASE WHEN r.oid IS NULL THEN pg_describe_object(d.classid, d.objid, d.objsubid)
  ELSE pg_describe_object('pg_class'::regclass, r.ev_class, 0) END || ' depends on table ' || o.root::regclass::text
FROM own o JOIN tables t ON t.oid = o.root
JOIN pg_depend d ON d.refclassid = o.class AND d.refobjid = o.object AND d.deptype = 'n'
LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
WHERE (o.root, d.classid, d.objid) NOT IN (SELECT root, class, object FROM own) AND coalesce(k.conparentid, 0) = 0
UNION ALL
SELECT t.name, 'table ' || t.name || ', which belongs to role ' || c.relowner::regrole::text
  || '; log in as that role or as a member of it'
FROM tables t JOIN pg_class c USING (oid) WHERE NOT pg_has_role(c.relowner, 'USAGE')
ORDER BY 1, 2
"""
_KEYS = """
WITH RECURSIVE parts AS (
  SELECT t.name, k.oid, k.conparentid, k.conname, k.conrelid, k.conrelid AS referring, k.confrelid, k.conkey, k.confkey
  FROM unnest(%s::text[], %s::text[]) t (name, quoted) JOIN pg_constraint k ON k.confrelid = to_regclass(t.quoted)
  WHERE k.contype = 'f' AND k.conparentid <> 0
  UNION ALL
  SELECT u.name, k.oid, k.conparentid, k.conname, k.conrelid, u.referring, u.confrelid, u.conkey, u.confkey
  FROM parts u JOIN pg_constraint k ON k.oid = u.conparentid)
SELECT p.name, p.conname, p.conrelid::regclass::text, p.referring::regclass::text, p.confrelid::regclass::text,
  (SELECT array_agg(a.attname::text ORDER BY n) FROM unnest(p.conkey) WITH ORDINALITY c (num, n)
   JOIN pg_attribute a ON a.attrelid = p.referring AND a.attnum = c.num),
  (SELECT array_agg(a.attname::text ORDER BY n) FROM unnest(p.confkey) WITH ORDINALITY c (num, n)
   JOIN pg_attribute a ON a.attrelid = p.confrelid AND a.attnum = c.num)
FROM parts p WHERE p.conparentid = 0 ORDER BY 1, 2, 3
"""


@dataclass(frozen=True)
class _Key:
    """A foreign key to a whole table, at one of its partitions."""

    name: str
    table: str
    referring: str
    partition: str
    columns: Sequence[str]
    others: Sequence[str]

    def refers(self, ddl: Ddl, but: Collection[str]) -> bool:
        """Return whether rows refer to the partition, but those in tables that leave before it."""
        pairs = zip(self.columns, self.others, strict=True)
        same = " AND ".join(f"r.{quote(column)} = p.{quote(other)}" for column, other in pairs)
        query = (
            f"SELECT EXISTS (SELECT FROM {self.referring} r JOIN {self.partition} p ON {same} "
            "WHERE r.tableoid <> ALL (SELECT to_regclass(n)::oid FROM unnest(%s::text[]) n "
            "WHERE to_regclass(n) IS NOT NULL))"
        )
        return bool(ddl.rows(query, ([quote_table(name) for name in but],))[0][0])


def told(ddl: Ddl, facts: TableFacts, steps: Iterable[Planned], leaving: Collection[str]) -> list[Planned]:
    """Return the steps, those that the database would refuse with what stands in their way.

    `leaving`: tables that earlier steps of the same run drop.
    """
    steps = list(steps)
    asked = [step for step in steps if step.step in ("detach", "drop") and not step.blocked_by]
    if not asked:
        return steps
    found: dict[int, list[str]] = {id(step): [] for step in asked}
    names = [step.partition for step in asked]
    bound = ddl.rows(_BOUND, (names, [quote_table(name) for name in names]))
    keys = _keys(ddl, [step.partition for step in asked if step.step == "detach"])
    after: dict[int, str] = {}
    for step in asked:
        reasons = found[id(step)]
        reasons += [text for name, text in bound if name == step.partition]
        for key in keys.get(step.partition, ()) if step.step == "detach" else ():
            if key.refers(ddl, leaving):
                reasons.append(still_refers(f"constraint {key.name} of table {key.table}"))
            elif leaving and key.refers(ddl, ()):
                after[id(step)] = f"{step.why}; after the rows that refer to it by constraint {key.name}"
    free = {step.partition for step in asked if not found[id(step)]}
    for pending in (part.name for part in facts.partitions if part.detaching and part.name not in free):
        for step in asked:
            if step.step == "detach" and step.partition != pending:
                found[id(step)].append(
                    f"the detach of {pending}, which was begun and not ended: ALTER TABLE {quote_table(facts.name)} "
                    f"DETACH PARTITION {quote_table(pending)} FINALIZE, or attach it again afterwards"
                )
    return [
        replace(step, blocked_by="; ".join(found[id(step)]), why=after.get(id(step), step.why)) if id(step) in found
        else step
        for step in steps
    ]  # fmt: skip


def _keys(ddl: Ddl, partitions: Sequence[str]) -> dict[str, list[_Key]]:
    found: dict[str, list[_Key]] = {}
    if partitions:
        for name, *rest in ddl.rows(_KEYS, (list(partitions), [quote_table(name) for name in partitions])):
            found.setdefault(name, []).append(_Key(*rest))
    return found


__all__ = ["told"]
