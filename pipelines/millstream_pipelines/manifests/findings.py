"""Findings: what is wrong in a manifest, where, what was seen, what is accepted, what to do."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from millstream_pipelines.errors import ConfigurationError

_MISSING = object()


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `where` is `file:line`, `message` says the rest."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class ManifestError(ConfigurationError):
    """Everything that was found wrong, at once."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in findings), reason="InvalidSpec")


def near(seen: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the known word nearest to `seen`, or nothing."""
    words = {word.lower(): word for word in known}
    match = difflib.get_close_matches(seen.lower(), words, n=1, cutoff=0.6)
    return f" (did you mean '{words[match[0]]}'?)" if match else ""


def path_text(loc: Sequence[str | int]) -> str:
    """Return a field path as people write it: `spec.streams[0].mode`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def explain_validation(error: ValidationError, model: type[BaseModel]) -> list[tuple[tuple[str | int, ...], str]]:
    """Return (field path, message) for every finding of a validation, with the value seen and what is accepted."""
    return [(item["loc"], _message(dict(item), model)) for item in error.errors(include_url=False)]


def _message(item: dict[str, Any], model: type[BaseModel]) -> str:
    kind, loc, context = item["type"], item["loc"], item.get("ctx", {})
    seen = _shown(item.get("input", _MISSING))
    if kind == "missing":
        return "is missing; it is required"
    if kind == "extra_forbidden":
        known = _fields(model, loc[:-1])
        return f"unknown field; known: {', '.join(known)}{near(str(loc[-1]), known)}"
    if kind == "literal_error":
        accepted = context["expected"].replace(" or ", ", ")
        words = accepted.replace("'", "").split(", ")
        return f"{seen} is not accepted; accepted: {accepted}{near(str(item['input']), words)}"
    if kind == "string_pattern_mismatch":
        return f"{seen} is not accepted; it must match {context['pattern']}"
    if kind == "value_error":
        return str(context.get("error", item["msg"]))
    return f"{seen} is not accepted: {item['msg'][0].lower()}{item['msg'][1:]}"


def _shown(value: object) -> str:
    if value is _MISSING:
        return "the value"
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _fields(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Return the field names accepted at a place inside `model`."""
    current: Any = model
    for part in loc:
        if isinstance(part, int):
            continue
        field = next(
            (item for name, item in current.model_fields.items() if part in (name, item.alias)),
            None,
        )
        inner = _inner_model(field.annotation) if field is not None else None
        if inner is None:
            return []
        current = inner
    return sorted(item.alias or name for name, item in current.model_fields.items())


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, list, dict) or get_origin(annotation) is not None:
        return next((found for found in map(_inner_model, get_args(annotation)) if found is not None), None)
    return None
