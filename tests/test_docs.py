"""The docs say what the code does: generated pages are current, links lead somewhere, snippets run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from millstream_api import ExitCode, conditions
from millstream_pipelines.cli import reference, reference_words

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/*/README.md", "crds/*.md", "charts/**/*.md", "pipelines/*.md")
    for path in ROOT.glob(pattern)
)
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


@pytest.mark.parametrize("module", ["millstream_api.crd", "millstream_pipelines.cli.reference"])
def test_generated_files_are_current(module: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", module, "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in _LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert not broken


def test_every_condition_reason_and_exit_code_is_explained() -> None:
    words = {
        value
        for name, value in vars(conditions).items()
        if name.isupper() and isinstance(value, str) and not name.startswith("_")
    }
    assert words <= set(reference_words.CONDITIONS) | set(reference_words.REASONS)
    assert {code.name for code in ExitCode} == set(reference_words.EXIT_CODES)


def test_every_plugin_and_field_is_described() -> None:
    silent = [
        f"{item['family']} {item['name']} {field}"
        for item in reference.described()
        for field in ["", *(entry["name"] for entry in item["fields"] if not entry["description"])]
        if field or item["error"] or not item["description"]
    ]
    assert not silent


def test_every_example_is_listed_by_a_readme() -> None:
    for folder in (path for path in (ROOT / "examples").iterdir() if path.is_dir()):
        assert (folder / "README.md").exists(), folder


def test_the_pipeline_of_the_readme_is_valid() -> None:
    from millstream_api.pipeline import PipelineSpec

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert block is not None
    PipelineSpec.model_validate(yaml.safe_load(block.group(1))["spec"])


def test_make_targets_named_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        name
        for page in PAGES
        for name in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert named <= targets
