"""The command `millstream`: the same manifests as on a cluster, on a laptop.

Nothing outside the standard library is imported by this file or `arguments`, so that `--help` and completion answer
at once; each command imports what it needs when it is called.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from millstream_pipelines.cli.arguments import build_parser
from millstream_pipelines.ending import end_without_search

_INTERRUPTED = 128 + signal.SIGINT  # as shells report it
_TERMINATED = 128 + signal.SIGTERM

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 64 (usage), 65, 75 or 78."""
    arguments = build_parser().parse_args(argv)
    end_without_search()
    signal.signal(signal.SIGTERM, _terminated)
    try:
        module = importlib.import_module(f"millstream_pipelines.cli.{arguments.module}")
        code = int(module.command(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted; what was committed stays, the next run goes on from there", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # `millstream … | head`: not an error, and Python must not write once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _failed(error, as_json=bool(getattr(arguments, "json", False)))
    return code


def _terminated(number: int, frame: FrameType | None) -> None:
    """End in order: connections close and the embedded server stops with its last user."""
    sys.exit(_TERMINATED)


def _failed(error: Exception, as_json: bool) -> int:
    """Say what failed and return the exit code; anything that is not ours is a bug and keeps its traceback."""
    from millstream_pipelines.errors import MillstreamError
    from millstream_pipelines.manifests.findings import ManifestError

    if not isinstance(error, MillstreamError):
        raise error
    findings = [str(item) for item in error.findings] if isinstance(error, ManifestError) else []
    if as_json:
        document = {"exitCode": int(error.exit_code), "reason": error.reason, "message": str(error)}
        print(json.dumps({**document, "findings": findings}, indent=2))
    for line in findings or [str(error)]:
        print(f"error: {line}", file=sys.stderr)
    if len(findings) > 1:
        print(f"{len(findings)} errors; nothing was run", file=sys.stderr)
    return int(error.exit_code)
