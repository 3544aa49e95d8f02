"""Clients that write, change and read a table at a steady rate, by pgbench: cheap enough to be two hundred beside work.

A statement's latency counts from the moment it was due, so one that waits behind another that waits is counted too.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SCRIPTS = {
    "write": (5, "\\set id random(1, 1000000000000)\nINSERT INTO busy VALUES (now(), :id, 'written');\n"),
    "read": (4, "SELECT count(*), max(id) FROM busy WHERE at > now() - interval '1 second';\n"),
    "change": (1, ("\\set day random(1, {days})\n\\set id random(1, {rows})\nUPDATE busy SET note = 'changed' WHERE "
                  "at = (current_date - :day)::timestamptz + :id * interval '1 second' AND id = :id;\n")),
}  # fmt: skip


@dataclass
class Clients:
    """What they met: `latencies`, a statement's end in seconds since 1970 and its milliseconds. `failure`: of any."""

    latencies: list[tuple[float, float]] = field(default_factory=list)
    failure: str = ""

    def within(self, spans: Sequence[tuple[float, float]]) -> list[float]:
        """Return the milliseconds of what ended within one of these spans, in order of size."""
        return sorted(ms for end, ms in self.latencies if any(first <= end < last for first, last in spans))


@contextmanager
def clients(
    program: Path, config: dict[str, Any], folder: Path, count: int, rate: int, days: int, rows: int
) -> Iterator[Clients]:
    """Let so many clients together send `rate` statements a second during the block; afterwards say what they met."""
    for old in folder.glob("latency*"):
        old.unlink()
    files = []
    for name, (weight, text) in _SCRIPTS.items():
        path = folder / f"{name}.sql"
        path.write_text(text.format(days=days, rows=rows))
        files += ["-f", f"{path}@{weight}"]
    where = ["-h", config["host"], "-p", str(config["port"]), "-U", config["user"], config["database"]]
    line = [str(program), "-n", "-c", str(count), "-j", "1", "-R", str(rate), "-T", "3600", "-l",
            "--log-prefix", str(folder / "latency"), *files, *where]  # fmt: skip
    found = Clients()
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield found
            if process.poll() is not None:
                found.failure = f"pgbench ended with {process.returncode}"
        finally:
            process.terminate()
            said = process.communicate()[0]
    wrong = [text for text in said.splitlines() if "aborted" in text or "ERROR" in text]
    found.failure = "; ".join(wrong[:5]) or found.failure
    for log in folder.glob("latency*"):
        for entry in log.read_text().splitlines():
            words = entry.split()
            if len(words) >= 6:  # the last line may have been cut off
                found.latencies.append((int(words[4]) + int(words[5]) / 1e6, int(words[2]) / 1000))


@contextmanager
def span(spans: list[tuple[float, float]]) -> Iterator[None]:
    """Add to `spans` when the block began and ended."""
    began = time.time()
    yield
    spans.append((began, time.time()))


__all__ = ["Clients", "clients", "span"]
