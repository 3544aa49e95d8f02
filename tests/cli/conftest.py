"""The command as a user calls it: a subprocess in an empty folder with an embedded PostgreSQL of its own."""

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

from millstream_pipelines import embedded


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


@pytest.fixture
def manifest(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Path]:
    """Write a Pipeline over rows in memory into a file; names and the database are the test's own."""
    name = request.node.name.replace("_", "-").replace("[", "-").replace("]", "").lower()[:60].strip("-")

    def write(rows: list[dict[str, Any]], stream: Mapping[str, Any] | None = None, **spec: Any) -> Path:
        documents = [
            ("DataSource", "rows", {"type": "memory", "config": {"streams": {"rows": {"rows": rows}}}}),
            ("Warehouse", "dw", {"type": "postgres", "config": {"embedded": True, "database": "cli"}}),
            (
                "Pipeline",
                name,
                {
                    "sourceRef": {"name": "rows"},
                    "warehouseRef": {"name": "dw"},
                    "streams": [
                        {"name": "rows", "target": f"raw.{name.replace('-', '_')}", "mode": "incremental"}
                        | dict(stream or {})
                    ],
                    **spec,
                },
            ),
        ]
        path = tmp_path / "pipeline.yaml"
        texts = (
            json.dumps(
                {"apiVersion": "millstream.dev/v1alpha1", "kind": kind, "metadata": {"name": title}, "spec": spec}
            )
            for kind, title, spec in documents
        )
        path.write_text("\n---\n".join(texts), encoding="utf-8")
        return path

    return write
