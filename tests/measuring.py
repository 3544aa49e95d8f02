"""A command in a process of its own: how long it took, its CPU seconds, and the largest memory it ever had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# A process counts the memory of the one that started it as its own (a fork has the same pages), so a bare interpreter
# of a few MiB stands between a large caller and the command.
_LAUNCHER = """
import json, os, signal, subprocess, sys, time
report, limit_s, *line = sys.argv[1:]
started = time.monotonic()
child = subprocess.Popen(line, close_fds=True)
signal.signal(signal.SIGALRM, lambda *_: child.kill())
signal.signal(signal.SIGTERM, lambda *_: child.kill())
signal.alarm(int(limit_s))
_, status, used = os.wait4(child.pid, 0)
found = (os.waitstatus_to_exitcode(status), time.monotonic() - started, used.ru_utime + used.ru_stime, used.ru_maxrss)
os.write(int(report), json.dumps(found).encode())
"""


@dataclass(frozen=True)
class Measured:
    """What a command took. `code` is negative where a signal ended it."""

    code: int
    wall_s: float
    cpu_s: float
    rss_mib: float
    out: str
    err: str


def measured(
    line: Sequence[str],
    cwd: Path,
    env: Mapping[str, str] | None = None,
    timeout_s: int = 1800,
    stdin: Path | None = None,
) -> Measured:
    """Run a command to its end and measure it; after `timeout_s` it is killed."""
    with (
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
        tempfile.TemporaryFile("w+") as figures,
    ):
        words = [sys.executable, "-ISc", _LAUNCHER, str(figures.fileno()), str(timeout_s), *line]
        with open(stdin or os.devnull) as given:
            subprocess.run(
                words, cwd=cwd, env=env, stdin=given, stdout=out, stderr=err, pass_fds=[figures.fileno()], check=True
            )
        for file in (out, err, figures):
            file.seek(0)
        code, wall_s, cpu_s, rss_kib = json.load(figures)
        return Measured(code, wall_s, cpu_s, rss_kib / 1024, out.read(), err.read())
