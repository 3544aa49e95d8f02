"""A run of a policy in a process of its own, which dies at a named place as SIGKILL ends it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from millstream_api.retentionpolicy import RetentionPolicySpec
from servers.postgres import Postgres

_PROGRAM = """
import json, sys
from datetime import datetime
from millstream_api import Endpoint, RunPlan
from millstream_api.retention_options import RetentionOptions
from millstream_pipelines import failpoints
from millstream_pipelines.retention.request import RetentionRequest
from millstream_pipelines.retention.run import retain
given = json.load(sys.stdin)
failpoints.arm(given["place"])
plan = RunPlan.model_validate({"action": "retain", "namespace": "default", "name": "keep", "policy": given["policy"],
                               "warehouse": {"name": "dw", "type": "postgres", "config": given["config"]}})
options = RetentionOptions.model_validate(given["options"])
print(retain(RetentionRequest(plan, {}, "run-1", options, datetime.fromisoformat(given["now"]))).message)
"""


def killed_at(
    place: str, database: Postgres, policy: RetentionPolicySpec, now: datetime, **options: Any
) -> tuple[int, str]:
    """Carry out a policy that dies at `place` (`name:nth`); return the process's exit code and what it said."""
    given = {
        "place": f"{place}:kill", "policy": policy.model_dump(mode="json", by_alias=True, exclude_none=True),
        "config": database.config, "now": now.isoformat(), "options": options,
    }  # fmt: skip
    words = [sys.executable, "-c", _PROGRAM]
    ended = subprocess.run(
        words, input=json.dumps(given), text=True, capture_output=True, check=False, cwd=Path(__file__).parent
    )
    return gone(database, ended.returncode), ended.stdout + ended.stderr


def gone(database: Postgres, code: int) -> int:
    """Wait until the server has seen that a killed client is gone, which holds its locks until then; return `code`."""
    ours = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'millstream%'"
    deadline = time.monotonic() + 30
    while database.execute(ours) and time.monotonic() < deadline:
        time.sleep(0.02)
    return code
