"""Text to typed columns: the fast kernel first, then repair (surrounding blanks, spellings), guard, and bisection.

Every function returns an array of the same length, NULL where the text is no value of the type. What a text means
never depends on the rows beside it: the repair accepts all that the fast kernel does. A test tries random texts.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from millstream_pipelines import moments
from millstream_pipelines.text_buffers import contents

_TRUE = pa.array(["true", "t", "yes", "y", "on", "1"])
_FALSE = pa.array(["false", "f", "no", "n", "off", "0"])
_LEAP = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29"
_DAY = (
    r"(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    rf"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP})"
)
_CLOCK = r"(?:[01][0-9]|2[0-3])(?::[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?)?"
_ZONE = r"(?:Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"


def parsed(text: pa.StringArray, stored: pa.DataType) -> pa.Array:
    """Parse text as values of an Arrow type."""
    for test, parse in _PARSERS:
        if test(stored):
            values = parse(text, stored)
            return _with_edges(text, values) if pa.types.is_temporal(stored) else values
    return pa.nulls(len(text), stored)


def only(values: pa.Array, keep: pa.BooleanArray) -> pa.Array:
    """Return the values where `keep` is true, NULL elsewhere."""
    return pc.if_else(pc.fill_null(keep, False), values, pa.scalar(None, values.type))


def cast_rows(values: pa.Array, stored: pa.DataType) -> pa.Array:
    """Cast with Arrow's safe kernel; NULL where it refuses, found by halving: cheap while refusals are few."""
    try:
        return pc.cast(values, stored)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        if len(values) == 1:
            return pa.nulls(1, stored)
        half = len(values) // 2
        return pa.concat_arrays([cast_rows(values.slice(0, half), stored), cast_rows(values.slice(half), stored)])


def _quick(text: pa.StringArray, stored: pa.DataType) -> pa.Array | None:
    try:
        return pc.cast(text, stored)
    except pa.ArrowInvalid:
        return None


def _guarded(text: pa.StringArray, pattern: str) -> pa.StringArray:
    return only(text, pc.match_substring_regex(text, pattern))


def _number_text(text: pa.StringArray) -> pa.StringArray:
    """Drop blanks around and leading zeros, which Arrow would count as precision."""
    return pc.replace_substring_regex(pc.utf8_trim_whitespace(text), r"^([+-]?)0+([0-9])", r"\1\2")


def _integer(text: pa.StringArray, stored: pa.DataType) -> pa.Array:
    raw = contents(text)
    # Arrow reads 0xFFFFFFFF as -1.
    if b"x" not in raw and b"X" not in raw:
        quick = _quick(text, stored)
        if quick is not None:
            return quick
    clean = pc.replace_substring_regex(_guarded(_number_text(text), r"^[+-]?[0-9]{1,19}$"), r"^\+", "")
    wide = cast_rows(clean, pa.int64())
    largest = 2 ** (stored.bit_width - 1) - 1
    fits = pc.and_(pc.less_equal(wide, largest), pc.greater_equal(wide, -largest - 1))
    return pc.cast(only(wide, fits), stored)


def _float(text: pa.StringArray, stored: pa.DataType) -> pa.Array:
    values = _quick(text, stored)
    if values is None:
        shape = r"^(?i:[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?nan|[+-]?inf(?:inity)?)$"
        text = _guarded(pc.utf8_trim_whitespace(text), shape)
        values = cast_rows(text, stored)
    infinite = pc.is_inf(values)
    if infinite.true_count:
        values = only(values, pc.or_(pc.invert(infinite), pc.match_substring_regex(text, r"(?i)inf")))
    unknown = pc.is_nan(values)
    if unknown.true_count:  # Arrow reads nan(7) as well
        plain = pc.match_substring_regex(text, r"^\s*[+-]?(?i:nan)\s*$")
        values = only(values, pc.or_(pc.invert(unknown), plain))
    zero = pc.equal(values, pa.scalar(0.0, stored))
    if zero.true_count:  # 1e-400 reads as 0
        values = only(values, pc.or_(pc.invert(zero), pc.match_substring_regex(text, r"^[+-]?[0.]+(?:[eE]|$)")))
    return values


def _decimal(text: pa.StringArray, stored: pa.DataType) -> pa.Array:
    raw = contents(text)
    # Arrow reads 1E+-2 as 0.01.
    if b"e" not in raw and b"E" not in raw:
        quick = _quick(text, stored)
        if quick is not None:
            return quick
    whole, scale = stored.precision - stored.scale, stored.scale
    fixed = rf"^[+-]?(?:[0-9]{{1,{max(whole, 1)}}}(?:\.[0-9]{{0,{scale}}}0*)?|\.[0-9]{{1,{max(scale, 1)}}}0*)$"
    clean = _guarded(_number_text(text), rf"{fixed}|^[+-]?[0-9.]+[eE][+-]?[0-9]{{1,9}}$")
    return cast_rows(pc.replace_substring_regex(clean, r"(\.[0-9]+?)0+$", r"\1"), stored)


def _boolean(text: pa.StringArray, stored: pa.DataType) -> pa.Array:
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(text))
    true, false = pc.is_in(lower, _TRUE), pc.is_in(lower, _FALSE)
    return only(true, pc.or_(true, false))


def _date(text: pa.StringArray, stored: pa.DataType) -> pa.Array:
    quick = _quick(text, stored)
    return quick if quick is not None else cast_rows(_guarded(pc.utf8_trim_whitespace(text), f"^{_DAY}$"), stored)


def _with_edges(text: pa.StringArray, values: pa.Array) -> pa.Array:
    """Add the values that Arrow cannot parse: infinity, years before Christ and behind 9999, 24:00."""
    if values.null_count == text.null_count:
        return values
    return pc.coalesce(values, moments.parsed(text, values.type))


def _moment_text(text: pa.StringArray) -> pa.StringArray:
    clean = pc.replace_substring_regex(pc.utf8_trim_whitespace(text), r"^([0-9-]{10})[t ]([0-9])", r"\1T\2")
    clean = pc.replace_substring_regex(clean, r"(\.[0-9]{6})0+", r"\1")
    return pc.replace_substring_regex(clean, r"(:[0-9]{2}(?:\.[0-9]+)?) *(?:z|UTC)$", r"\1Z")


def _timestamp(text: pa.StringArray, stored: pa.DataType) -> pa.Array:
    if stored.tz is not None:
        return _timestamp_with_zone(text, stored)
    quick = _quick(text, stored)
    return quick if quick is not None else cast_rows(_guarded(_moment_text(text), f"^{_DAY}(?:T{_CLOCK})?$"), stored)


def _timestamp_with_zone(text: pa.StringArray, stored: pa.DataType) -> pa.Array:
    quick = _quick(text, stored)
    if quick is not None:
        return quick
    local = pa.timestamp(stored.unit)
    quick = _quick(text, local)
    if quick is not None:
        return pc.cast(quick, stored)
    clean = pc.replace_substring_regex(_moment_text(text), r"(:[0-9]{2}(?:\.[0-9]+)?) +([+-])", r"\1\2")
    zoned = cast_rows(_guarded(clean, f"^{_DAY}T{_CLOCK}{_ZONE}$"), stored)
    naive = cast_rows(_guarded(clean, f"^{_DAY}(?:T{_CLOCK})?$"), local)
    return pc.coalesce(zoned, pc.cast(naive, stored))


def _time(text: pa.StringArray, stored: pa.DataType) -> pa.Array:
    # Arrow parses no time of day, but it does so behind a date.
    dated = pc.binary_join_element_wise("1970-01-01", pc.utf8_trim_whitespace(text), "T")
    return pc.cast(_timestamp(dated, pa.timestamp("us")), stored)


def _binary(text: pa.StringArray, stored: pa.DataType) -> pa.Array:
    """Parse PostgreSQL's `\\x…` form. Arrow has no kernel for it, so each value is a Python call."""
    clean = _guarded(text, r"^\\x(?:[0-9a-fA-F]{2})*$").to_pylist()
    return pa.array([None if value is None else bytes.fromhex(value[2:]) for value in clean], stored)


_PARSERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.StringArray, pa.DataType], pa.Array]], ...] = (
    (pa.types.is_integer, _integer),
    (pa.types.is_floating, _float),
    (pa.types.is_decimal, _decimal),
    (pa.types.is_boolean, _boolean),
    (pa.types.is_date, _date),
    (pa.types.is_timestamp, _timestamp),
    (pa.types.is_time, _time),
    (pa.types.is_binary, _binary),
)
