"""Column types from sampled texts: a type is only given when every sampled value comes back from it as it was.

Leading zeros, plus signs and odd spellings make text. Plain decimals are `numeric`, which keeps every digit. A later
value that does not fit is refused by the engine's cast, one row at a time; nothing here changes a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import date, datetime
from typing import Any

from millstream_pipelines.json_values import Number

_INTEGER = re.compile(r"0|-?[1-9]\d*", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII)
_EXPONENT = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII)
_DOUBLE_DIGITS = 15
"""Decimal digits that every double keeps (DBL_DIG)."""


def infer_text(values: Iterable[str]) -> str:
    """Return the SQL type of texts, of which none is NULL; text where there are none."""
    seen = set(values)
    if not seen:
        return "text"
    return next((name for name, fits in _RULES if all(map(fits, seen))), "text")


def infer_json(values: Iterable[Any]) -> str:
    """Return the SQL type of JSON values. Strings are only ever text or times: "12" is not a number."""
    present = [value for value in values if value is not None]
    if any(isinstance(value, (dict, list)) for value in present):
        return "jsonb"
    if present and all(isinstance(value, bool) for value in present):
        return "boolean"
    if all(isinstance(value, (int, Number)) and not isinstance(value, bool) for value in present):
        return infer_text(str(value) for value in present)
    if all(type(value) is str for value in present):
        found = infer_text(present)
        return found if found in ("date", "timestamp", "timestamptz") else "text"
    return "text"


def _bigint(text: str) -> bool:
    return _INTEGER.fullmatch(text) is not None and (len(text) < 19 or -(2**63) <= int(text[:40]) < 2**63)


def _numeric(text: str) -> bool:
    return _DECIMAL.fullmatch(text) is not None and not _minus_zero(text)


def _minus_zero(text: str) -> bool:
    """Return whether a number is a zero with a sign, which only a double keeps."""
    return text[0] == "-" and not re.split("[eE]", text)[0].strip("-0.")


def _double(text: str) -> bool:
    if _EXPONENT.fullmatch(text) is None:
        return False
    digits = re.split("[eE]", text)[0].lstrip("-").replace(".", "").lstrip("0")
    value = float(text)
    in_range = value not in (float("inf"), float("-inf")) and (value != 0 or not digits)
    return in_range and (len(digits) <= _DOUBLE_DIGITS or repr(value) == text)


def _exponent(text: str) -> bool:
    return _EXPONENT.fullmatch(text) is not None and not _minus_zero(text)


def _date(text: str) -> bool:
    if _DATE.fullmatch(text) is None:
        return False
    with suppress(ValueError):
        return bool(date.fromisoformat(text))
    return False


def _timestamp(text: str, zoned: bool) -> bool:
    match = _TIMESTAMP.fullmatch(text)
    if match is None or (match[1] is not None) != zoned:
        return False
    with suppress(ValueError):
        return bool(datetime.fromisoformat(text))
    return False


_RULES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("boolean", lambda text: text in ("true", "false")),
    ("bigint", _bigint),
    ("numeric", _numeric),
    ("double precision", _double),
    ("numeric", _exponent),
    ("date", _date),
    ("timestamp", lambda text: _timestamp(text, zoned=False)),
    ("timestamptz", lambda text: _timestamp(text, zoned=True)),
)
