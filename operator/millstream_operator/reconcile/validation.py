"""Specs as models, or the reason why not: field, value, cure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)

_SHOWN = 3  # errors named in a message; the rest come to light when these are mended
_MAX_VALUE = 80  # characters of a value that are shown


@dataclass(frozen=True)
class Problem:
    """A spec that no retry mends."""

    message: str


def parsed(model: type[M], raw: Any) -> M | Problem:
    """Return the spec as its model, or what is wrong with it."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        found = error.errors(include_url=False)
        lines = [_line(item) for item in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"and {len(found) - _SHOWN} more")
        return Problem("; ".join(lines))


def _line(item: Any) -> str:
    path = "spec"
    for step in item["loc"]:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    text = str(item["msg"]).removeprefix("Value error, ")
    value = item.get("input")
    if isinstance(value, str | int | float) and repr(value) not in text and str(value) not in text:
        text += f", got {repr(value)[:_MAX_VALUE]}"
    return f"{path}: {text}"
