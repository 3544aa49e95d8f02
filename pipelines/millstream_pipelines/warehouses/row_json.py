"""Quarantined rows and messages as text that every warehouse stores: no NUL, no lone surrogate, no NaN.

The stage before makes rows as JSON values; a plug-in may hand over anything, and a row set aside must never be the
one that stops the load.
"""

from __future__ import annotations

import json
import math
from typing import Any

_MAX_MESSAGE = 2000  # characters kept of a rule's message; the row itself is kept whole


def row_text(row: dict[str, Any]) -> str:
    """Return a row as JSON text that jsonb takes. NUL, for which jsonb has no place, is written as `\\0`."""
    return json.dumps(_plain(row), ensure_ascii=False)


def message_text(message: str) -> str:
    """Return a rule's message as storable text of bounded length."""
    return storable(message[:_MAX_MESSAGE])


def storable(text: str) -> str:
    """Return a text without NUL and without what UTF-8 cannot say."""
    return text.replace("\x00", "\\0").encode("utf-8", "replace").decode("utf-8")


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, int):
        return value if abs(value) < 2**63 else _digits(value)
    if isinstance(value, float):
        return value if math.isfinite(value) and (value or math.copysign(1, value) > 0) else str(value)
    if isinstance(value, dict):
        return {storable(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return "\\x" + bytes(value).hex()
    return storable(str(value))


def _digits(value: int) -> str:
    """Return a large integer as text; Python refuses to print one of more than 4300 digits in decimal."""
    try:
        return str(value)
    except ValueError:
        return hex(value)
