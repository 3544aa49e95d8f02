"""Attempts of a run as processes of their own: started warm, killed, stopped, woken, and asked what they reported."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from millstream_api import RetentionOptions, RunOptions

PATIENCE_S = 180.0  # whatever takes longer hangs, also on a busy machine
_ENTRY_POINT = "[millstream.sources]\nunruly = chaos.unruly:UnrulySource\n"


class Warm:
    """The process that forks runners; threads may share it. Its runners end with it."""

    def __init__(self, folder: Path, batch_rows: int) -> None:
        self.folder = folder
        info = folder / "chaos-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chaos\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(_ENTRY_POINT)
        scratch = folder / "scratch"
        scratch.mkdir(exist_ok=True)
        environment = os.environ | {
            "PYTHONPATH": str(folder),
            "TMPDIR": str(scratch),  # who is killed cannot tidy up; a pod's goes with it
            "MILLSTREAM_BATCH_ROWS": str(batch_rows),
            "JE_ARROW_MALLOC_CONF": "background_thread:false",  # a thread would not survive the fork
        }
        self._guard = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm.py"))],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def ask(self, request: dict[str, Any]) -> Any:
        """Send a request and return the answer."""
        assert self._process.stdin is not None
        with self._guard:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the warm process ended with {self._process.wait()}")
        return json.loads(line)

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


@dataclass
class Attempt:
    """One runner. `number` makes its holder and its files its own."""

    warm: Warm
    folder: Path
    plan: Path
    run: str
    number: int
    failpoint: str = ""
    clock_shift_s: float = 0.0
    options: RunOptions | RetentionOptions = field(default_factory=RunOptions)
    pid: int = field(init=False)
    status: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        environment = {
            "MILLSTREAM_PLAN": str(self.plan),
            "MILLSTREAM_RUN": self.run,
            "MILLSTREAM_POD": f"pod-{self.number}",
            "MILLSTREAM_TERMINATION_LOG": str(self.folder / f"report-{self.number}.json"),
            "MILLSTREAM_FAILPOINT": self.failpoint,
            "MILLSTREAM_PATIENCE_SECONDS": "0",  # whoever it would wait for may sleep until this one has ended
            **self.options.environment(),
        }
        log = str(self.folder / f"log-{self.number}.txt")
        request = {"environment": environment, "log": log, "clock_shift_s": self.clock_shift_s}
        self.pid = self.warm.ask(request)
        self._handle = os.pidfd_open(self.pid)

    def ended(self, timeout_s: float) -> bool:
        """Wait at most so long for its end; return whether it came."""
        if self.status is None and select.select([self._handle], [], [], timeout_s)[0]:
            self.status = self.warm.ask({"wait": self.pid})
            os.close(self._handle)
        return self.status is not None

    def end(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end and return the exit code, or minus the signal. AssertionError when it hangs."""
        if not self.ended(timeout_s):
            log = self.log()
            self.kill()
            raise AssertionError(f"attempt {self.number} did not end within {timeout_s:.0f} s:\n{log}")
        assert self.status is not None
        return self.status

    def kill(self) -> bool:
        """SIGKILL; return whether it was still alive."""
        alive = self._signal(signal.SIGKILL)
        self.end()
        return alive and self.status == -signal.SIGKILL

    def stop(self) -> bool:
        """SIGSTOP; return whether it sleeps now."""
        return self._signal(signal.SIGSTOP) and self.asleep()

    def wake(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def asleep(self) -> bool:
        """Wait until it sleeps; False when it ended instead."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.ended(0.005):
            if Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return True
            assert time.monotonic() < deadline, f"attempt {self.number} neither sleeps nor ends:\n{self.log()}"
        return False

    def report(self) -> dict[str, Any] | None:
        """Return what it wrote to its termination log, if it came so far."""
        path = self.folder / f"report-{self.number}.json"
        text = path.read_text() if path.exists() else ""
        return json.loads(text) if text else None

    def log(self) -> str:
        """Return the end of what it said."""
        path = self.folder / f"log-{self.number}.txt"
        return path.read_text()[-3000:] if path.exists() else ""

    def _signal(self, number: signal.Signals) -> bool:
        if self.ended(0):
            return False
        signal.pidfd_send_signal(self._handle, number)
        return True
