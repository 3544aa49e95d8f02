"""Models → structural CRDs: `python -m millstream_api.crd [--check]` writes (or compares) the YAML and its reference.

Structural means: no `$ref`, no `anyOf` with null, a type everywhere; an optional field is one that is not required.
Writing files is the only I/O here, and only when run as a program.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from millstream_api import reference
from millstream_api.kinds import KINDS, Kind
from millstream_api.meta import CATEGORY, GROUP, VERSION

Schema = dict[str, Any]

_KEPT = frozenset(
    [
        "description",
        "default",
        "enum",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "pattern",
        "required",
    ]
)
# Lists whose items have an identity; the API server then refuses doubles and merges server-side applies by key.
_LIST_KEYS = {"conditions": "type", "streams": "name", "transforms": "name"}
_HEADER = "# DO NOT CHANGE! Generated from crds/millstream_api; run `python -m millstream_api.crd`.\n"


def structural(model: type[BaseModel]) -> Schema:
    """Return the model's OpenAPI v3 schema in the structural form that a CRD needs."""
    document = model.model_json_schema(by_alias=True)
    return _node(document, document.get("$defs", {}))


def manifest(kind: Kind) -> Schema:
    """Return the CustomResourceDefinition of a kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "millstream"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": [kind.short],
                "categories": [CATEGORY],
            },
            "versions": [_version(kind)],
        },
    }


def rendered(kind: Kind) -> str:
    """Return the CRD as YAML text."""
    return _HEADER + yaml.safe_dump(manifest(kind), sort_keys=False, allow_unicode=True, width=120)


def files(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield every generated file of the repository with the text it should have."""
    for kind in KINDS:
        text = rendered(kind)
        yield root / "crds" / f"{kind.singular}.yaml", text
        yield root / "charts" / "millstream" / "files" / "crds" / f"{kind.singular}.yaml", text
    yield root / "crds" / "README.md", reference.document([(kind, _root(kind)) for kind in KINDS])


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` name those that differ and return 1."""
    root = Path(__file__).resolve().parents[2]
    stale = [(path, text) for path, text in files(root) if not path.is_file() or path.read_text("utf-8") != text]
    for path, text in stale:
        if "--check" in arguments:
            print(f"{path.relative_to(root)} differs from the models; run `python -m millstream_api.crd`")
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        print(f"wrote {path.relative_to(root)}")
    return 1 if stale and "--check" in arguments else 0


def _version(kind: Kind) -> Schema:
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": name, "type": type_, "jsonPath": path} for name, type_, path in kind.columns
        ],
        "schema": {"openAPIV3Schema": _root(kind)},
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return version


def _root(kind: Kind) -> Schema:
    spec = structural(kind.spec)
    for path, rules in kind.rules.items():
        _at(spec, path).setdefault("x-kubernetes-validations", []).extend(
            {"rule": rule, "message": message} for rule, message in rules
        )
    return {
        "type": "object",
        "description": kind.doc,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": structural(kind.status),
        },
    }


def _at(schema: Schema, path: str) -> Schema:
    """Return the node at a path such as `streams[].columns[]`; the empty path is the spec itself."""
    for step in filter(None, path.split(".")):
        schema = schema["properties"][step.removesuffix("[]")]
        schema = schema["items"] if step.endswith("[]") else schema
    return schema


def _node(raw: Schema, definitions: dict[str, Schema]) -> Schema:
    node = _resolved(raw, definitions)
    out: Schema = {key: value for key, value in node.items() if key in _KEPT and value is not None}
    if "const" in node:
        out["enum"] = [node["const"]]
    if "type" not in node:  # Any: whatever the user writes is kept
        return out | {"x-kubernetes-preserve-unknown-fields": True}
    out["type"] = node["type"]
    if node["type"] == "object":
        out |= _object(node, definitions)
    elif node["type"] == "array":
        out["items"] = _node(node["items"], definitions)
    elif node["type"] == "integer":
        out["format"] = "int64"
    return out


def _resolved(raw: Schema, definitions: dict[str, Schema]) -> Schema:
    """Follow `$ref` and take the one branch that is not null; what stands beside them (description, default) wins."""
    beside = {key: value for key, value in raw.items() if key not in ("$ref", "anyOf", "allOf")}
    if "$ref" in raw:
        return _resolved(definitions[raw["$ref"].rsplit("/", 1)[1]] | beside, definitions)
    if "anyOf" in raw:
        branches = [branch for branch in raw["anyOf"] if branch.get("type") != "null"]
        if len(branches) != 1:
            raise ValueError(f"a CRD cannot say 'one of several types': {raw}")
        return _resolved(branches[0] | beside, definitions)
    return raw


def _object(node: Schema, definitions: dict[str, Schema]) -> Schema:
    extra = node.get("additionalProperties")
    if "properties" not in node:
        return {"additionalProperties": _node(extra, definitions)} if isinstance(extra, dict) and extra else _OPEN
    properties = {name: _property(name, value, definitions) for name, value in node["properties"].items()}
    return {"properties": properties} | (_OPEN if extra is True else {})


_OPEN: Schema = {"x-kubernetes-preserve-unknown-fields": True}


def _property(name: str, raw: Schema, definitions: dict[str, Schema]) -> Schema:
    schema = _node(raw, definitions)
    key = _LIST_KEYS.get(name)
    if key is not None and schema.get("type") == "array" and key in schema["items"].get("required", ()):
        schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
    if schema.get("type") == "object" and "default" not in schema and _defaults_inside(raw, schema):
        schema["default"] = {}  # so that the defaults of its fields are filled in
    return schema


def _defaults_inside(raw: Schema, schema: Schema) -> bool:
    optional_reference = "anyOf" in raw
    fields = schema.get("properties", {})
    return not optional_reference and not schema.get("required") and any("default" in f for f in fields.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
