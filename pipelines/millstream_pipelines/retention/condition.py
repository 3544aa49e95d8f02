"""The condition of an erasure: judged by PostgreSQL alone, the same words in every place a row may be.

It is checked before anything is deleted: one expression, about the row itself. A subquery would mean something else
at the next place or the next day, and what was judged once would have to be judged again for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

import psycopg2

from millstream_api.retentionpolicy import Erasure, Hold
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.retention.changing import changing
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.partitions import condition as within
from millstream_pipelines.retention.spans import Kind, parsed_in
from millstream_pipelines.warehouses._postgres.connection import detailed, translated
from millstream_pipelines.warehouses.names import quote, quote_table

_REFUSED_CLASSES = ("42", "0A", "22", "34")  # syntax and names, features, values, more than one statement
_ONE_STATEMENT = """
DO $millstream$ DECLARE c refcursor; BEGIN
  OPEN c FOR EXECUTE current_setting('millstream.condition'); CLOSE c;
END $millstream$
"""
_USED = """
SELECT n, a.attname FROM pg_constraint k CROSS JOIN unnest(k.conkey) n
LEFT JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = n
WHERE k.conname = 'millstream_condition' AND k.conrelid = %s::regclass
"""
_ORDERS = ("MDY", "DMY", "YMD")


@dataclass(frozen=True)
class Condition:
    """A checked condition. `columns`: those it names; `whole`: all of the table's where it takes the row as a whole."""

    table: str
    where: str
    reason: str
    columns: tuple[str, ...]
    whole: tuple[str, ...] = ()
    held: str = ""
    """What is held, as SQL; empty where nothing is."""
    holds: tuple[str, ...] = ()
    cut: tuple[str, Kind] | None = None
    """The column that the table is cut by, which the holds are about, and its kind."""

    @property
    def mark(self) -> str:
        """The SHA-256 of its words, which stands for them where no personal data may be."""
        return hashlib.sha256(self.where.encode()).hexdigest()

    @property
    def alias(self) -> str:
        """The name, quoted, by which the condition may call the row in every place."""
        return quote(self.table.rpartition(".")[2])

    @property
    def free(self) -> str:
        """Which rows are erased: those that match and that nothing holds."""
        return f"({self.where}\n) AND ({self.held}) IS NOT TRUE" if self.held else f"({self.where}\n)"

    @property
    def needed(self) -> frozenset[str]:
        """The columns without which it cannot be judged."""
        return frozenset((*self.columns, *([self.cut[0]] if self.held and self.cut is not None else [])))

    def where_cut_by(self, column: str, kind: Kind, columns: Collection[str]) -> Condition:
        """Return it for rows with these columns, cut by that one: the holds' column may have had another name there."""
        if not self.held or self.cut is None or self.cut[0] in columns or self.cut[1] != kind:
            return self
        return replace(self, held=self.held.replace(quote(self.cut[0]), quote(column)), cut=(column, kind))

    @property
    def kept(self) -> str:
        """Which rows match and are held."""
        return f"({self.where}\n) AND ({self.held})" if self.held else "false"


def checked(
    ddl: Ddl, table: str, erasure: Erasure, holds: Sequence[Hold], cut: tuple[str, Kind, ZoneInfo]
) -> Condition:
    """Return the condition. ConfigurationError when PostgreSQL refuses it, or when it does not speak of the row.

    `cut`: the column the table is cut by, its kind, and its zone, for the holds.
    """
    where = erasure.where
    who = f"{ddl.owner}: delete of {table} where '{where}'"
    alias = quote(table.rpartition(".")[2])
    try:
        used, otherwise = _used(ddl, table, where, alias)
        is_clear = _is_unambiguous(ddl, table, where, alias)
    except psycopg2.Error as error:
        if (error.pgcode or "")[:2] not in _REFUSED_CLASSES:
            raise translated(error, ddl.owner, f"reading the condition of {table}") from error
        more = "; a condition is about the row itself" if (error.pgcode or "").startswith("0A") else ""
        raise ConfigurationError(
            f"{who}: PostgreSQL refuses the condition: {detailed(error)}{more}. Nothing was deleted; correct `where`"
        ) from error
    if not used:
        raise ConfigurationError(
            f"{who}: the condition names no column, so it means every row or none. Nothing was deleted; rows that "
            "leave by age are `keep`'s part"
        )
    if any(number < 0 for number in used):
        raise ConfigurationError(f"{who}: a system column means something else in each place; name columns of the row")
    if otherwise:
        raise ConfigurationError(
            f"{who}: {', '.join(otherwise)} means something else tomorrow, and an archive is judged once. Nothing was "
            "deleted; write the value itself. Rows that leave by age are `keep`'s part"
        )
    whole = tuple(row[0] for row in ddl.rows(_NAMES, (quote_table(table),))) if 0 in used else ()
    names = tuple(name for number, name in used.items() if number)
    if not is_clear:
        raise ConfigurationError(
            f"{who}: a date there is another one where days are written before months. Nothing was deleted; write "
            "dates as 2013-08-09"
        )
    mine = [hold for hold in holds if hold.table == table]
    return Condition(
        table, where, erasure.reason, names, whole, held_by(mine, *cut), tuple(spoken(hold) for hold in mine),
        cut[:2],
    )  # fmt: skip


_NAMES = """
SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


def _used(ddl: Ddl, table: str, where: str, alias: str) -> tuple[dict[int, str], list[str]]:
    """Return number → name of the columns that the condition speaks of, 0 for the row as a whole; and what changes."""
    target, copy = quote_table(table), f"pg_temp.{alias}"
    ddl.execute("BEGIN")
    try:
        ddl.execute(
            "SELECT set_config('millstream.condition', %s, true)",
            (f"SELECT FROM {target} AS {alias} WHERE ({where}\n)",),
        )
        ddl.execute(_ONE_STATEMENT)
        ddl.execute(f"CREATE TEMPORARY TABLE {alias} (LIKE {target})")
        ddl.execute(f"ALTER TABLE {copy} ADD CONSTRAINT millstream_condition CHECK ({where}\n)")
        return dict(ddl.rows(_USED, (copy,))), changing(ddl, copy, where)
    finally:
        if not ddl.connection.closed:
            ddl.execute("ROLLBACK")


def _is_unambiguous(ddl: Ddl, table: str, where: str, alias: str) -> bool:
    """Return whether PostgreSQL understands the same, in whichever order days, months and years are expected."""
    copy = f"pg_temp.{alias}"
    ddl.execute("BEGIN")
    try:
        ddl.execute(f"CREATE TEMPORARY TABLE {alias} (LIKE {quote_table(table)})")
        for order in _ORDERS:
            ddl.execute(f"SET LOCAL datestyle = 'ISO, {order}'")
            try:
                ddl.execute(f"ALTER TABLE {copy} ADD CHECK ({where}\n)")
            except psycopg2.Error as error:
                if (error.pgcode or "")[:2] != "22":  # a day that is no month
                    raise
                return False
        found = ddl.rows(
            "SELECT count(DISTINCT pg_get_constraintdef(oid)) = 1 FROM pg_constraint "
            "WHERE contype = 'c' AND conrelid = %s::regclass",
            (copy,),
        )
        return bool(found[0][0])
    finally:
        if not ddl.connection.closed:
            ddl.execute("ROLLBACK")


def held_by(holds: Sequence[Hold], column: str, kind: Kind, zone: ZoneInfo) -> str:
    """Return as SQL which rows the holds keep; empty where there are none. ValueError for a bound that does not fit."""
    ranges = []
    for hold in holds:
        first = parsed_in(hold.from_, kind, zone) if hold.from_ else None
        last = parsed_in(hold.to, kind, zone) if hold.to else None
        ranges.append(f"({within(column, first, last, kind)})")
    return " OR ".join(ranges)


def spoken(hold: Hold) -> str:
    """Return a hold with its range, as receipts have it."""
    return f"{hold.name} {hold.from_ or ''}..{hold.to or ''}"


__all__ = ["Condition", "checked", "held_by", "spoken"]
