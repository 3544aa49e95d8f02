"""JSON bodies without loss, and paths into them.

Not orjson for reading: it turns integers beyond 64 bits and all decimals into binary floats. Integers beyond int64 and
numbers with a point or exponent are Decimal here, so that 12.10 stays what it is. `dumped` writes them back as numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

_NOTHING = object()
_SAFE_DIGITS = 18  # any integer of that many digits fits into int64


def _integer(text: str) -> int | Decimal:
    if len(text) <= _SAFE_DIGITS:
        return int(text)
    # Decimal first: int() of thousands of digits is refused by Python, and was slow before.
    number = Decimal(text)
    return int(number) if -(2**63) <= number < 2**63 else number


def parsed(content: bytes) -> Any:
    """Return the JSON value; ValueError when it is none, as with a body that was cut off."""
    if not content.strip():
        return None
    try:
        # NaN and Infinity are no JSON, but are sent: as text they reach the column, whose cast decides.
        return json.loads(content, parse_float=Decimal, parse_int=_integer, parse_constant=str)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def dumped(value: Any) -> str:
    """Return a nested value as JSON text, numbers digit by digit as they came."""
    import orjson

    def number(item: Any) -> Any:
        if isinstance(item, Decimal):
            return orjson.Fragment(str(item))
        raise TypeError(f"{type(item).__name__} is no JSON")

    try:
        return orjson.dumps(value, default=number).decode()
    except orjson.JSONEncodeError:  # deeper than 254, or half a surrogate pair: escaped, it is ASCII
        return "".join(_pieces(value))


def _pieces(value: Any) -> Iterator[str]:
    """Yield JSON text piece by piece, without recursion."""
    left: list[tuple[str, Any]] = [("", value)]
    while left:
        before, item = left.pop()
        yield before
        if isinstance(item, dict):
            left.append(("}", _NOTHING))
            inner = [(f"{json.dumps(name)}:", inside) for name, inside in item.items()]
        elif isinstance(item, list):
            left.append(("]", _NOTHING))
            inner = [("", inside) for inside in item]
        else:
            yield "" if item is _NOTHING else str(item) if isinstance(item, Decimal) else json.dumps(item)
            continue
        yield "{" if isinstance(item, dict) else "["
        commas = [name if place == 0 else f",{name}" for place, (name, _) in enumerate(inner)]
        left.extend(reversed([(name, inside) for name, (_, inside) in zip(commas, inner, strict=True)]))


_ABSENT = object()


def at_path(body: Any, path: str, default: Any = None) -> Any:
    """Return what is at `a.b` in a body; digits count in lists; `default` when it is not there."""
    for name in path.split(".") if path else ():
        if isinstance(body, dict):
            body = body.get(name, _ABSENT)
        elif isinstance(body, list) and name.isdigit() and int(name) < len(body):
            body = body[int(name)]
        else:
            return default
        if body is _ABSENT:
            return default
    return body


def has_path(body: Any, path: str) -> bool:
    """Return whether there is anything at the path, null included."""
    return at_path(body, path, _ABSENT) is not _ABSENT


__all__ = ["at_path", "dumped", "has_path", "parsed"]
