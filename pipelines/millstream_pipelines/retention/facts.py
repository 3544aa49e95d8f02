"""What a table is at this moment: how it is cut, its partitions, their sizes; read from PostgreSQL's catalog."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.spans import KINDS, Kind, Value, parsed
from millstream_pipelines.schema import normalized
from millstream_pipelines.warehouses.names import quote, quote_table

Shape = Literal["missing", "plain", "ranges", "hypertable", "foreign"]


@dataclass(frozen=True)
class Partition:
    """An attached range. `low` or `high` is None where it is open."""

    name: str
    low: Value | None
    high: Value | None
    bytes: int = 0
    rows: int = 0
    """As PostgreSQL estimates; 0 also where nobody has looked yet (`is_counted`)."""
    is_counted: bool = True
    detaching: bool = False
    """A DETACH CONCURRENTLY that was begun and not ended."""


@dataclass(frozen=True)
class TableFacts:
    """A table as the catalog has it. `why`: why a policy cannot own it, for shape `foreign`."""

    name: str
    shape: Shape
    column: str = ""
    kind: Kind = "timestamptz"
    partitions: tuple[Partition, ...] = ()
    has_default: bool = False
    why: str = ""

    @property
    def horizon(self) -> Value | None:
        """The first value that no partition takes yet; None when the last one is open or there is none."""
        last = self.partitions[-1] if self.partitions else None
        return last.high if last else None


_TABLE = """
SELECT c.oid, c.relkind, c.relispartition, p.partstrat, p.partnatts, p.partexprs IS NOT NULL,
  a.attname, format_type(a.atttypid, a.atttypmod), p.partdefid <> 0
FROM pg_class c LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
WHERE c.oid = to_regclass(%s)
"""
_PARTITIONS = """
SELECT n.nspname || '.' || c.relname, pg_get_expr(c.relpartbound, c.oid), c.relkind,
  (SELECT coalesce(sum(pg_total_relation_size(r.relid)), 0) FROM pg_partition_tree(c.oid) r WHERE r.isleaf)::bigint,
  c.reltuples::bigint, i.inhdetachpending
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = to_regclass(%s)
"""
_BOUND = re.compile(r"FOR VALUES FROM \((?P<low>MINVALUE|'[^']*')\) TO \((?P<high>MAXVALUE|'[^']*')\)")


def table_facts(ddl: Ddl, table: str) -> TableFacts:
    """Return what the table is. Never raises for what it finds: shape `foreign` says why it is not ours to manage."""
    quoted = quote_table(table)
    found = ddl.rows(_TABLE, (quoted,))
    if not found:
        return TableFacts(table, "missing")
    _, relkind, is_partition, strategy, width, expressions, column, type_name, default = found[0]
    owner = _other_owner(ddl, table)
    if owner == "timescale":
        return TableFacts(table, "hypertable")
    if owner:
        return TableFacts(table, "foreign", why=owner)
    if is_partition:
        return TableFacts(table, "foreign", why="it is a partition itself; name its parent")
    if relkind == "r":
        return TableFacts(table, "plain")
    if relkind != "p":
        return TableFacts(table, "foreign", why="it is no table; name a table")
    kind = KINDS.get(normalized(type_name or ""))
    if strategy != "r" or width != 1 or expressions or kind is None:
        why = "it is not cut by ranges of one column of type timestamptz, timestamp, date or integer"
        return TableFacts(table, "foreign", why=why)
    parts = sorted(_partitions(ddl, quoted, kind), key=_order)
    return TableFacts(table, "ranges", column, kind, tuple(parts), bool(default))


def _partitions(ddl: Ddl, quoted: str, kind: Kind) -> list[Partition]:
    found = []
    for name, bound, _, size, rows, pending in ddl.rows(_PARTITIONS, (quoted,)):
        match = _BOUND.fullmatch(bound or "")
        if match is None:  # DEFAULT
            continue
        low, high = (None if "VALUE" in text else parsed(text.strip("'"), kind) for text in match.groups())
        found.append(Partition(name, low, high, size, max(0, rows), rows >= 0, pending))
    return found


def _order(partition: Partition) -> tuple[bool, Value]:
    return (partition.low is not None, partition.low if partition.low is not None else 0)


def _other_owner(ddl: Ddl, table: str) -> str:
    """Return who manages the table already; an empty text for nobody."""
    if ddl.rows("SELECT to_regclass('partman.part_config')")[0][0] is not None and ddl.rows(
        "SELECT 1 FROM partman.part_config WHERE parent_table = %s", (table,)
    ):
        return "pg_partman manages it; remove it from partman.part_config, or leave it out of the policy"
    if ddl.rows("SELECT to_regclass('_timescaledb_catalog.hypertable')")[0][0] is not None:
        schema, _, name = table.rpartition(".")
        if ddl.rows(
            "SELECT 1 FROM _timescaledb_catalog.hypertable WHERE schema_name = %s AND table_name = %s",
            (schema or "public", name),
        ):
            return "timescale"
    return ""


def column_kind(ddl: Ddl, table: str, column: str) -> Kind:
    """Return the kind of a column. ConfigurationError when it is missing or of a type that cannot be cut."""
    found = ddl.rows(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attname = %s AND attnum > 0 AND NOT attisdropped",
        (quote_table(table), column),
    )
    if not found:
        raise ConfigurationError(f"{ddl.owner}: table {table} has no column '{column}' (partitionBy.column)")
    kind = KINDS.get(normalized(found[0][0]))
    if kind is None:
        raise ConfigurationError(
            f"{ddl.owner}: column '{column}' of {table} is of type {found[0][0]}; partitionBy.column takes "
            "timestamptz, timestamp, date, smallint, integer or bigint"
        )
    return kind


__all__ = ["Partition", "Shape", "TableFacts", "column_kind", "quote", "replace", "table_facts"]
