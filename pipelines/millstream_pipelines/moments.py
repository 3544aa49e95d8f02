"""Dates and times at the edges: infinity, before Christ, behind the year 9999, 24:00. Arrow holds what it cannot spell.

Infinity is the largest number of the type and minus infinity its negative, as in DuckDB, so that comparisons are right.
The calendar is the proleptic Gregorian one, which repeats itself every 400 years; Python's ends at 9999.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

DAY_US = 86_400_000_000
INFINITE_US = 2**63 - 1
INFINITE_DAYS = 2**31 - 1
# What PostgreSQL's types can hold: from 4714-11-24 BC; a date until 5874897-12-31, a timestamp until what 64 bits say.
_FIRST_DAY, _LAST_DAY = -2_440_588, 2_145_042_905
# What Python and Arrow can spell: the years 1 to 9999.
_PLAIN_DAYS = (-719_162, 2_932_896)
_CYCLE_DAYS, _EPOCH = 146_097, date(1970, 1, 1).toordinal()
_US = {"s": 1_000_000, "ms": 1_000, "us": 1}
_EDGE = r"(?i)infinity|BC\s*$|^\s*\+?[0-9]{5,7}-|^\s*24:"
_FORM = re.compile(
    r"(?P<infinity>[+-]?infinity)"
    r"|(?P<year>\d{4,7})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?:[T ](?P<clock>\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)\s*(?P<zone>Z|UTC|[+-]\d\d(?::?\d\d)?)?)?(?P<before>\s*BC)?",
    re.ASCII | re.IGNORECASE,
)


def spelled(values: pa.Array) -> pa.StringArray:
    """Return dates, times or timestamps as PostgreSQL reads them, each value exactly."""
    zone = "Z" if pa.types.is_timestamp(values.type) and values.type.tz else ""
    if zone:
        values = pc.cast(values, pa.timestamp(values.type.unit, tz="UTC"))
    numbers, plain = _numbers(values), _plain(values)
    if plain is None:
        return pc.cast(values, pa.string())
    text = pc.cast(pc.if_else(plain, values, pa.scalar(None, values.type)), pa.string())
    unit = _US.get(getattr(values.type, "unit", ""), 0)
    words = [
        "24:00:00" if pa.types.is_time(values.type) else _word(number, unit) + zone * (abs(number) != INFINITE_US)
        for number in pc.filter(numbers, pc.invert(plain)).to_pylist()
        if number is not None
    ]
    edge = pc.fill_null(pc.invert(plain), False)
    return pc.replace_with_mask(text, edge, pa.array([_era(word) for word in words], pa.string()))


def spelled_within(values: pa.Array) -> pa.Array:
    """Return nested values with the dates and times inside them as text, where Python's own types do not hold them."""
    kind = values.type
    if pa.types.is_temporal(kind):
        if pa.types.is_duration(kind):
            return values
        fine = is_plain(values) and getattr(kind, "unit", "") != "ns"
        return values if fine else pc.cast(values, pa.string()) if is_plain(values) else spelled(values)
    if not pa.types.is_nested(kind) or not any(map(pa.types.is_temporal, _leaves(kind))):
        return values
    values = values.take(pa.array(range(len(values)), pa.int64()))  # without an offset
    if pa.types.is_struct(kind):
        parts = [spelled_within(values.field(place)) for place in range(kind.num_fields)]
        return pa.StructArray.from_arrays(parts, names=[item.name for item in kind], mask=values.is_null())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return type(values).from_arrays(values.offsets, spelled_within(values.values), mask=values.is_null())
    if pa.types.is_fixed_size_list(kind):
        return spelled_within(values.cast(pa.list_(kind.value_field)))
    if pa.types.is_map(kind):
        keys, items = spelled_within(values.keys), spelled_within(values.items)
        return pa.MapArray.from_arrays(values.offsets, keys, items, mask=values.is_null())
    return values


def _leaves(kind: pa.DataType) -> list[pa.DataType]:
    """Return the types within a nested type."""
    if not pa.types.is_nested(kind):
        return [kind]
    return [leaf for place in range(kind.num_fields) for leaf in _leaves(kind.field(place).type)]


def is_plain(values: pa.Array) -> bool:
    """Return whether Python's own types hold every value."""
    return _plain(values) is None


def possible(values: pa.Array) -> pa.Array:
    """Return the values that PostgreSQL's type can hold, NULL for the others; the array itself when there are none."""
    kind, numbers = values.type, _numbers(values)
    if pa.types.is_time(kind):
        first, last, infinite = 0, DAY_US, None
    elif pa.types.is_date(kind):
        first, last, infinite = _FIRST_DAY, _LAST_DAY, INFINITE_DAYS
    else:
        first, last, infinite = _FIRST_DAY * DAY_US, INFINITE_US, INFINITE_US
    bounds = pc.min_max(numbers).as_py()
    if bounds["min"] is None or (bounds["min"] >= first and bounds["max"] <= last):
        return values
    fits = pc.and_(pc.greater_equal(numbers, first), pc.less_equal(numbers, last))
    if infinite is not None:
        fits = pc.or_(fits, pc.is_in(numbers, pa.array([-infinite, infinite], numbers.type)))
    return pc.if_else(fits, values, pa.scalar(None, kind))


def parsed(text: pa.StringArray, stored: pa.DataType) -> pa.Array:
    """Return the texts that only this module can read as values of a microsecond type, NULL for all others."""
    edge = pc.fill_null(pc.match_substring_regex(text, _EDGE), False)
    if not edge.true_count:
        return pa.nulls(len(text), stored)
    kind = pa.int32() if pa.types.is_date(stored) else pa.int64()
    found = pa.array([_number(word, stored) for word in text.filter(edge).to_pylist()], kind)
    return pc.replace_with_mask(pa.nulls(len(text), kind), edge, found).view(stored)


def _numbers(values: pa.Array) -> pa.Array:
    return values.view(pa.int32() if values.type.bit_width == 32 else pa.int64())


def _plain(values: pa.Array) -> pa.BooleanArray | None:
    """Return which values the calendar of Python holds, None when all are."""
    kind, numbers = values.type, _numbers(values)
    if pa.types.is_date32(kind):
        first, last = _PLAIN_DAYS
    elif pa.types.is_time(kind):
        first, last = 0, DAY_US - 1
        if kind.unit != "us":
            return None
    elif getattr(kind, "unit", "") in _US:
        scale = DAY_US // _US[kind.unit]
        first, last = _PLAIN_DAYS[0] * scale, (_PLAIN_DAYS[1] + 1) * scale - 1
    else:
        return None
    bounds = pc.min_max(numbers).as_py()
    if bounds["min"] is None or (bounds["min"] >= first and bounds["max"] <= last):
        return None
    return pc.and_(pc.greater_equal(numbers, first), pc.less_equal(numbers, last))


def _word(number: int, unit_us: int) -> str:
    """Return a day number (unit 0) or a timestamp, its year counted astronomically: 1 BC is 0."""
    infinite = INFINITE_US if unit_us else INFINITE_DAYS
    if abs(number) == infinite:
        return "infinity" if number > 0 else "-infinity"
    days, rest = divmod(number * unit_us, DAY_US) if unit_us else (number, 0)
    cycles, day = divmod(days + _EPOCH - 1, _CYCLE_DAYS)
    found = date.fromordinal(day + 1)
    text = f"{found.year + 400 * cycles}|{found:%m-%d}"
    if not unit_us:
        return text
    seconds, micros = divmod(rest, 1_000_000)
    return f"{text} {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{micros:06}"


def _era(word: str) -> str:
    year, bar, rest = word.partition("|")
    if not bar:
        return word
    return f"{int(year):04}-{rest}" if int(year) > 0 else f"{1 - int(year):04}-{rest} BC"


def _number(text: str, stored: pa.DataType) -> int | None:
    if pa.types.is_time(stored):
        return DAY_US if re.fullmatch(r"\s*24:00(?::00(?:\.0{1,6})?)?\s*", text, re.ASCII) else None
    match = _FORM.fullmatch(text.strip().removeprefix("+"))
    if match is None:
        return None
    is_date = pa.types.is_date(stored)
    if match["infinity"]:
        return (-1 if match["infinity"][0] == "-" else 1) * (INFINITE_DAYS if is_date else INFINITE_US)
    days = _days(match)
    if days is None or (is_date and match["clock"]):
        return None
    if is_date:
        return days if _FIRST_DAY <= days <= _LAST_DAY else None
    if match["zone"] and stored.tz is None:
        return None
    moment = days * DAY_US + _clock(match["clock"] or "00:00") - _offset(match["zone"] or "Z")
    return moment if _FIRST_DAY * DAY_US <= moment < INFINITE_US else None


def _days(match: re.Match[str]) -> int | None:
    year = 1 - int(match["year"]) if match["before"] else int(match["year"])
    cycles, within = divmod(year - 1, 400)
    try:
        day = date(within + 1, int(match["month"]), int(match["day"])).toordinal()
    except ValueError:
        return None
    return None if match["before"] and year > 0 else day + cycles * _CYCLE_DAYS - _EPOCH


def _clock(text: str) -> int:
    hours, minutes, seconds = (*text.split(":"), "0")[:3]
    whole, _, part = seconds.partition(".")
    total = int(hours) * 3600 + int(minutes) * 60 + int(whole)
    possible = int(hours) < 24 and int(minutes) < 60 and int(whole) < 60
    return total * 1_000_000 + int(part.ljust(6, "0")) if possible else 2 * INFINITE_US


def _offset(zone: str) -> int:
    if zone.upper() in ("Z", "UTC"):
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (1 if zone[0] == "+" else -1) * (int(digits[:2]) * 60 + int(digits[2:])) * 60_000_000


def server_numbers(values: Any) -> Any:
    """Return dates or timestamps as the numbers of PostgreSQL's binary form, which counts from 2000."""
    numbers, epoch, infinite = _numbers(values), 10_957, INFINITE_DAYS
    if not pa.types.is_date(values.type):
        epoch, infinite = epoch * DAY_US, INFINITE_US
    kind = numbers.type
    bounds = pc.min_max(numbers).as_py()
    if bounds["min"] is None or (bounds["min"] > -infinite and bounds["max"] < infinite):
        return pc.subtract(numbers, pa.scalar(epoch, kind))
    never = pc.less_equal(numbers, pa.scalar(-infinite, kind))
    ever = pc.equal(numbers, pa.scalar(infinite, kind))
    shifted = pc.subtract(pc.if_else(never, pa.scalar(0, kind), numbers), pa.scalar(epoch, kind))
    shifted = pc.if_else(ever, pa.scalar(infinite, kind), shifted)
    return pc.if_else(never, pa.scalar(-infinite - 1, kind), shifted)
