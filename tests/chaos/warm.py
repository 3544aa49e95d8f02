"""A process that has imported the engine and forks a runner per request: a real process without a second of imports.

Started as a script by `attempts.Warm`. A line on stdin is a request (JSON), a line on stdout its answer. A runner does
what a pod does, from the plan file and the environment to the termination log and the exit code; only the
interpreter's own end (50 ms of freeing) is left out.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, get_args

IMPORTED = (
    "adbc_driver_manager.dbapi", "adbc_driver_manager._reader", "adbc_driver_postgresql.dbapi", "duckdb", "sqlglot",
    "pgpq.encoders", "pgpq.schema", "psycopg2.extras", "pyarrow.compute", "chaos.unruly",
)  # fmt: skip
NOT_OF_A_POD = ("cli", "testing", "report")
PR_SET_PDEATHSIG = 1


def threads() -> int:
    """Return how many threads this process has; a fork copies only the one that asks for it."""
    return len(os.listdir("/proc/self/task"))


def runner(request: dict[str, Any]) -> None:
    """Become one attempt: never returns."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    out = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, replaced in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(number, replaced)
    os.environ.update(request["environment"])
    shift_s = request.get("clock_shift_s", 0.0)
    if shift_s:
        real = time.time
        time.time = lambda: real() + shift_s
    from millstream_pipelines.__main__ import main

    try:
        code = main()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def answer(request: dict[str, Any]) -> Any:
    """Fork a runner and return its id, or wait for one that has ended and return its status."""
    if "wait" in request:
        return os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        runner(request)
    return child


def rehearse() -> None:
    """Let the models be built, which they are at their first use."""
    from millstream_api import RunPlan, RunReport
    from millstream_pipelines.registry import component, configured

    stream = {"name": "a", "target": "a.b", "columns": [{"name": "c"}], "checks": [{"type": "range"}]}
    spec = {"sourceRef": {"name": "s"}, "warehouseRef": {"name": "w"}, "streams": [stream]}
    spec["transforms"] = [{"name": "t", "target": "a.c", "sql": "SELECT 1"}]
    end = {"name": "e", "type": "postgres"}
    plan = {"action": "run", "namespace": "n", "name": "p", "source": end, "warehouse": end, "pipeline": spec}
    RunPlan.model_validate_json(json.dumps(plan))
    policy = {"warehouseRef": {"name": "w"}, "tables": [{"name": "a.b"}], "archive": {"url": "file:///a"}}
    RunPlan.model_validate_json(json.dumps(plan | {"action": "retain", "policy": policy}))
    RunReport(exit_code=0, reason="Rehearsed", message="").fitted()
    reach = {"host": "h", "database": "d"}
    configured(component("sources", "postgres", "").Config, reach, {}, "")
    configured(component("warehouses", "postgres", "").Config, reach, {}, "")
    configured(component("warehouses", "duckdb", "").Config, {"path": "p"}, {}, "")


def serve() -> None:
    """Answer requests until stdin ends."""
    for name in IMPORTED:
        importlib.import_module(name)
    import millstream_pipelines
    from millstream_pipelines import registry

    for found in pkgutil.walk_packages(millstream_pipelines.__path__, "millstream_pipelines."):
        if found.name.split(".")[1] not in NOT_OF_A_POD:
            importlib.import_module(found.name)
    for family in get_args(registry.Family):
        for name in registry.known(family):
            registry.component(family, name, "")
    rehearse()
    gc.collect()
    gc.freeze()
    if threads() != 1:
        raise RuntimeError(f"{threads()} threads after the imports: a fork would lose some of them")
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    serve()
    os._exit(0)  # no runner waits for what the engines would free
