"""JSON values in Python that lose nothing: numbers as they were written, nested keys as often as they were given."""

from __future__ import annotations

import json
from typing import Any

import orjson


class Number(str):
    """A number as it was written: a Python number would not keep it."""

    __slots__ = ()


class Repeated(dict[str, Any]):
    """An object in which a key is given twice: the last counts, `pairs` has all."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Repeated(pairs)


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


DECODER = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=_refused, object_pairs_hook=_object)
"""Raises ValueError, RecursionError."""


def as_text(value: Any) -> str | None:
    """Return a JSON value as the text a cast reads: strings bare, nested values as JSON."""
    if value is None or type(value) is str:
        return value
    if isinstance(value, Number):
        return str(value)
    return as_json(value)


def as_json(value: Any) -> str | None:
    """Return a JSON value as JSON text; null is NULL. Numbers keep every digit."""
    return None if value is None else _dumped(value).decode()


def _dumped(value: Any) -> bytes:
    return orjson.dumps(value, default=_written, option=orjson.OPT_PASSTHROUGH_SUBCLASS)


def _written(value: Any) -> orjson.Fragment:
    if isinstance(value, Number):
        return orjson.Fragment(value.encode())
    if isinstance(value, Repeated):
        return orjson.Fragment(b"{%s}" % b",".join(_dumped(key) + b":" + _dumped(item) for key, item in value.pairs))
    raise TypeError(f"{type(value).__name__} is no JSON value")


def is_text(record: dict[str, Any]) -> bool:
    """Return whether all strings of a record are text: half a surrogate pair is legal JSON and none."""
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
