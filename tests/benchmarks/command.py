"""The command as a user calls it: manifests written, `millstream run` measured, its report read."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.measuring import Measured, measured


@dataclass(frozen=True)
class Run:
    """A run: the process as a whole, and what it reports."""

    process: Measured
    report: Mapping[str, Any]

    @property
    def run_s(self) -> float:
        """Seconds of the run itself, without the start of the process."""
        return float(self.report["durationSeconds"])

    def count(self, name: str) -> int:
        """Return one of the run's totals."""
        return int(self.report["totals"][name])


def write_manifests(
    folder: Path,
    name: str,
    source: Mapping[str, Any],
    warehouse: Mapping[str, Any],
    streams: Sequence[Mapping[str, Any]],
) -> None:
    """Write one Pipeline and what it refers to as `name`.yaml."""
    title = name.replace("_", "-")
    specs = {
        "DataSource": source,
        "Warehouse": warehouse,
        "Pipeline": {"sourceRef": {"name": title}, "warehouseRef": {"name": title}, "streams": streams},
    }
    documents = [
        {"apiVersion": "millstream.dev/v1alpha1", "kind": kind, "metadata": {"name": title}, "spec": spec}
        for kind, spec in specs.items()
    ]
    (folder / f"{name}.yaml").write_text("\n---\n".join(map(json.dumps, documents)))


def run(folder: Path, name: str, timeout_s: int = 1800) -> Run:
    """Run `name`.yaml. A run that fails ends the benchmark: there is nothing to compare."""
    line = [sys.executable, "-m", "millstream_pipelines.cli", "run", "-f", f"{name}.yaml", "--json"]
    # Modules are compiled once, as in the image; the folder is the benchmark's own.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    process = measured(line, folder, env=environment, timeout_s=timeout_s)
    if process.code:
        raise SystemExit(f"{name}: millstream ended with {process.code}: {process.out[-2000:]} {process.err[-2000:]}")
    return Run(process, json.loads(process.out)["runs"][0]["report"])
