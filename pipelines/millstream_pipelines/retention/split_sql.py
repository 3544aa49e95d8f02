"""The SQL that splits a table's old range into partitions while it is written to. Pure.

The rows are copied by their key into partitions of a table nobody knows of. A trigger notes the key of every row that
changes meanwhile; noted keys are copied anew, whatever happened to their rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from millstream_pipelines.retention.likeness import Likeness
from millstream_pipelines.retention.partitions import bounds, condition, partition_name
from millstream_pipelines.retention.spans import Grid, Kind, Value
from millstream_pipelines.retention.whole_times import TICKS, is_whole, number
from millstream_pipelines.warehouses.names import literal, quote, quote_table

RANGE = "millstream_range"
_TRIGGER, _TRUNCATED = "millstream_split", "_truncated"
_CELL_US = 15 * 60 * 1_000_000
_FIRST, _LAST = datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 1, tzinfo=UTC)  # of which calendars tell
_FEW = 100_000  # rows that are sooner found by their key, one by one


@dataclass(frozen=True)
class Piece:
    """A partition to be: its name and range."""

    name: str
    low: Value | None
    high: Value


def pieces(table: str, cells: Iterable[Value], now: Value, upper: Value, grid: Grid) -> list[Piece]:
    """Return the partitions of an old range that ends at `upper`; together they take what it took.

    `cells`: the beginnings of the grid's ranges that hold rows. A stretch without rows that is past is one partition,
    and the first one is open below, as the old range is.
    """
    held = sorted({cell for cell in cells if cell < upper})  # type: ignore[operator]  # all are of one kind
    current = min(grid.floor(now), upper)
    low = min([*held[:1], current])
    found: list[Piece] = []
    filled = set(held)
    while low < upper:  # type: ignore[operator]
        high = grid.next(low)
        if low not in filled and low < current:  # type: ignore[operator]
            later = [cell for cell in held if cell > low]  # type: ignore[operator]
            high = min([*later[:1], current])
        high = min(high, upper)
        found.append(Piece(partition_name(table, low, grid), low if found else None, high))
        low = high
    return found


def cells_query(table: str, column: str, grid: Grid) -> str:
    """Return the query for values from which the filled ranges follow: the column's numbers, or seconds since 1970."""
    name, of = quote(column), quote_table(table)
    if grid.kind == "integer":
        width = grid.span.count
        return f"SELECT DISTINCT floor({name}::numeric / {width})::bigint * {width} FROM {of}"
    if is_whole(grid.kind):
        first, last = (number(moment, grid.kind) for moment in (_FIRST, _LAST))
        width = _CELL_US // TICKS[grid.kind] if grid.kind in TICKS else 1
        cell = f"floor({name}::numeric / {width})::bigint * {width}"
        return f"SELECT DISTINCT {cell} FROM {of} WHERE {name} >= {first} AND {name} < {last}"
    kind = "timestamptz" if grid.kind == "timestamptz" else "timestamp"
    binned = f"date_bin('15 minutes', {name}::{kind}, '2000-01-01'::{kind})"  # lies in one range, whatever the zone
    sane = f"{name} >= '0001-01-03' AND {name} < '9999-12-01'"
    return f"SELECT DISTINCT extract(epoch FROM {binned})::bigint FROM {of} WHERE {sane}"


class Splitting:
    """The statements of one table's split. `columns`: those that can be written; `key`: what tells rows apart."""

    def __init__(
        self, table: str, old: str, columns: Sequence[str] = (), key: Sequence[str] = (), types: Sequence[str] = ()
    ) -> None:
        self.table, self.old = table, old
        self._columns, self._key, self._types = columns, key, types
        mark = hashlib.sha256(table.encode()).hexdigest()[:8]
        self.target, self.log, self._note = (f"_millstream.split_{part}{mark}" for part in ("", "log_", "note_"))

    @property
    def _keys(self) -> str:
        return ", ".join(quote(name) for name in self._key)

    @property
    def _names(self) -> str:
        return ", ".join(quote(name) for name in self._columns)

    def prepared(self, column: str, key_index: str, parts: Sequence[tuple[Piece, Likeness]], kind: Kind) -> list[str]:
        """Return the SQL that makes the empty partitions and the log. `key_index` makes the key."""
        target = quote_table(self.target)
        made = [
            (
                f"CREATE TABLE {target} (LIKE {quote_table(self.table)} INCLUDING ALL EXCLUDING INDEXES "
                f"EXCLUDING IDENTITY) PARTITION BY RANGE ({quote(column)})"
            ),
            key_index,
        ]
        for part, like in parts:
            child, check = quote_table(part.name), condition(column, part.low, part.high, kind)
            made += [
                f"{like.create} {child} (LIKE {target} INCLUDING ALL, CONSTRAINT {RANGE} CHECK ({check})){like.stored}",
                *like.settings,
                f"ALTER TABLE {target} ATTACH PARTITION {child} {bounds(part.low, part.high, kind)}",
            ]
        log = ", ".join(f"{quote(name)} {kind}" for name, kind in zip(self._key, self._types, strict=True))
        new, old = (", ".join(f"{row}.{quote(name)}" for name in self._key) for row in ("NEW", "OLD"))
        into = f"INSERT INTO {self.log}"
        # *<> compares bytes: = of a type from an extension is not on the path, and what differs too often does no harm.
        body = (
            f"BEGIN IF TG_OP = 'TRUNCATE' THEN {into} ({_TRUNCATED}) VALUES (true); RETURN NULL; END IF; "
            f"IF TG_OP <> 'INSERT' THEN {into} ({self._keys}) VALUES ({old}); END IF; "
            f"IF TG_OP = 'INSERT' THEN {into} ({self._keys}) VALUES ({new}); "
            f"ELSIF TG_OP = 'UPDATE' AND ROW({new})::record *<> ROW({old})::record THEN "
            f"{into} ({self._keys}) VALUES ({new}); END IF; RETURN NULL; END"
        )
        return [
            *made,
            f"CREATE TABLE {self.log} ({log}, {_TRUNCATED} boolean)",
            f"ALTER TABLE {self.log} REPLICA IDENTITY FULL",  # rows leave it, also when a publication has all tables
            # Whoever may write the table may write the log, through this function alone.
            (
                f"CREATE FUNCTION {self._note}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
                f"SET search_path = pg_catalog, pg_temp AS {literal(body)}"
            ),
        ]

    def watched(self) -> list[str]:
        """Return the SQL that notes changes from its commit on; it waits for every transaction that writes."""
        old = quote_table(self.old)
        return [
            (
                f"CREATE TRIGGER {_TRIGGER} AFTER INSERT OR UPDATE OR DELETE ON {old} FOR EACH ROW "
                f"EXECUTE FUNCTION {self._note}()"
            ),
            f"CREATE TRIGGER {_TRIGGER}_all AFTER TRUNCATE ON {old} EXECUTE FUNCTION {self._note}()",
            f"ALTER TABLE {old} ENABLE ALWAYS TRIGGER {_TRIGGER}",
            f"ALTER TABLE {old} ENABLE ALWAYS TRIGGER {_TRIGGER}_all",
        ]

    def watching(self) -> str:
        """Return the query for how many of the triggers are there and on."""
        of = f"tgrelid = to_regclass({literal(quote_table(self.old))}) AND tgenabled = 'A'"
        return f"SELECT count(*) FROM pg_trigger WHERE {of} AND tgname IN ('{_TRIGGER}', '{_TRIGGER}_all')"

    def batch(self, after: Sequence[str] | None, rows: int) -> str:
        """Return the query that copies the rows after a key; its row: how many, and the last one's key."""
        where = ""
        if after is not None:
            values = ", ".join(f"{literal(text)}::{kind}" for text, kind in zip(after, self._types, strict=True))
            where = f"WHERE ({self._keys}) > ({values}) "
        backwards = ", ".join(f"{quote(name)} DESC" for name in self._key)
        texts = ", ".join(f"{quote(name)}::text" for name in self._key)
        return (
            f"WITH b AS MATERIALIZED (SELECT {self._names} FROM ONLY {quote_table(self.old)} {where}"
            f"ORDER BY {self._keys} LIMIT {rows:d}), "
            f"i AS (INSERT INTO {quote_table(self.target)} ({self._names}) SELECT {self._names} FROM b "
            "ON CONFLICT DO NOTHING) "  # a row that was noted is there already
            f"SELECT (SELECT count(*) FROM b), (SELECT jsonb_build_array({texts}) FROM b ORDER BY {backwards} LIMIT 1)"
        )

    def noted(self) -> list[str]:
        """Return the SQL that takes the noted keys into `pg_temp.noted`, and the query that looks at them."""
        return [
            (
                f"CREATE TEMPORARY TABLE noted ON COMMIT DROP AS WITH gone AS (DELETE FROM {self.log} RETURNING *) "
                "SELECT DISTINCT * FROM gone"
            ),
            f"SELECT count(*), coalesce(bool_or({_TRUNCATED}), false) FROM pg_temp.noted",
        ]

    def renewed(self, count: int) -> list[str]:
        """Return the SQL that makes the copies of `count` noted rows what the rows are."""
        same = " AND ".join(f"s.{quote(name)} = n.{quote(name)}" for name in self._key)
        names = ", ".join(f"s.{quote(name)}" for name in self._columns)
        # Nobody has counted what is noted, and a guess would read whole tables, perhaps while everybody waits.
        by_key = ["SET LOCAL enable_hashjoin = off", "SET LOCAL enable_mergejoin = off"] if count < _FEW else []
        return [
            *by_key,
            f"DELETE FROM {quote_table(self.target)} s USING pg_temp.noted n WHERE {same}",
            (
                f"INSERT INTO {quote_table(self.target)} ({self._names}) SELECT {names} "
                f"FROM pg_temp.noted n JOIN ONLY {quote_table(self.old)} s ON {same}"
            ),
            "DROP TABLE pg_temp.noted",
        ]

    def content(self, table: str, columns: Sequence[str]) -> str:
        """Return the query for count and hash of a table: the sum of its rows' hashes, so no order is in it."""
        row = f"ROW({', '.join(quote(name) for name in columns)})::text"
        value = f"('x' || left(md5({row}), 16))::bit(64)::bigint::numeric"
        return f"SELECT count(*), coalesce(sum({value}), 0)::text FROM {quote_table(table)}"

    def switched(self, parts: Sequence[Piece], kind: Kind) -> list[str]:
        """Return the SQL that puts the partitions in the old range's place, without a look at their rows."""
        parent, target = quote_table(self.table), quote_table(self.target)
        made = [f"ALTER TABLE {parent} DETACH PARTITION {quote_table(self.old)}"]
        for part in parts:
            child = quote_table(part.name)
            made += [
                f"ALTER TABLE {target} DETACH PARTITION {child}",
                f"ALTER TABLE {parent} ATTACH PARTITION {child} {bounds(part.low, part.high, kind)}",
                f"ALTER TABLE {child} DROP CONSTRAINT {RANGE}",
            ]
        return [*made, *self.dropped()]

    def dropped(self) -> list[str]:
        """Return the SQL that drops all but the partitions; those still attached to the copy go with it."""
        old = quote_table(self.old)
        copy, *rest = self.cleared()
        return [
            copy,
            f"DROP TRIGGER IF EXISTS {_TRIGGER} ON {old}",
            f"DROP TRIGGER IF EXISTS {_TRIGGER}_all ON {old}",
            *rest,
        ]

    def cleared(self) -> list[str]:
        """Return the SQL of `dropped` for an old table that is gone."""
        return [
            f"DROP TABLE IF EXISTS {quote_table(self.target)}",  # first: it takes a while, and nobody waits for it yet
            f"DROP FUNCTION IF EXISTS {self._note}() CASCADE",  # of its own triggers, wherever the table is now
            f"DROP TABLE IF EXISTS {self.log}",
        ]


__all__ = ["RANGE", "Piece", "Splitting", "cells_query", "pieces"]
