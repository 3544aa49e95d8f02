"""The shape of the tree: small files, layers that hold, and the standard library's `operator` unharmed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("crds", "operator", "pipelines", "tests", "examples")
MAX_LINES = 300


def _python_files() -> list[Path]:
    return [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts]


def test_no_file_is_longer_than_300_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in _python_files()
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert not long


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in _python_files()
        if (text := path.read_text(encoding="utf-8").lstrip()) and not text.startswith('"""')
    ]
    assert not silent


@pytest.mark.parametrize("folder", ["operator", "tests", "crds", "pipelines"])
def test_folders_of_packages_are_no_packages(folder: str) -> None:
    # operator/__init__.py would shadow the standard library's `operator`; tests/operator/__init__.py too, under pytest.
    assert not (ROOT / folder / "__init__.py").exists()
    if folder == "tests":
        assert not list((ROOT / folder).rglob("__init__.py"))


def test_standard_operator_wins_from_the_root() -> None:
    code = "import operator; assert operator.itemgetter, operator.__file__"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_layers_hold() -> None:
    result = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_dumping_grounds() -> None:
    names = {path.name for path in _python_files()}
    assert not names & {"utils.py", "util.py", "helpers.py", "common.py", "manager.py"}
