"""The benchmark itself: a small one runs through, verifies what it loaded, and writes its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

NAMES = ("copy", "merge")


def test_a_small_benchmark_measures_and_verifies(root: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    words = ["--rows", "2000", "--rounds", "1", "--only", ",".join(NAMES), "--json", str(figures)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *words], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    assert [line["line"] for line in found["lines"]] == list(NAMES)
    assert all(line["ratio"] > 0 and line["rss_mib"] > 10 for line in found["lines"])
    assert set(found["lines"][1]["limits_s"]) == {"MERGE", "ON CONFLICT", "delete+insert"}
    assert "fsync=off" in done.stdout


def test_a_line_that_is_not_there_is_named(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--only", "cpoy"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no line cpoy; known: copy" in done.stderr
