"""The CRDs: structural, small, current."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from millstream_api import KINDS, Kind, crd

ROOT = Path(__file__).parents[2]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.singular)


def spec_of(kind: Kind) -> dict[str, Any]:
    schema = crd.manifest(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema["properties"]["spec"]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from nodes(schema[word], f"{path}[]")


@each_kind
def test_schema_is_structural(kind: Kind) -> None:
    root = crd.manifest(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path, node in nodes(root):
        assert not {"$ref", "anyOf", "oneOf", "$defs", "title", "const"} & set(node), path
        assert "type" in node or node.get("x-kubernetes-preserve-unknown-fields"), path
        assert node.get("default", 0) is not None, path


@each_kind
def test_every_field_is_described(kind: Kind) -> None:
    bare = [path for path, node in nodes(spec_of(kind)) if path and "[]" not in path[-2:] and "description" not in node]
    assert bare == []


@each_kind
def test_files_are_current_and_small(kind: Kind) -> None:
    text = crd.rendered(kind)
    assert (ROOT / "crds" / f"{kind.singular}.yaml").read_text("utf-8") == text, "run `python -m millstream_api.crd`"
    assert len(text.encode()) < 200_000
    assert yaml.safe_load(text) == crd.manifest(kind)


def test_check_finds_nothing_to_write() -> None:
    assert crd.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("kind", "path", "word", "value"),
    [
        ("DataSource", ".config", "x-kubernetes-preserve-unknown-fields", True),
        ("DataSource", ".probeIntervalSeconds", "default", 3600),
        ("DataSource", ".type", "pattern", "^[a-z][a-z0-9_-]*$"),
        ("Pipeline", ".streams", "x-kubernetes-list-map-keys", ["name"]),
        ("Pipeline", ".streams", "maxItems", 500),
        ("Pipeline", ".streams[].checks[]", "x-kubernetes-preserve-unknown-fields", True),
        ("Pipeline", ".streams[].contract", "default", {}),
        ("Pipeline", ".streams[].mode", "enum", ["full", "incremental"]),
        ("Pipeline", ".schedule.concurrencyPolicy", "default", "Forbid"),
        ("Pipeline", ".pod.env", "additionalProperties", {"type": "string"}),
        ("RetentionPolicy", ".archive.format", "enum", ["parquet"]),
        ("RetentionPolicy", ".approval", "enum", ["automatic", "manual"]),
    ],
)
def test_field_says(kind: str, path: str, word: str, value: Any) -> None:
    found = dict(nodes(spec_of(next(item for item in KINDS if item.name == kind))))
    assert found[path][word] == value


def test_optional_structures_get_no_default() -> None:
    pipeline = dict(nodes(spec_of(next(item for item in KINDS if item.name == "Pipeline"))))
    assert "default" not in pipeline[".pod"]
    assert "default" not in pipeline[".schedule"]
    assert pipeline[""]["required"] == ["sourceRef", "warehouseRef", "streams"]


def test_rules_stand_where_they_belong() -> None:
    pipeline = dict(nodes(spec_of(next(item for item in KINDS if item.name == "Pipeline"))))
    run = dict(nodes(spec_of(next(item for item in KINDS if item.name == "PipelineRun"))))
    keep = dict(nodes(spec_of(next(item for item in KINDS if item.name == "RetentionPolicy"))))
    together = "diskPressure and diskSize go together"
    for path in (".keep", ".tables[].keep"):
        assert [item["message"] for item in keep[path]["x-kubernetes-validations"]] == [together], path
    assert len(pipeline[".streams[]"]["x-kubernetes-validations"]) == 5
    rules = run[""]["x-kubernetes-validations"]
    assert rules[0]["rule"] == "self.trigger == oldSelf.trigger"
    with pytest.raises(ValueError, match="one of several types"):
        crd._resolved({"anyOf": [{"type": "string"}, {"type": "integer"}]}, {})
