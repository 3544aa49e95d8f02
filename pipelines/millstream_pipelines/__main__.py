"""The pod's entry: read the plan and the mounted Secrets, act, write the report, end with the exit code."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import time
from pathlib import Path

from millstream_api import RETENTION_ENV, ExitCode, RetentionOptions, RunOptions, RunPlan, RunReport
from millstream_api.run_options import OPTIONS_ENV
from millstream_api.run_plan import PLAN_DIR, PLAN_KEY, SECRETS_DIR
from millstream_pipelines import failpoints
from millstream_pipelines.ending import end_without_search
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.sources.base import Slice

_RETENTION_PATIENCE_S = "300"  # the Job's tries are over within minutes, and the next run may be a day away
_TERMINATION_LOG = "/dev/termination-log"


def main() -> int:
    """Run or probe as the plan says; the exit code tells the Job whether a retry helps."""
    end_without_search()
    logging.basicConfig(
        level=os.environ.get("MILLSTREAM_LOG_LEVEL", "INFO").upper(),
        format='{"time":"%(asctime)s","level":"%(levelname)s","logger":"%(name)s","message":"%(message)s"}',
        stream=sys.stderr,
    )
    signal.signal(signal.SIGTERM, _stopped)
    report = _report()
    raw = report.fitted()
    failpoints.reached("reporting")
    _write(Path(os.environ.get("MILLSTREAM_TERMINATION_LOG", _TERMINATION_LOG)), raw)
    sys.stdout.write(report.model_dump_json(by_alias=True, exclude_none=True) + "\n")
    return int(report.exit_code)


def _stopped(*_: object) -> None:
    raise SystemExit(int(ExitCode.RETRIABLE))  # the open transaction rolls back; the next attempt goes on from there


def _report() -> RunReport:
    path = Path(os.environ.get("MILLSTREAM_PLAN", f"{PLAN_DIR}/{PLAN_KEY}"))
    try:
        failpoints.arm(os.environ.get(failpoints.VARIABLE))
    except ConfigurationError as error:
        return RunReport(exit_code=error.exit_code, reason="InvalidSetting", message=str(error))
    try:
        plan = RunPlan.model_validate_json(path.read_text())
    except (OSError, ValueError) as error:
        return RunReport(
            exit_code=ExitCode.CONFIGURATION,
            reason="InvalidPlan",
            message=f"cannot read the plan at {path}: {error}; are operator and runner of the same version?",
        )
    try:
        shard = _shard(os.environ.get("MILLSTREAM_SHARDS"), os.environ.get("JOB_COMPLETION_INDEX"))
    except ConfigurationError as error:
        return RunReport(exit_code=error.exit_code, reason="InvalidSetting", message=str(error))
    time.sleep(random.uniform(0, float(os.environ.get("MILLSTREAM_JITTER_SECONDS") or 0)))  # noqa: S311 - not a secret
    from millstream_pipelines.log_progress import LogProgress
    from millstream_pipelines.probing import probe
    from millstream_pipelines.runner import RunRequest, execute

    secrets = {role: _secret(Path(SECRETS_DIR) / role) for role in ("source", "warehouse", "archive")}
    run = os.environ.get("MILLSTREAM_RUN") or f"{plan.name}-{os.getpid()}"
    if plan.action == "retain":
        from millstream_pipelines.retention.request import RetentionRequest
        from millstream_pipelines.retention.run import retain

        wanted = RetentionOptions.model_validate_json(os.environ.get(RETENTION_ENV) or "{}")
        patience_s = float(os.environ.get("MILLSTREAM_PATIENCE_SECONDS") or _RETENTION_PATIENCE_S)
        return retain(RetentionRequest(plan, secrets, run, wanted, patience_s=patience_s))
    request = RunRequest(
        plan=plan,
        secrets=secrets,
        run=run,
        holder=os.environ.get("MILLSTREAM_POD") or f"pid-{os.getpid()}",
        options=RunOptions.model_validate_json(os.environ.get(OPTIONS_ENV) or "{}"),
        shard=shard,
    )
    return execute(request, LogProgress()) if plan.action == "run" else probe(request)


def _shard(count: str | None, index: str | None) -> Slice | None:
    """Return which part of the run this pod is; None where it is the whole run."""
    if not count or count == "1":
        return None
    try:
        found = Slice(int(index or ""), int(count))
    except ValueError:
        found = Slice(-1, 0)
    if not 0 <= found.index < found.count:
        raise ConfigurationError(
            f"MILLSTREAM_SHARDS is '{count}' and JOB_COMPLETION_INDEX is '{index}': a pod of a run in several is given "
            "the number of pods and its own, counted from 0; both come from the operator"
        )
    return found


def _secret(folder: Path) -> dict[str, str]:
    """Return the mounted keys. Kubernetes keeps its own bookkeeping in names that begin with two dots."""
    if not folder.is_dir():
        return {}
    return {
        item.name: item.read_text().rstrip("\n")
        for item in sorted(folder.iterdir())
        if not item.name.startswith("..") and item.is_file()
    }


def _write(path: Path, raw: bytes) -> None:
    try:
        path.write_bytes(raw)
    except OSError as error:
        logging.getLogger(__name__).warning("cannot write the report to %s: %s", path, error)


if __name__ == "__main__":
    sys.exit(main())
