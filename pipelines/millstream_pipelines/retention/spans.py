"""Where partitions begin and end: calendar arithmetic in a time zone, half-open ranges, compared in UTC. Pure.

Days, weeks, months begin at local midnight, so a day may have 23 or 25 hours; hours are counted in UTC, so that none is
missing or double where the clocks change. Adding months to the 31st ends at the month's last day.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from millstream_api.retentionpolicy import TimeAs
from millstream_pipelines.retention import whole_times

Kind = Literal["timestamptz", "timestamp", "date", "integer", TimeAs]
Value = datetime | int
"""A bound: an aware datetime in UTC (timestamptz, counts since 1970), a naive one (timestamp, date, a date's digits),
or a whole number."""

KINDS: dict[str, Kind] = {
    "timestamptz": "timestamptz", "timestamp": "timestamp", "date": "date",
    "smallint": "integer", "integer": "integer", "bigint": "integer",
}  # fmt: skip

AWARE: frozenset[Kind] = frozenset({"timestamptz", *whole_times.TICKS})
"""Kinds whose values are moments; of the others but `integer` they are dates and times of a wall."""

_STEPS: dict[Kind, timedelta] = {
    "date": timedelta(days=1), "yyyymmdd": timedelta(days=1),
    **{kind: timedelta(microseconds=size) for kind, size in whole_times.TICKS.items()},
}  # fmt: skip
_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_SPAN = re.compile(r"(\d+)(?: (hour|day|week|month|quarter|year)s?)?")


@dataclass(frozen=True)
class Span:
    """A length: `count` hours, days, months, or whole numbers."""

    count: int
    unit: Literal["hour", "day", "month", "number"]

    @classmethod
    def of(cls, text: str) -> Span:
        """Return the span of a text such as `13 months`, `1 week`, `100000`. ValueError when it is none."""
        match = _SPAN.fullmatch(text)
        if match is None:
            raise ValueError(f"'{text}' is no length; write for example '1 month', '7 days' or, for integers, '100000'")
        count, unit = int(match[1]), match[2]
        if unit is None:
            return cls(count, "number")
        if unit in _MONTHS:
            return cls(count * _MONTHS[unit], "month")
        return cls(count, "hour") if unit == "hour" else cls(count * (7 if unit == "week" else 1), "day")

    def before(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """Return the aware moment this much earlier, by the calendar of the zone."""
        if self.unit == "hour":
            return moment - timedelta(hours=self.count)
        local = moment.astimezone(zone).replace(tzinfo=None)
        earlier = local - timedelta(days=self.count) if self.unit == "day" else _months_later(local, -self.count)
        return earlier.replace(tzinfo=zone).astimezone(UTC)

    def after(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """Return the aware moment this much later, by the calendar of the zone."""
        return Span(-self.count, self.unit).before(moment, zone)


def _months_later(moment: datetime, months: int) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return moment.replace(year=year, month=month + 1, day=min(moment.day, last))


@dataclass(frozen=True)
class Grid:
    """All bounds of a table: one every `span`, for a column of this kind, days beginning in `zone`."""

    kind: Kind
    span: Span
    zone: ZoneInfo

    def floor(self, value: Value) -> Value:
        """Return the bound at or before a value."""
        if isinstance(value, int):
            return value - value % self.span.count
        if self.span.unit == "hour":
            since = value - _origin(value)
            return value - since % timedelta(hours=self.span.count)
        local = self.local(value)
        if self.span.unit == "day":  # counted from a Monday, so that weeks begin on one
            days = (local.date() - date(2000, 1, 3)).days
            start = datetime(2000, 1, 3) + timedelta(days=days - days % self.span.count)
        else:
            months = local.year * 12 + local.month - 1
            year, month = divmod(months - months % self.span.count, 12)
            start = datetime(year, month + 1, 1)
        return self._stored(start)

    def next(self, bound: Value, steps: int = 1) -> Value:
        """Return the bound `steps` later (earlier, when negative)."""
        if isinstance(bound, int):
            return bound + steps * self.span.count
        if self.span.unit == "hour":
            return bound + timedelta(hours=steps * self.span.count)
        # Where clocks go forward at midnight, that day's bound is 01:00; the next is midnight again.
        local = self.local(bound).replace(hour=0, minute=0, second=0, microsecond=0)
        if self.span.unit == "day":
            return self._stored(local + timedelta(days=steps * self.span.count))
        return self._stored(_months_later(local, steps * self.span.count))

    def now(self, moment: datetime) -> datetime:
        """Return an aware moment as a column of this kind would have it."""
        return moment.astimezone(UTC) if self.kind in AWARE else self._wall(moment)

    def _wall(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone).replace(tzinfo=None)

    def local(self, value: datetime) -> datetime:
        """Return a bound as the clocks of the zone show it."""
        return self._wall(value) if self.kind in AWARE else value

    def _stored(self, local: datetime) -> datetime:
        if self.kind not in AWARE:
            return local
        return local.replace(tzinfo=self.zone).astimezone(UTC)


def _origin(value: datetime) -> datetime:
    return datetime(2000, 1, 1, tzinfo=value.tzinfo)


def following(value: Value, kind: Kind) -> Value:
    """Return the next value that a column of this kind can hold."""
    if isinstance(value, int):
        return value + 1
    if kind in ("yyyymm", "yyyy"):
        return _months_later(value, 12 if kind == "yyyy" else 1)
    return value + _STEPS.get(kind, timedelta(microseconds=1))


def sql_type(kind: Kind) -> str:
    """Return the SQL type in which a bound of this kind is compared."""
    return "bigint" if kind == "integer" or whole_times.is_whole(kind) else kind


def spelled(value: Value, kind: Kind) -> str:
    """Return a bound as PostgreSQL reads and prints it, in a session in UTC."""
    if isinstance(value, int):
        return str(value)
    if whole_times.is_whole(kind):
        return whole_times.number(value, kind)
    if kind == "date":
        return value.date().isoformat()  # %Y has fewer than four digits before the year 1000
    text = value.isoformat(" ", "microseconds" if value.microsecond else "seconds")
    return text.replace("+00:00", "+00")


def parsed(text: str, kind: Kind) -> Value:
    """Return the value of a bound's text; a day alone is midnight. ValueError when it fits no such column."""
    if kind == "integer":
        return int(text)
    if whole_times.is_whole(kind):
        return whole_times.moment(int(text), kind)
    value = datetime.fromisoformat(text)
    if kind == "timestamptz":
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if value.tzinfo is not None:
        raise ValueError(f"'{text}' has a time zone, and the column has none")
    return value


def parsed_in(text: str, kind: Kind, zone: ZoneInfo) -> Value:
    """Return the value a person meant: a day or time without offset is one of the zone."""
    if whole_times.is_whole(kind) and not _NUMBER.fullmatch(text):
        kind = "timestamptz" if kind in AWARE else "timestamp"
    value = parsed(text, "timestamp" if kind == "timestamptz" and _naive(text) else kind)
    if kind == "timestamptz" and isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=zone).astimezone(UTC)
    return value


_NUMBER = re.compile(r"-?\d+")


def _naive(text: str) -> bool:
    return datetime.fromisoformat(text).tzinfo is None


def suffix(value: Value, grid: Grid) -> str:
    """Return what a partition's name ends with: `p20130101`, with hours where they count, or the number.

    What begins beside the grid, the rest of a range, has minutes, too: its day or hour may be another one's name.
    """
    if isinstance(value, int):
        return f"p{value}" if value >= 0 else f"pm{-value}"
    by_hour = grid.span.unit == "hour"
    local = grid.local(value) if not by_hour else value
    day = f"p{local.date().isoformat().replace('-', '')}"
    if grid.floor(value) != value and (by_hour or local.time() != time.min):
        return f"{day}_{local:%H%M}"
    return f"{day}_{local:%H}" if by_hour else day


__all__ = [
    "AWARE", "KINDS", "Grid", "Kind", "Span", "Value", "following", "parsed", "parsed_in", "spelled", "sql_type",
    "suffix",
]  # fmt: skip
