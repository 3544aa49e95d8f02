"""The field reference (crds/README.md), made from the same schemas as the CRDs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from millstream_api.kinds import Kind
from millstream_api.meta import API_VERSION

Schema = dict[str, Any]

_HEAD = f"""<!-- DO NOT CHANGE! Generated from crds/millstream_api; run `python -m millstream_api.crd`. -->
# Field reference of {API_VERSION}

`kubectl apply -f crds/` installs the kinds; `kubectl explain pipeline.spec.streams` says the same as this page.
A field in **bold** is required.
"""


def document(kinds: Sequence[tuple[Kind, Schema]]) -> str:
    """Return the Markdown page for all kinds."""
    return _HEAD + "".join(_kind(kind, schema) for kind, schema in kinds)


def _kind(kind: Kind, schema: Schema) -> str:
    parts = [f"\n## {kind.name} (`{kind.short}`)\n\n{kind.doc}\n"]
    for part in ("spec", "status"):
        parts.append(f"\n### {kind.name}.{part}\n\n| field | type | default | meaning |\n|---|---|---|---|\n")
        parts.extend(_row(*row) for row in _rows(schema["properties"][part], ""))
    rules = [rule for _, entries in kind.rules.items() for rule in entries]
    if rules:
        parts.append("\nRefused at once by the API server:\n\n")
        parts.extend(f"- {message} (`{rule}`)\n" for rule, message in rules)
    return "".join(parts)


def _rows(schema: Schema, prefix: str) -> Iterator[tuple[str, Schema, bool]]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path, field, name in required
        inner = field.get("items", field)
        yield from _rows(inner, f"{path}[]." if "items" in field else f"{path}.")


def _row(path: str, field: Schema, required: bool) -> str:
    name = f"**{path}**" if required else path
    default = field.get("default")
    shown = "" if default in (None, {}, []) else f"`{default}`".replace("True", "true").replace("False", "false")
    return f"| {name} | {_type(field)} | {shown} | {field.get('description', '').replace('|', chr(92) + '|')} |\n"


def _type(field: Schema) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    name = str(field.get("type", "any"))
    bounds = [f"{word} {field[key]}" for key, word in (("minimum", "≥"), ("maximum", "≤")) if key in field]
    return " ".join([name, *bounds])
