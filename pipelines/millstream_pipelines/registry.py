"""Plug-ins: entry point → class. The built-ins come in by the same door as anybody's."""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from millstream_pipelines.errors import ConfigurationError, unknown_value

Family = Literal["sources", "warehouses", "checks", "transforms"]


class Component(Protocol):
    """What every plug-in class has: a configuration model with described fields."""

    Config: type[BaseModel]


@cache
def known(family: Family) -> Mapping[str, EntryPoint]:
    """Return the entry points of a family by name. Nothing is imported yet."""
    return {point.name: point for point in entry_points(group=f"millstream.{family}")}


def component(family: Family, name: str, owner: str) -> Any:
    """Import and return a plug-in class.

    Raises ConfigurationError when the name is unknown (the known ones are listed) or its import fails (an optional
    engine is not installed in this image).
    """
    point = known(family).get(name)
    if point is None:
        raise unknown_value(owner, f"type in {family}", name, known(family))
    try:
        return point.load()
    except ImportError as error:
        raise ConfigurationError(
            f"{owner}: plug-in '{name}' cannot be imported: {error}; install what it needs in the runner image"
        ) from error


Model = TypeVar("Model", bound=BaseModel)


def configured(model: type[Model], config: Mapping[str, Any], secret: Mapping[str, str], owner: str) -> Model:
    """Return the validated configuration: `secret` wins over `config`, field by field.

    Secret keys that the model does not know are ignored (a Secret may serve several things). Raises
    ConfigurationError that names the field, the value seen (never a secret one), and what is accepted.
    """
    fields = set(model.model_fields) | {item.alias for item in model.model_fields.values() if item.alias is not None}
    merged = {**config, **{key: value for key, value in secret.items() if key in fields}}
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        raise ConfigurationError(f"{owner}: {explained(error, model, hidden=set(secret))}") from None


def explained(error: ValidationError, model: type[BaseModel], hidden: Set[str] = frozenset()) -> str:
    """Return a validation error as one line: field, value seen, what is accepted, for each finding."""
    known_fields = ", ".join(sorted(item.alias or name for name, item in model.model_fields.items()))
    parts = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "config"
        if item["type"] == "missing":
            parts.append(f"field '{where}' is missing")
        elif item["type"] == "extra_forbidden":
            parts.append(f"unknown field '{where}'; known: {known_fields}")
        else:
            seen = "" if str(item["loc"][:1] and item["loc"][0]) in hidden else f", seen: {item['input']!r:.80}"
            parts.append(f"field '{where}': {item['msg']}{seen}")
    return "; ".join(parts)
