"""docs/how-to/new-source.md, followed to the letter: the class passes its suite and is loaded by the command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REST = """
---
apiVersion: millstream.dev/v1alpha1
kind: Warehouse
metadata: {name: dw}
spec: {type: postgres, config: {embedded: true}}
---
apiVersion: millstream.dev/v1alpha1
kind: Pipeline
metadata: {name: calendar}
spec:
  sourceRef: {name: calendar}
  warehouseRef: {name: dw}
  streams: [{name: days, target: raw.days, mode: incremental}]
"""


@pytest.fixture
def package(tmp_path: Path, root: Path) -> Path:
    """The package of the page, installed in a folder that PYTHONPATH names."""
    text = (root / "docs/how-to/new-source.md").read_text(encoding="utf-8")
    blocks = {name: re.findall(rf"```{name}\n(.*?)```", text, re.DOTALL) for name in ("python", "toml", "yaml")}
    (tmp_path / "millstream_days.py").write_text(blocks["python"][0], encoding="utf-8")
    (tmp_path / "test_millstream_days.py").write_text(blocks["python"][1], encoding="utf-8")
    (tmp_path / "calendar.yaml").write_text(blocks["yaml"][0] + REST, encoding="utf-8")
    info = tmp_path / "millstream_days-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: millstream-days\nVersion: 1.0\n", encoding="utf-8")
    name, target = re.findall(r'^(\w+) = "([^"]+)"$', blocks["toml"][0], re.MULTILINE)[0]
    (info / "entry_points.txt").write_text(f"[millstream.sources]\n{name} = {target}\n", encoding="utf-8")
    return tmp_path


def _python(package: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(package), "MILLSTREAM_HOME": str(home)}
    return subprocess.run(
        [sys.executable, *words], cwd=package, env=environment, capture_output=True, text=True, check=False
    )


def test_the_suite_passes(package: Path, server_folder: Path) -> None:
    options = ["-q", "-p", "no:cacheprovider", "--basetemp", str(server_folder / "pytest")]
    result = _python(package, server_folder, "-m", "pytest", *options, "test_millstream_days.py")
    assert result.returncode == 0, result.stdout
    assert re.search(r"[1-9]\d* passed", result.stdout)


def test_the_command_loads_it_once(package: Path, server_folder: Path) -> None:
    line = ["-m", "millstream_pipelines.cli", "run", "-f", "calendar.yaml", "--json"]
    for expected in (90, 0):
        result = _python(package, server_folder, *line)
        assert result.returncode == 0, result.stderr + result.stdout
        assert json.loads(result.stdout)["runs"][0]["report"]["totals"]["loaded"] == expected
