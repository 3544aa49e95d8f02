"""`numeric` without bounds as a binary COPY sends it, from text: every digit, and as many behind the point as written.

The wire has signed 16-bit words: how many digits to the base 10000, the weight of the first, sign, digits behind the
point, the digits. Values of up to 16 digits before and 16 behind the point are made as whole columns, eight digits
each (the server drops zeros); others one by one.
"""

from __future__ import annotations

import struct
from array import array
from decimal import Decimal, InvalidOperation

import pyarrow as pa
import pyarrow.compute as pc

_USUAL = r"^-?[0-9]{1,16}(?:\.[0-9]{1,16})?$"
_STORED = pa.decimal128(32, 16)
_NEGATIVE, _NAN, _INFINITY, _MINUS_INFINITY = 0x4000, 0xC000, 0xD000, 0xF000
_WORDS = 3  # of 64 bits: what comes before the digits, four digits before the point, four behind it
_EIGHT_DIGITS, _FOUR_DIGITS = 10**8, 10**4


def numeric_bytes(texts: pa.StringArray) -> pa.Array:
    """Return texts of `numeric` values as their binary form; NULL stays NULL."""
    usual = pc.fill_null(pc.match_substring_regex(texts, _USUAL), True)
    plain = pc.fill_null(texts if not usual.false_count else pc.if_else(usual, texts, "0"), "0")
    made = _usual(plain)
    if texts.null_count:
        made = pc.if_else(texts.is_valid(), made, pa.scalar(None, made.type))
    if not usual.false_count:
        return made
    rare = [_rare(text) for text in texts.filter(pc.invert(usual)).to_pylist()]
    return pc.replace_with_mask(made.cast(pa.binary()), pc.invert(usual), pa.array(rare, pa.binary()))


def _usual(texts: pa.StringArray) -> pa.FixedSizeBinaryArray:
    values = pc.cast(texts, _STORED)
    whole = pc.trunc(values)
    point = pc.find_substring(texts, ".")
    scale = pc.if_else(pc.less(point, 0), 0, pc.subtract(pc.subtract(pc.binary_length(texts), point), 1)).cast(
        pa.int64()
    )
    sign = pc.if_else(pc.starts_with(texts, "-"), _NEGATIVE << 16, 0)
    head = pc.add(pc.add(scale, sign), (8 << 48) + (3 << 32))  # eight digits, the first of which counts 10000 ** 3
    words = array("q", bytes(8 * _WORDS * len(texts)))
    words[0::_WORDS] = _words(head)
    words[1::_WORDS] = _words(_digits(pc.cast(whole, pa.int64())))
    words[2::_WORDS] = _words(_digits(_behind_point(pc.subtract(values, whole))))
    words.byteswap()
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(8 * _WORDS), len(texts), [None, pa.py_buffer(words)])


def _behind_point(fractions: pa.Decimal128Array) -> pa.Int64Array:
    """Return fractions of 16 digits as whole numbers: the lower half of the 128 bits that Arrow keeps."""
    halves = array("q")
    halves.frombytes(fractions.buffers()[1].slice(16 * fractions.offset, 16 * len(fractions)))
    return pa.Int64Array.from_buffers(pa.int64(), len(fractions), [None, pa.py_buffer(halves[0::2])])


def _digits(numbers: pa.Int64Array) -> pa.Int64Array:
    """Return numbers of up to 16 decimal digits, whatever their sign, as four words of four digits."""
    upper, lower = _split(pc.abs(numbers), _EIGHT_DIGITS)
    (one, two), (three, four) = _split(upper, _FOUR_DIGITS), _split(lower, _FOUR_DIGITS)
    shifted = (pc.shift_left(part, pa.scalar(bits, pa.int64())) for part, bits in ((one, 48), (two, 32), (three, 16)))
    found = four
    for part in shifted:
        found = pc.add(found, part)
    return found


def _split(numbers: pa.Int64Array, unit: int) -> tuple[pa.Int64Array, pa.Int64Array]:
    upper = pc.divide(numbers, pa.scalar(unit, pa.int64()))
    return upper, pc.subtract(numbers, pc.multiply(upper, pa.scalar(unit, pa.int64())))


def _words(numbers: pa.Int64Array) -> array[int]:
    found = array("q")
    found.frombytes(numbers.buffers()[1].slice(8 * numbers.offset, 8 * len(numbers)))
    return found


def _rare(text: str) -> bytes:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        raise ValueError("a text that is no number; casting should have refused the row") from None
    if value.is_nan() or value.is_infinite():
        kind = _NAN if value.is_nan() else _INFINITY if value > 0 else _MINUS_INFINITY
        return struct.pack(">hhHh", 0, 0, kind, 0)
    sign, numbers, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # noqa: S101
    scale = max(-exponent, 0)
    digits = "".join(map(str, numbers)) + "0" * max(exponent, 0)
    before, behind = (digits[:-scale], digits[-scale:].rjust(scale, "0")) if scale else (digits, "")
    before = before.rjust(-(-len(before) // 4) * 4, "0")
    behind = behind.ljust(-(-len(behind) // 4) * 4, "0")
    groups = [int((before + behind)[start : start + 4]) for start in range(0, len(before) + len(behind), 4)]
    weight = len(before) // 4 - 1
    while groups and not groups[0]:
        groups, weight = groups[1:], weight - 1
    while groups and not groups[-1]:
        groups.pop()
    return struct.pack(
        f">HhHH{len(groups)}h",
        len(groups),
        weight if groups else 0,
        _NEGATIVE if sign and groups else 0,
        scale,
        *groups,
    )
