"""Types that batches keep as text and the warehouse casts: a value it would refuse would fail the whole chunk.

So the shape of each value is looked at here, as far as that is cheap. What stays unchecked: the labels of enums and
user-defined types, the elements of arrays and ranges, intervals, money, XML, geometry.
"""

from __future__ import annotations

import ipaddress
import json
import re
from decimal import Decimal
from functools import cache

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from millstream_pipelines import text_values
from millstream_pipelines.plain_json import plain_json
from millstream_pipelines.schema import arrow_type
from millstream_pipelines.text_values import only

_HEX4 = "[0-9a-fA-F]{4}"
_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?"
_SHAPES = {
    "numeric": rf"^\s*(?:{_NUMBER}|(?i:nan|[+-]?inf(?:inity)?))\s*$",
    "uuid": rf"^(?:{_HEX4}(?:-?{_HEX4}){{7}}|\{{{_HEX4}(?:-?{_HEX4}){{7}}\}})$",
    "macaddr": r"^(?:[0-9a-fA-F]{2}(?:[:-]?[0-9a-fA-F]{2}){5}|[0-9a-fA-F]{4}\.[0-9a-fA-F]{4}\.[0-9a-fA-F]{4})$",
    "oid": r"^(?:[0-3]?[0-9]{1,9}|4[01][0-9]{8}|42[0-8][0-9]{7}|429[0-3][0-9]{6}|4294[0-8][0-9]{5}|42949[0-5][0-9]{4}"
    r"|429496[0-6][0-9]{3}|4294967[01][0-9]{2}|42949672[0-8][0-9]|429496729[0-5])$",
    "timetz": r"^(?:24:00(?::00(?:\.0{1,6})?)?|(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?)"
    r"(?:Z|[+-](?:0[0-9]|1[0-5])(?::?[0-5][0-9](?::?[0-5][0-9])?)?)?$",
    "bit varying": r"^[01]*$",
}
# An exponent or a row of digits that no double holds; numeric ends at 131072 digits before and 16383 behind the point.
_VAST = r"[0-9][eE][+-]?[0-9]{3}|[0-9]{300}"
_VAST_NUMBER = re.compile(_VAST)
_LARGE_EXPONENT = r"[eE][+-]?[0-9]{4}"
_MAX_EXPONENT, _MAX_SCALE = 131_071, 16_383
_RANGE = r"^\s*(?:(?i:empty)|[\[(].*,.*[\])])\s*$"
_ARRAY = r"(?s)^\s*(?:\[[0-9:\[\]-]+\]=)?\{.*\}\s*$"
_IPV4 = (
    r"^(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?:/(?:3[012]|[12]?[0-9]))?$"
)
_PARTS = re.compile(r"([a-z_][\w .]*?)(?:\((\d+)(?:,(-?\d+))?\))?(\[\])?")


def valid(text: pa.StringArray, target: str) -> pa.StringArray:
    """Return the text, NULL where it is no value of the (normalized) SQL type `target`."""
    base, first, second, array = _split(target)
    if array:
        return _matching(text, _ARRAY)
    if base in ("json", "jsonb"):
        return _json(text, base)
    if base in ("character", "character varying") and (first or base == "character"):
        return _kept(text, pc.less_equal(pc.utf8_length(text), int(first or 1)))
    if base in ("inet", "cidr"):
        return _network(text, base)
    if base in ("time", "timestamp", "timestamptz"):  # with a precision, which the warehouse applies
        return _kept(text, text_values.parsed(text, arrow_type(base)).is_valid())
    if base == "numeric" and first:
        return _matching(text, _digits(int(first), int(second or 0)))
    if base == "bit":
        return _matching(text, rf"^[01]{{{int(first or 1)}}}$")
    if base.endswith(("range", "multirange")):
        return text if base.endswith("multirange") else _matching(text, _RANGE)
    found = _matching(text, _SHAPES[base]) if base in _SHAPES else text
    return _possible_numbers(found) if base == "numeric" else found


@cache
def _split(target: str) -> tuple[str, str, str, str]:
    match = _PARTS.fullmatch(target)
    if match is None:
        return target, "", "", ""
    base, first, second, array = (part or "" for part in match.groups())
    return base, first, second, array


def _digits(precision: int, scale: int) -> str:
    """Return the shape of a numeric that Arrow cannot hold (over 38 digits, or a scale outside 0 to precision)."""
    if not 0 <= scale <= precision or precision > 1000:
        return _SHAPES["numeric"]
    return rf"^\s*(?:[+-]?0*[0-9]{{0,{precision - scale}}}(?:\.[0-9]{{0,{scale}}}0*)?|(?i:nan))\s*$"


def _kept(text: pa.StringArray, keep: pa.BooleanArray) -> pa.StringArray:
    """Return `text` itself, without a copy, when nothing is refused."""
    return text if keep.true_count == len(text) - text.null_count else only(text, keep)


def _possible_numbers(text: pa.StringArray) -> pa.StringArray:
    """Keep numbers that `numeric` can hold; all but a few are told by their length and exponent."""
    vast = pc.or_(pc.greater_equal(pc.binary_length(text), _MAX_SCALE), pc.match_substring_regex(text, _LARGE_EXPONENT))
    if not pc.fill_null(vast, False).true_count:
        return text
    kept = [
        value if not big or _fits_numeric(value) else None
        for value, big in zip(text.to_pylist(), vast.to_pylist(), strict=True)
    ]
    return pa.array(kept, pa.string())


def _fits_numeric(digits: str) -> bool:
    found = Decimal(digits.strip())
    exponent = found.as_tuple().exponent
    return not isinstance(exponent, int) or (found.adjusted() <= _MAX_EXPONENT and exponent >= -_MAX_SCALE)


def _matching(text: pa.StringArray, pattern: str) -> pa.StringArray:
    return _kept(text, pc.match_substring_regex(text, pattern))


def _json(text: pa.StringArray, base: str) -> pa.StringArray:
    """Keep RFC 8259 documents. (NUL, escaped or not, is found for all text by `nul_bytes`.)

    Most are told by one pattern; orjson, value by value, costs ten times that. DuckDB's json_valid passes trailing
    commas and NaN, and one such value would fail the chunk.
    """
    unsure = pc.indices_nonzero(pc.invert(pc.fill_null(plain_json(text), True)))
    if not len(unsure):
        return text
    looked_at = text.take(unsure)
    # Numbers that orjson takes for 0 and jsonb for an overflow.
    vast = pc.match_substring_regex(looked_at, _VAST).to_pylist() if base == "jsonb" else [False] * len(looked_at)
    refused = [
        index
        for index, value, suspect in zip(unsure.to_pylist(), looked_at.to_pylist(), vast, strict=True)
        if not _is_json(value, base) or (suspect and not _is_vast_json(value, base))
    ]
    if not refused:
        return text
    places = pa.array(range(len(text)), pa.int64())
    return only(text, pc.invert(pc.is_in(places, pa.array(refused, pa.int64()))))


def _is_json(value: str, base: str) -> bool:
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return _VAST_NUMBER.search(value) is not None and _is_vast_json(value, base)
    return True


def _is_vast_json(value: str, base: str) -> bool:
    """Return whether a document with numbers beyond a double is JSON; in jsonb they must fit `numeric`."""

    def number(digits: str) -> str:
        if base == "jsonb" and not _fits_numeric(digits):
            raise ValueError(digits)
        return digits

    def refuse(word: str) -> str:
        raise ValueError(word)

    try:
        found = json.loads(value, parse_float=number, parse_int=number, parse_constant=refuse)
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, ArithmeticError, RecursionError):
        return False
    return True


def _network(text: pa.StringArray, base: str) -> pa.StringArray:
    if base == "inet":
        easy = pc.match_substring_regex(text, _IPV4)
        if easy.true_count == len(text) - text.null_count:
            return text
    parse = ipaddress.ip_interface if base == "inet" else ipaddress.ip_network
    kept = [value if value is not None and _parses(parse, value) else None for value in text.to_pylist()]
    return pa.array(kept, pa.string())


def _parses(parse: object, value: str) -> bool:
    if re.fullmatch(r"[0-9a-fA-F:.]+(/[0-9]{1,3})?", value) is None:
        return False
    try:
        parse(value)  # type: ignore[operator]
    except ValueError:
        return False
    return True
