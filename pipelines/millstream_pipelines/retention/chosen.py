"""Which tables a policy owns, and in which order they are worked on: who refers to a table comes before it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter

from millstream_api.retentionpolicy import Keep, PartitionBy, RetentionPolicySpec
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.retention.ddl import Ddl

_TABLES = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1
"""
_REFERENCES = """
SELECT DISTINCT fn.nspname || '.' || f.relname, tn.nspname || '.' || t.relname
FROM pg_constraint k JOIN pg_class f ON f.oid = k.conrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE k.contype = 'f' AND k.conrelid <> k.confrelid
"""


@dataclass(frozen=True)
class Chosen:
    """A table and what the policy says of it."""

    name: str
    by: PartitionBy | None
    keep: Keep


def chosen_tables(ddl: Ddl, policy: RetentionPolicySpec) -> list[Chosen]:
    """Return the policy's tables. ConfigurationError for one that is named twice."""
    found: dict[str, Chosen] = {}
    named = {item.name for item in policy.tables if item.name is not None}
    for item in policy.tables:
        names = [item.name] if item.name is not None else _fitting(ddl, item.schema_ or "", item.pattern, named)
        for name in names:
            full = name if "." in name else f"public.{name}"
            if full in found:
                raise ConfigurationError(
                    f"{ddl.owner}: table {full} is chosen twice; name it once, or narrow the pattern"
                )
            found[full] = Chosen(full, item.partition_by, item.keep or policy.keep)
    for erasure in policy.delete:
        if (erasure.table if "." in erasure.table else f"public.{erasure.table}") not in found:
            raise ConfigurationError(
                f"{ddl.owner}: delete names table {erasure.table}, which is none of the policy's: add it to `tables`"
            )
    return list(found.values())


def _fitting(ddl: Ddl, schema: str, pattern: str, named: set[str]) -> list[str]:
    """Return the tables of a schema that fit; those the policy names by themselves are left to their own entry."""
    found = [row[0] for row in ddl.rows(_TABLES, (schema,))]
    return [name for name in found if fnmatchcase(name.partition(".")[2], pattern) and name not in named]


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


__all__ = ["Chosen", "chosen_tables", "in_order"]
