"""Manifests that tests of the command write."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest


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
