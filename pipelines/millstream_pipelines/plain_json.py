"""JSON that one regular expression can vouch for: up to two levels, numbers without exponent, no half surrogates.

RE2 reads it at the speed of memory, without an object per value. What it does not match may be JSON all the same.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

_SPACE = r"[ \t\n\r]*"
_ESCAPE = r'\\(?:["\\/bfnrt]|u(?:[0-9a-cA-CefEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}))'
_STRING = rf'"(?:[^"\\\x00-\x1f]|{_ESCAPE})*"'
_SCALAR = rf"{_STRING}|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|true|false|null"
_LEVELS = 2  # a batch of some thousand rows is checked in less time than a third level takes to compile
_MOST_BYTES = 16_000  # a number fills less, and so fits `numeric`


def _value(levels: int) -> str:
    if not levels:
        return f"(?:{_SCALAR})"
    item = f"{_value(levels - 1)}{_SPACE}"
    member = f"{_STRING}{_SPACE}:{_SPACE}{item}"
    items, members = (f"(?:{one}(?:,{_SPACE}{one})*)?" for one in (item, member))
    return rf"(?:{_SCALAR}|\[{_SPACE}{items}\]|\{{{_SPACE}{members}\}})"


_DOCUMENT = f"^{_SPACE}{_value(_LEVELS)}{_SPACE}$"


def plain_json(text: pa.StringArray) -> pa.BooleanArray:
    """Return which values are surely RFC 8259 JSON that jsonb takes; NULL for NULL."""
    return pc.and_(pc.match_substring_regex(text, _DOCUMENT), pc.less(pc.binary_length(text), _MOST_BYTES))
