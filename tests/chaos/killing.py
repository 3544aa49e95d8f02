"""Forks a replay again and again and kills it at random instants. A process of its own: one thread, imports done once.

Called with a plan, the number of kills, a seed and how many rows a chunk has.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

from millstream_api import RunOptions, RunPlan
from millstream_pipelines import replay
from millstream_pipelines.runner import RunRequest, execute


def main(plan_path: str, kills: str, seed: str, chunk_rows: str) -> None:
    """Kill, and print how many were killed before their end."""
    with open(plan_path) as file:
        plan = RunPlan.model_validate_json(file.read())
    replay._CHUNK = int(chunk_rows)
    chance, killed = random.Random(int(seed)), 0
    for attempt in range(int(kills)):
        child = os.fork()
        if not child:
            request = RunRequest(plan, {}, "fix", f"pod-{attempt}", RunOptions(trigger="replay"))
            os._exit(int(execute(request).exit_code))
        time.sleep(chance.uniform(0.02, 0.3))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    print(killed)


if __name__ == "__main__":
    main(*sys.argv[1:])
