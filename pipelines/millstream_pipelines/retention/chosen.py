"""Which tables a policy owns, and in which order they are worked on: who refers to a table comes before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

from millstream_api.retentionpolicy import Dependent, Erasure, Keep, PartitionBy, RetainedTable, RetentionPolicySpec
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.ondemand import full_name
from millstream_pipelines.retention.unfinished import mark
from millstream_pipelines.warehouses.names import quote_table

_Entry = TypeVar("_Entry", Dependent, Erasure)

_TABLES = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND (%(schema)s IS NULL OR n.nspname = %(schema)s)
  AND (%(tag)s IS NULL OR n.nspname || '.' || c.relname IN (
    SELECT table_name FROM _millstream.tags WHERE tag = %(tag)s))
  AND n.nspname || '.' || c.relname NOT IN (  -- what waits for its drop
    SELECT old_name FROM _millstream.conversions WHERE state <> 'ended' UNION ALL
    SELECT partition FROM _millstream.retired WHERE state IN ('retiring', 'detached', 'archived'))
  AND coalesce(obj_description(c.oid, 'pg_class'), '') NOT LIKE %(unfinished)s  -- what a restore fills
ORDER BY 1
"""
_REFERENCES = """
SELECT DISTINCT fn.nspname || '.' || f.relname, tn.nspname || '.' || t.relname
FROM pg_constraint k JOIN pg_class f ON f.oid = k.conrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE k.contype = 'f' AND k.conrelid <> k.confrelid
"""
_PARTS = """
SELECT n.nspname || '.' || c.relname, c.relkind = 'p' FROM pg_partitioned_table u
JOIN pg_inherits i ON i.inhparent = u.partrelid JOIN pg_class c ON c.oid = i.inhrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE u.partrelid = to_regclass(%s) AND u.partstrat IN ('l', 'h') ORDER BY 1
"""


@dataclass(frozen=True)
class Chosen:
    """A table and what the policy says of it. `within`: the table that the policy names, where this is a part of it."""

    name: str
    by: PartitionBy | None
    keep: Keep
    within: str = ""


def chosen_tables(ddl: Ddl, policy: RetentionPolicySpec) -> list[Chosen]:
    """Return the policy's tables; in place of one that is cut by a list or hash into tables which are cut themselves,
    those. ConfigurationError for one that is named twice.
    """
    found: dict[str, Chosen] = {}
    named = {full_name(item.name) for item in policy.tables if item.name is not None}
    for item in policy.tables:
        names = [item.name] if item.name is not None else _fitting(ddl, item, named)
        for full in map(full_name, names):
            parts = ddl.rows(_PARTS, (quote_table(full),)) if full.count(".") == 1 else []
            cut = [name for name, is_cut in parts if is_cut and name not in named]
            own = [] if cut and all(is_cut for _, is_cut in parts) else [full]
            for name in [*own, *cut]:
                if name in found:
                    raise ConfigurationError(
                        f"{ddl.owner}: table {name} is chosen twice; name it once, or narrow the pattern"
                    )
                found[name] = Chosen(name, item.partition_by, item.keep or policy.keep, full if name != full else "")
    return list(found.values())


def spoken_for(ddl: Ddl, policy: RetentionPolicySpec, chosen: Iterable[Chosen]) -> RetentionPolicySpec:
    """Return the policy with every hold, dependent and erasure under the full names of the tables it is meant for.

    ConfigurationError where one names a table that is none of the policy's: a hold that holds nothing is a mistake.
    """
    meant: dict[str, list[str]] = {}
    for item in chosen:
        meant.setdefault(item.name, []).append(item.name)
        if item.within:
            meant.setdefault(item.within, []).append(item.name)

    def tables(what: str, table: str) -> list[str]:
        if full_name(table) not in meant:
            raise ConfigurationError(
                f"{ddl.owner}: {what} names table {table}, which is none of the policy's: add it to `tables`, or take "
                f"the entry out; its tables are {', '.join(sorted(meant)[:20]) or 'none'}"
            )
        return list(dict.fromkeys(meant[full_name(table)]))

    def told(what: str, entries: Sequence[_Entry]) -> list[_Entry]:
        return [item.model_copy(update={"table": name}) for item in entries for name in tables(what, item.table)]

    holds = [item.model_copy(update={"table": name}) for item in policy.holds
             for name in tables(f"hold '{item.name}'", item.table)]  # fmt: skip
    return policy.model_copy(update={
        "holds": holds, "dependents": told("dependents", policy.dependents), "delete": told("delete", policy.delete),
    })  # fmt: skip


def _fitting(ddl: Ddl, item: RetainedTable, named: set[str]) -> list[str]:
    """Return the tables that fit a selector; those the policy names by themselves are left to their own entry."""
    found = [row[0] for row in ddl.rows(_TABLES, {"schema": item.schema_, "tag": item.tag, "unfinished": mark("%")})]
    return [name for name in found if fnmatchcase(name.partition(".")[2], item.pattern) and name not in named]


def in_order(ddl: Ddl, chosen: list[Chosen]) -> list[Chosen]:
    """Return the tables so that rows which refer to others leave first; a ring of them stays as it is written."""
    by_name = {item.name: item for item in chosen}
    before: dict[str, set[str]] = {name: set() for name in by_name}
    for referring, referred in ddl.rows(_REFERENCES):
        if referring in by_name and referred in by_name:
            before[referred].add(referring)
    try:
        return [by_name[name] for name in TopologicalSorter(before).static_order()]
    except CycleError:
        return chosen


__all__ = ["Chosen", "chosen_tables", "in_order", "spoken_for"]
