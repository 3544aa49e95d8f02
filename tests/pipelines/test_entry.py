"""The pod's entry: what it refuses before anything is opened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from millstream_api import RunPlan


def test_a_pod_that_does_not_know_which_of_several_it_is(tmp_path: Path) -> None:
    plan, report = tmp_path / "plan.json", tmp_path / "report.json"
    plan.write_text(RunPlan(action="run", namespace="shop", name="flights").document())
    variables = {"MILLSTREAM_PLAN": plan, "MILLSTREAM_TERMINATION_LOG": report, "MILLSTREAM_SHARDS": 3}
    environment = os.environ | {name: str(value) for name, value in variables.items()} | {"JOB_COMPLETION_INDEX": "3"}
    line = [sys.executable, "-m", "millstream_pipelines"]
    done = subprocess.run(line, env=environment, check=False, capture_output=True, timeout=60)
    told = json.loads(report.read_text())
    assert (done.returncode, told["reason"]) == (78, "InvalidSetting")
    assert "MILLSTREAM_SHARDS is '3' and JOB_COMPLETION_INDEX is '3'" in told["message"]
