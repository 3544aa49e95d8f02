"""What a table is at this moment: how it is cut, its partitions, their sizes; read from PostgreSQL's catalog."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from millstream_api.retentionpolicy import TimeAs
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.retention import others
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.spans import KINDS, Kind, Value, following, parsed, spelled
from millstream_pipelines.schema import normalized
from millstream_pipelines.warehouses.names import quote, quote_table

Shape = Literal["missing", "plain", "ranges", "hypertable", "foreign"]


@dataclass(frozen=True)
class Partition:
    """An attached range, or values in a row of a list. `low` or `high` is None where it is open."""

    name: str
    low: Value | None
    high: Value | None
    bytes: int = 0
    rows: int = 0
    """As PostgreSQL estimates; 0 also where nobody has looked yet (`is_counted`)."""
    is_counted: bool = True
    detaching: bool = False
    """A DETACH CONCURRENTLY that was begun and not ended."""
    is_leaf: bool = True
    """Whether it holds rows itself, and is neither partitioned nor a foreign table."""


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
    listed: bool = False
    """Whether it is cut by lists of values; each of its partitions takes some that follow one another."""
    within: str = ""
    """What holds for all its rows since it is a partition itself, as SQL."""
    shut: str = ""
    """The role that we log in as, where it may make no tables in its schema."""

    @property
    def horizon(self) -> Value | None:
        """The first value that no partition takes yet; None when the last one is open or there is none."""
        last = self.partitions[-1] if self.partitions else None
        return last.high if last else None


_TABLE = """
SELECT c.relkind, c.relispartition, p.partstrat, p.partnatts, p.partexprs IS NOT NULL, a.attname,
  format_type(a.atttypid, a.atttypmod), p.partdefid <> 0, coalesce(pg_get_partition_constraintdef(c.oid), ''),
  (SELECT u.partstrat FROM pg_inherits i JOIN pg_partitioned_table u ON u.partrelid = i.inhparent
   WHERE i.inhrelid = c.oid), c.relowner::regrole::text, pg_has_role(c.relowner, 'USAGE'),
  has_schema_privilege(c.relnamespace, 'CREATE'), current_user
FROM pg_class c LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
WHERE c.oid = to_regclass(%s)
"""
_PARTITIONS = """
SELECT n.nspname || '.' || c.relname, pg_get_expr(c.relpartbound, c.oid),
  (SELECT coalesce(sum(pg_total_relation_size(r.relid)), 0) FROM pg_partition_tree(c.oid) r WHERE r.isleaf)::bigint,
  c.reltuples::bigint, i.inhdetachpending, c.relkind = 'r'
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = to_regclass(%s)
"""
_RANGE = re.compile(r"FOR VALUES FROM \(('?)(?P<low>[^')]*)\1\) TO \(('?)(?P<high>[^')]*)\3\)")  # numbers may be bare
_LIST = re.compile(r"FOR VALUES IN \((?P<values>.*)\)")
_OPEN = frozenset({"MINVALUE", "MAXVALUE", "-infinity", "infinity"})
_NULL = "NULL"
_TOLD = re.compile(r"([A-Za-z_][A-Za-z0-9_$]*\.)?[A-Za-z_][A-Za-z0-9_$]*")  # as TableName
_TAKES = "one column of type timestamptz, timestamp, date, smallint, integer or bigint"
_CUTS = {"h": "by hash, so that none of its partitions is older than another", "l": "by a list", "r": "by ranges"}


def table_facts(ddl: Ddl, table: str, time_as: TimeAs | None = None) -> TableFacts:
    """Return what the table is. Never raises for what it finds: shape `foreign` says why it is not ours to manage.

    `time_as`: how its numbers tell time.
    """
    if not _TOLD.fullmatch(table):
        why = (
            "its name has characters that no policy can write, so that nothing of it could be restored; rename it, or "
        )
        return TableFacts(table, "foreign", why=why + "narrow the pattern that chooses it")
    quoted = quote_table(table)
    found = ddl.rows(_TABLE, (quoted,))
    if not found:
        return TableFacts(table, "missing")
    relkind, is_partition, strategy, width, expressions, column, type_name, default, within, above, *access = found[0]
    owner = others.owner_of(ddl, table)
    if owner == others.TIMESCALE:
        from millstream_pipelines.retention.hypertables import hypertable_facts

        return hypertable_facts(ddl, table, quoted)
    if owner:
        return TableFacts(table, "foreign", why=owner)
    if is_partition and not (relkind == "p" and above in "lh"):
        return TableFacts(table, "foreign", why="it is a partition itself; name its parent")
    if relkind == "r":
        return TableFacts(table, "plain")
    if relkind != "p":
        return TableFacts(table, "foreign", why="it is no table; name a table")
    kind = KINDS.get(normalized(type_name or ""))
    if why := _unfit(strategy, width, expressions, column, type_name, kind, time_as):
        return TableFacts(table, "foreign", why=why)
    assert kind is not None  # noqa: S101 - what has none is unfit
    role, is_ours, may_create, login = access
    if not is_ours:
        return TableFacts(table, "foreign", why=f"it belongs to role {role}; log in as that role or as a member of it")
    try:
        parts = sorted(_partitions(ddl, quoted, time_as or kind), key=_order)
    except ValueError as error:
        return TableFacts(table, "foreign", why=str(error))
    return TableFacts(
        table, "ranges", column, time_as or kind, tuple(parts), bool(default), listed=strategy == "l", within=within,
        shut="" if may_create else login,
    )  # fmt: skip


def _unfit(
    strategy: str, width: int, expressions: bool, column: str, type_name: str, kind: Kind | None, time_as: TimeAs | None
) -> str:
    """Return why a partitioned table cannot be managed, and what can be; an empty text when it can."""
    cut = _CUTS[strategy]
    if strategy == "h":
        return f"it is cut {cut}; a policy takes ranges or lists of {_TAKES}"
    if expressions:
        return f"it is cut {cut} of an expression; a policy takes {_TAKES}"
    if width != 1:
        return f"it is cut {cut} of {width} columns; a policy takes {_TAKES}"
    if kind is None:
        more = "; where its partitions are partitioned by time themselves, those are managed" if strategy == "l" else ""
        what = f"it is cut {cut} of column '{column}' of type {type_name}, whose values have no age"
        return f"{what}; a policy takes {_TAKES}{more}"
    return _no_numbers(column, type_name, kind, time_as)


def _no_numbers(column: str, type_name: str, kind: Kind, time_as: TimeAs | None) -> str:
    if time_as is None or kind == "integer":
        return ""
    return f"column '{column}' is of type {type_name}, and partitionBy.timeAs is for whole numbers; leave it out"


def _partitions(ddl: Ddl, quoted: str, kind: Kind) -> list[Partition]:
    """Return the partitions but those without dates: DEFAULT, NULL, infinity. ValueError for bounds that are none."""
    found = []
    for name, bound, size, rows, pending, is_leaf in ddl.rows(_PARTITIONS, (quoted,)):
        if name.count(".") != 1:
            raise ValueError(f"partition {name} has a dot in its name; rename it")
        if match := _RANGE.fullmatch(bound or ""):
            if match["low"] == "infinity" or match["high"] == "-infinity":  # no value that has a date
                continue
            low, high = (_bound(match[part], name, kind) for part in ("low", "high"))
        elif match := _LIST.fullmatch(bound or ""):
            if match["values"] == _NULL:
                continue
            low, high = _in_a_row(match["values"], name, kind)
        else:  # DEFAULT
            continue
        found.append(Partition(name, low, high, size, max(0, rows), rows >= 0, pending, is_leaf))
    return found


def _bound(text: str, name: str, kind: Kind) -> Value | None:
    if text in _OPEN:
        return None
    try:
        return parsed(text, kind)
    except ValueError as error:
        raise ValueError(f"partition {name} has the bound {text}, which is no {kind} that a policy knows") from error


def _in_a_row(values: str, name: str, kind: Kind) -> tuple[Value, Value]:
    """Return the first value and the one behind the last of a list."""
    found = [_bound(text.strip("'"), name, kind) for text in values.split(", ") if text != _NULL]
    read: list[Value] = sorted(value for value in found if value is not None)
    for value, after in pairwise(read):
        if following(value, kind) != after:
            raise ValueError(
                f"partition {name} takes {spelled(value, kind)} and {spelled(after, kind)}, between which there is "
                "more; a policy takes lists with one value per partition, or with values that follow one another"
            )
    if len(read) != values.count(",") + 1:
        raise ValueError(f"partition {name} takes {values}; NULL and infinity need a partition of their own")
    return read[0], following(read[-1], kind)


def _order(partition: Partition) -> tuple[bool, Value]:
    return (partition.low is not None, partition.low if partition.low is not None else 0)


def column_kind(ddl: Ddl, table: str, column: str, time_as: TimeAs | None = None) -> Kind:
    """Return the kind of a column. ConfigurationError when it is missing or of a type that cannot be cut.

    `time_as`: how its numbers tell time.
    """
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
    if why := _no_numbers(column, found[0][0], kind, time_as):
        raise ConfigurationError(f"{ddl.owner}: table {table}: {why}")
    return time_as or kind


__all__ = ["Partition", "Shape", "TableFacts", "column_kind", "quote", "replace", "table_facts"]
