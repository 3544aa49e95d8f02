"""Attempts of a run as processes of their own, as in pods: started, killed, started again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from millstream_api import Endpoint, RunOptions, RunPlan
from millstream_api.pipeline import PipelineSpec
from servers.postgres import Postgres


class Pods:
    """A pipeline from a database into itself."""

    def __init__(self, database: Postgres, folder: Path, streams: list[dict[str, Any]], **spec: Any) -> None:
        self.database, self.folder = database, folder
        given = {"sourceRef": {"name": "s"}, "warehouseRef": {"name": "w"}, "streams": streams, **spec}
        end = Endpoint(name="db", type="postgres", config=dict(database.config))
        plan = RunPlan(
            action="run", namespace="pods", name="p", source=end, warehouse=end,
            pipeline=PipelineSpec.model_validate(given),
        )  # fmt: skip
        self._plan = folder / "plan.json"
        self._plan.write_text(plan.document())
        self._started = 0

    def start(self, run: str, options: dict[str, Any] | None = None, **environment: str) -> Pod:
        """Start one attempt; further words are variables of its environment."""
        self._started += 1
        report = self.folder / f"report-{self._started}.json"
        variables = os.environ | RunOptions.model_validate(options or {}).environment()
        variables |= {
            "MILLSTREAM_PLAN": str(self._plan),
            "MILLSTREAM_RUN": run,
            "MILLSTREAM_POD": f"pod-{self._started}",
            "MILLSTREAM_TERMINATION_LOG": str(report),
            **environment,
        }
        line = [sys.executable, "-m", "millstream_pipelines"]
        return Pod(subprocess.Popen(line, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), report)

    def finish(self, run: str, options: dict[str, Any] | None = None, **environment: str) -> dict[str, Any]:
        """Run one attempt to its end and return its report."""
        return self.start(run, options, **environment).report()


class Pod:
    """One attempt."""

    def __init__(self, process: subprocess.Popen[bytes], report: Path) -> None:
        self._process, self._report = process, report

    def killed_after(self, seconds: float) -> bool:
        """Kill it at that moment; return whether it was still alive."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return True
        return False

    def ended(self) -> int:
        """Wait for its end and return the exit code; negative after a signal."""
        return self._process.wait(timeout=300)

    def report(self) -> dict[str, Any]:
        """Wait for its end and return its report."""
        self.ended()
        report: dict[str, Any] = json.loads(self._report.read_text())
        return report
