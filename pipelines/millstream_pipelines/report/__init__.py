"""A self-contained HTML report of pipelines: runs, rows in and out, checks, quarantine. No script, nothing loaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from millstream_pipelines.manifests import Planned
from millstream_pipelines.report.facts import gathered
from millstream_pipelines.report.page import page

__all__ = ["write_report"]


def write_report(path: Path, planned: Iterable[Planned]) -> None:
    """Write the report of some pipelines, from what their warehouses know."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page([gathered(item) for item in planned]), encoding="utf-8")
