"""`millstream components`: what plug-ins are installed, with the fields of their configuration."""

from __future__ import annotations

import argparse
import inspect
from typing import Any, get_args

from pydantic import BaseModel

from millstream_pipelines.cli.output import print_json, table
from millstream_pipelines.errors import ConfigurationError, unknown_value
from millstream_pipelines.registry import Family, component, known

_WIDEST = 200  # characters of one description

FAMILIES: tuple[Family, ...] = get_args(Family)


def command(arguments: argparse.Namespace) -> int:
    """List all plug-ins, or describe one."""
    found = described()
    if arguments.name is not None:
        chosen = [item for item in found if item["name"] == arguments.name]
        if not chosen:
            raise unknown_value("components", "plug-in", arguments.name, {item["name"] for item in found})
        found = chosen
    if arguments.json:
        print_json({"version": 1, "components": found})
        return 0
    if arguments.name is None:
        overview = [(item["family"], item["name"], item["error"] or item["description"]) for item in found]
        print(table(("family", "type", "says"), overview, widest=_WIDEST))
        print("\n`millstream components NAME` lists the fields of one")
        return 0
    for item in found:
        print(f"{item['family']} {item['name']}: {item['error'] or item['description']}")
        fields = [[f[key] for key in ("name", "type", "default", "description")] for f in item["fields"]]
        if fields:
            print(table(("field", "type", "default", "says"), fields, indent="  ", widest=_WIDEST))
    return 0


def described() -> list[dict[str, Any]]:
    """Return every plug-in with its fields; one that cannot be imported says why instead of being absent."""
    found = []
    for family in FAMILIES:
        for name, point in sorted(known(family).items()):
            item: dict[str, Any] = {"family": family, "name": name, "description": "", "error": None, "fields": []}
            try:
                plugin = component(family, name, name)
            except (ConfigurationError, AttributeError) as error:
                item["error"] = str(error)
            else:
                item["description"] = _first_line(plugin) or _first_line(inspect.getmodule(plugin))
                config = getattr(plugin, "Config", None)
                item["fields"] = fields_of(config) if config is not None else []
            item["entryPoint"] = point.value
            found.append(item)
    return found


def _first_line(thing: object) -> str:
    text = (inspect.getdoc(thing) or "").strip().split("\n")[0]
    return "" if text.startswith("See `") else text


def fields_of(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Return name, type, default and description of every field, nested ones as `outer.inner` or `outer[].inner`."""
    schema = model.model_json_schema(by_alias=True)
    return _fields(schema, schema.get("$defs", {}), "", ())


def _fields(schema: dict[str, Any], defs: dict[str, Any], prefix: str, inside: tuple[str, ...]) -> list[dict[str, Any]]:
    found = []
    for name, spec in schema.get("properties", {}).items():
        target, reference = _target(spec, defs)
        found.append(
            {
                "name": f"{prefix}{name}",
                "type": _type(spec, defs),
                "required": name in schema.get("required", []),
                "default": "required" if name in schema.get("required", []) else _default(spec),
                "description": " ".join(str(spec.get("description", "")).split()),
            }
        )
        if target is not None and reference not in inside:
            mark = "[]." if _is_list(spec) else "."
            found += _fields(target, defs, f"{prefix}{name}{mark}", (*inside, reference))
    return found


def _default(spec: dict[str, Any]) -> str:
    value = spec.get("default")
    if value is None or value in ({}, []):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_list(spec: dict[str, Any]) -> bool:
    return any(option.get("type") == "array" for option in _options(spec))


def _options(spec: dict[str, Any]) -> list[dict[str, Any]]:
    options = spec.get("anyOf") or spec.get("oneOf") or [spec]
    return [option for option in options if option.get("type") != "null"]


def _target(spec: dict[str, Any], defs: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Return the nested object a field holds, if exactly one shape is possible."""
    options = _options(spec)
    options = [option.get("items", option) for option in options]
    names = [str(option.get("$ref", "")).rpartition("/")[2] for option in options]
    if len(names) == 1 and names[0] in defs and "properties" in defs[names[0]]:
        return defs[names[0]], names[0]
    return None, ""


def _type(spec: dict[str, Any], defs: dict[str, Any]) -> str:
    words = []
    for option in _options(spec):
        name = str(option.get("$ref", "")).rpartition("/")[2]
        inner = defs.get(name, option)
        if "enum" in inner:
            words.append(" | ".join(str(value) for value in inner["enum"]))
        elif "const" in inner:
            words.append(str(inner["const"]))
        elif inner.get("type") == "array":
            words.append(f"list of {_type(inner.get('items', {}), defs)}")
        else:
            words.append(str(inner.get("format") if inner.get("format") == "password" else inner.get("type", "any")))
    return " | ".join(dict.fromkeys(words))
