"""What all tests share: the checkout, and the command as a user calls it. Nothing starts before a test asks for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster.plugin import control_plane, namespace, node

from millstream_pipelines import embedded

__all__ = ["control_plane", "namespace", "node"]  # here and nowhere else: one cluster serves the whole session


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own MILLSTREAM_… variables change no test, except those that choose a test server."""
    for name in list(os.environ):
        if name.startswith("MILLSTREAM_") and not name.startswith("MILLSTREAM_TEST_"):
            monkeypatch.delenv(name)


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return standard output as one JSON document."""
        return json.loads(self.out)


Millstream = Callable[..., Result]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose server stays up for all tests: each command joins it and leaves it running."""
    home = tmp_path_factory.mktemp("millstream")
    with embedded.serving(home / "postgres"):
        yield home


@pytest.fixture
def millstream(home: Path, tmp_path: Path) -> Millstream:
    """Call the command in `tmp_path`."""

    def call(*words: object, env: Mapping[str, str] | None = None) -> Result:
        environment = {**os.environ, "MILLSTREAM_HOME": str(home), "COLUMNS": "100", **(env or {})}
        line = [sys.executable, "-m", "millstream_pipelines.cli", *map(str, words)]
        done = subprocess.run(
            line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return call
