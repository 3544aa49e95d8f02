"""Start daemons and end exactly those: by process id and start time, never by name.

A process id alone may have been reused after a crash; together with the start time from /proc it cannot be mistaken.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


class ClusterError(RuntimeError):
    """Say which part of the test cluster failed, on what, and what to do."""


@dataclass(frozen=True)
class Started:
    """One process that we started; `ticks` is its start time since boot in clock ticks."""

    name: str
    pid: int
    ticks: int

    def alive(self) -> bool:
        return self.ticks != 0 and start_ticks(self.pid) == self.ticks


def start_ticks(pid: int) -> int:
    """Return the process's start time in ticks since boot, or 0 when it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The command's name may hold spaces and brackets, so count from the last bracket.
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def start(name: str, command: Sequence[str | Path], log: Path, *, tied: bool, cwd: Path | None = None) -> Started:
    """Start a daemon whose output goes to `log`.

    `tied`: it dies with the process that started it, also when that one is killed (Linux parent-death signal).
    """
    words = [str(word) for word in command]
    if tied:
        words = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", _UNLESS_ORPHANED, str(os.getpid()), *words]
    with log.open("ab") as out:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd=cwd
        )
    _CHILDREN[process.pid] = process
    return Started(name, process.pid, start_ticks(process.pid))


# An owner killed before the signal was asked for would never send it, so the daemon looks for its owner once more.
_UNLESS_ORPHANED = '[ "$PPID" = "$0" ] && exec "$@"'

# Popen objects of our own children: they must be waited for, or they stay behind as zombies.
_CHILDREN: dict[int, "subprocess.Popen[bytes]"] = {}


def stop(processes: Sequence[Started], grace_s: float = 5.0) -> None:
    """End the processes, last started first: TERM, then KILL what is left after `grace_s` seconds."""
    ordered = list(reversed(processes))
    for process in ordered:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and any(_running(p) for p in ordered):
        time.sleep(0.02)
    for process in ordered:
        _signal(process, signal.SIGKILL)
    while any(_running(p) for p in ordered) and time.monotonic() < deadline + 5:
        time.sleep(0.02)


def _running(process: Started) -> bool:
    child = _CHILDREN.get(process.pid)
    if child is not None and child.poll() is not None:
        del _CHILDREN[process.pid]
    return process.alive()


def _signal(process: Started, number: signal.Signals) -> None:
    if _running(process):
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return


def wait_until(
    ready: Callable[[], bool], what: str, timeout_s: float, *, needs: Sequence[Started] = (), logs: Path | None = None
) -> None:
    """Poll until `ready()`; fail early when one of the `needs` has died, and show the end of its log."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        dead = [process.name for process in needs if not _running(process)]
        if dead or time.monotonic() > deadline:
            why = f"{', '.join(dead)} ended" if dead else f"nothing after {timeout_s:.0f} s"
            names = dead or [process.name for process in needs]
            raise ClusterError(f"{what}: {why}.{_tails(logs, names)}")
        time.sleep(0.05)


def _tails(logs: Path | None, names: Sequence[str]) -> str:
    if logs is None:
        return ""
    parts = []
    for name in names:
        path = logs / f"{name}.log"
        if path.exists():
            last = path.read_text(errors="replace").splitlines()[-8:]
            parts.append(f"\n--- {path} ends with\n" + "\n".join(last))
    return "".join(parts)


def run(command: Sequence[str | Path], what: str, *, stdin: str | None = None, timeout_s: float = 120.0) -> str:
    """Run a command to its end and return its output; on failure say what failed and what the command said."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    except FileNotFoundError as error:
        raise ClusterError(f"{what}: the command {words[0]!r} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{what}: {words[0]} did not end within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        said = f"{done.stdout.strip()[-1500:]}\n{done.stderr.strip()[-1500:]}".strip()
        raise ClusterError(f"{what}: {Path(words[0]).name} ended with {done.returncode}: {said}")
    return done.stdout


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
