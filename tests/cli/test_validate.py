"""Errors in manifests: all at once, each with file, line, field, value seen, what is accepted and the nearest word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

HEAD = "apiVersion: millstream.dev/v1alpha1\n"
SOURCE = HEAD + "kind: DataSource\nmetadata: {name: s}\nspec: {type: memory, config: {streams: {}}}\n"
WAREHOUSE = HEAD + "kind: Warehouse\nmetadata: {name: w}\nspec: {type: postgres, config: {embedded: true}}\n"
PIPELINE = (
    HEAD
    + """kind: Pipeline
metadata: {name: p}
spec:
  sourceRef: {name: s}
  warehouseRef: {name: w}
  streams:
    - {name: a, target: raw.a}
"""
)
GOOD = "---\n".join([SOURCE, WAREHOUSE, PIPELINE])

CASES = {
    "unknown kind": ("kind: Pipeline", "kind: Pipline", ["unknown kind 'Pipline'", "did you mean 'Pipeline'"]),
    "api version": (
        "millstream.dev/v1alpha1\nkind: Warehouse",
        "millstream.dev/v1\nkind: Warehouse",
        ["'millstream.dev/v1' is not accepted", "millstream.dev/v1alpha1"],
    ),
    "unknown field": (
        "target: raw.a",
        "targt: raw.a",
        ["spec.streams[0].targt: unknown field", "did you mean 'target'", "spec.streams[0].target: is missing"],
    ),
    "wrong word": (
        "target: raw.a",
        "target: raw.a, mode: incremantal",
        ["spec.streams[0].mode: 'incremantal'", "accepted: 'full', 'incremental'", "did you mean 'incremental'"],
    ),
    "combination": (
        "target: raw.a",
        "target: raw.a, writeDisposition: merge",
        ["stream 'a': writeDisposition 'merge' needs `primaryKey`"],
    ),
    "name": ("{name: p}", "{name: My Pipe}", ["metadata.name: 'My Pipe' is not accepted", "lower-case"]),
    "written twice": (
        "warehouseRef: {name: w}",
        "warehouseRef: {name: w}\n  warehouseRef: {name: w}",
        ["key 'warehouseRef' is written twice"],
    ),
    "no yaml": ("metadata: {name: p}", "metadata: {name: p", ["not valid YAML"]),
    "reference": ("sourceRef: {name: s}", "sourceRef: {name: src}", ["no DataSource 'src'; found: s"]),
    "plug-in": ("type: memory", "type: memroy", ["unknown type in sources 'memroy'", "did you mean 'memory'"]),
    "plug-in field": ("streams: {}", "streamz: {}", ["streamz"]),
    "check": (
        "target: raw.a",
        "target: raw.a, checks: [{type: not_nul}]",
        ["spec.streams[0].checks[0]", "did you mean 'not_null'"],
    ),
    "cron": ("  streams:", '  schedule: {cron: "61 * * * *"}\n  streams:', ["spec.schedule.cron", "61 * * * *"]),
}


@pytest.mark.parametrize("case", CASES, ids=lambda name: name.replace(" ", "-"))
def test_a_wrong_manifest_says_what_and_how(case: str, millstream: Callable, tmp_path: Path) -> None:
    old, new, expected = CASES[case]
    assert old in GOOD
    (tmp_path / "m.yaml").write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    result = millstream("validate", "-f", "m.yaml")
    assert result.code == 78
    for words in expected:
        assert words in result.err
    assert result.err.startswith("error: m.yaml:")


def test_everything_is_found_at_once_with_its_line(millstream: Callable, tmp_path: Path) -> None:
    text = GOOD.replace("target: raw.a", "targt: raw.a").replace("type: postgres", "typ: postgres")
    (tmp_path / "m.yaml").write_text(text, encoding="utf-8")
    result = millstream("validate", "-f", "m.yaml", "--json")
    findings = result.json()["findings"]
    assert len(findings) == 4
    line = next(n for n, content in enumerate(text.splitlines(), 1) if "targt" in content)
    assert any(item.startswith(f"m.yaml:{line}: Pipeline 'p' (document 3)") for item in findings)


def test_a_good_folder_is_counted_and_foreign_objects_are_left_alone(millstream: Callable, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "other.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n", encoding="utf-8")
    result = millstream("validate", "-f", ".")
    assert result.code == 0, result.err
    assert "1 DataSource, 1 Pipeline, 1 Warehouse" in result.out
    assert "other.yaml:1: v1 ConfigMap" in result.out


def test_two_objects_of_one_name_name_both_places(millstream: Callable, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "b.yaml").write_text(WAREHOUSE, encoding="utf-8")
    result = millstream("validate", "-f", "a.yaml", "-f", "b.yaml")
    assert result.code == 78
    assert "b.yaml:1" in result.err
    assert "also at a.yaml:" in result.err


@pytest.mark.parametrize(
    ("warehouse", "asked", "named"),
    [
        ("{type: parquet, config: {url: ./lake}}", "primaryKey: [id], writeDisposition: merge", "'merge'"),
        ("{type: parquet, config: {url: ./lake}}", "primaryKey: [id], writeDisposition: replace", "primaryKey with"),
        ("{type: duckdb, config: {path: d}}", "primaryKey: [id], nested: {lists: tables}", "nested.lists 'tables'"),
    ],
)
def test_what_the_warehouse_cannot_do_is_named_at_the_stream(
    millstream: Callable, tmp_path: Path, warehouse: str, asked: str, named: str
) -> None:
    text = GOOD.replace("{type: postgres, config: {embedded: true}}", warehouse)
    (tmp_path / "m.yaml").write_text(text.replace("target: raw.a", f"target: raw.a, {asked}"), encoding="utf-8")
    result = millstream("validate", "-f", "m.yaml")
    assert result.code == 78
    assert named in result.err
    assert "Pipeline 'p'" in result.err


def test_a_warehouse_without_transforms_names_them(millstream: Callable, tmp_path: Path) -> None:
    text = GOOD.replace("{type: postgres, config: {embedded: true}}", "{type: parquet, config: {url: ./lake}}")
    transforms = "  transforms: [{name: t, target: marts.t, sql: SELECT 1 AS a}]\n"
    (tmp_path / "m.yaml").write_text(text + transforms, encoding="utf-8")
    result = millstream("validate", "-f", "m.yaml")
    assert result.code == 78
    assert "`transforms` is not built for a warehouse of type 'parquet'" in result.err
