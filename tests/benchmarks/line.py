"""A line of the table: what is compared with what, how often, and what came of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tests.benchmarks.command import Run, run
from tests.benchmarks.dataset import Content
from tests.benchmarks.server import Server

RSS_GOAL_MIB = 320


@dataclass(frozen=True)
class Bench:
    """Where the measuring is done, and how many rows are asked for."""

    server: Server
    folder: Path
    rows: int
    say: Callable[[str], None]

    @property
    def warehouse(self) -> dict[str, Any]:
        """The spec of a Warehouse on the server."""
        return {"type": "postgres", "config": self.server.config}

    @property
    def files(self) -> Path:
        """The folder of the files that are read: nothing else is in it, since a source looks at all of them."""
        found = self.folder / "files"
        found.mkdir(exist_ok=True)
        return found

    @property
    def root(self) -> Path:
        """The checkout."""
        return Path(__file__).resolve().parents[2]

    @property
    def tenth(self) -> int:
        """A tenth of the rows."""
        return max(self.rows // 10, 1)


@dataclass(frozen=True)
class Ours:
    """One run of ours; `seconds` is what is held against the limit."""

    seconds: float
    run: Run


class Line:
    """Compares one path with a limit measured beside it. A subclass says what both do."""

    name: ClassVar[str]
    title: ClassVar[str]
    goal: ClassVar[float | None] = None
    """Largest ratio of ours to the limit."""
    goal_rss_mib: ClassVar[float] = RSS_GOAL_MIB
    note: ClassVar[str] = ""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.server = bench.server

    @property
    def rows(self) -> int:
        """Rows of one run."""
        return self.bench.rows

    @property
    def goal_s(self) -> float | None:
        """Largest seconds, where the limit says nothing about what can be reached."""
        return None

    def prepare(self) -> None:
        """Make what a run needs; not measured."""

    def limits(self) -> Mapping[str, Callable[[], float]]:
        """Return what we are compared with: name → do it and return its seconds. The best one counts."""
        raise NotImplementedError

    def before(self) -> None:
        """Bring things back to where each of our runs starts; not measured."""

    def ours(self) -> Ours:
        """Run ours once."""
        done = run(self.bench.folder, self.name)
        return Ours(done.process.wall_s, done)

    def verify(self, found: Run) -> None:
        """Raise SystemExit where the result is not what was sent."""
        raise NotImplementedError

    def tenth(self) -> Run | None:
        """Run ours over a tenth of the rows, for its memory."""
        raise NotImplementedError

    def clear(self) -> None:
        """Drop what the line has made, so that all lines together need no more disk than the largest."""
        self.server.sql("DROP SCHEMA IF EXISTS raw CASCADE", "CHECKPOINT")
        for path in self.bench.files.iterdir():
            path.unlink()

    def same(self, wanted: Content, got: Content) -> None:
        """Compare count and content; SystemExit names the columns that differ."""
        want, have = self.server.rows(wanted.query())[0], self.server.rows(got.query())[0]
        if want == have:
            return
        differing = [
            column
            for column, sent in zip(got.columns, wanted.columns, strict=True)
            if self.server.rows(wanted.query([sent])) != self.server.rows(got.query([column]))
        ]
        raise SystemExit(
            f"{self.name}: wrong result in {got.table}: {have[0]} rows of {want[0]}, columns that differ: {differing}"
        )


@dataclass
class Times:
    """Seconds per round."""

    limits: dict[str, list[float]] = field(default_factory=dict)
    ours: list[Ours] = field(default_factory=list)
    tenth_rss_mib: float | None = None

    def figures(self, line: Line) -> dict[str, Any]:
        """Return the line's figures: medians over the rounds, the largest memory."""
        medians = {name: statistics.median(values) for name, values in self.limits.items()}
        best = min(medians, key=medians.__getitem__)
        ours_s = statistics.median(item.seconds for item in self.ours)
        run_s = statistics.median(item.run.run_s for item in self.ours)
        cpu_s = statistics.median(item.run.process.cpu_s for item in self.ours)
        rss_mib = max(item.run.process.rss_mib for item in self.ours)
        ratio = ours_s / medians[best]
        reached = (line.goal is None or ratio <= line.goal) and (line.goal_s is None or ours_s <= line.goal_s)
        return {
            "line": line.name,
            "title": line.title,
            "rows": line.rows,
            "rounds": len(self.ours),
            "limit": best,
            "limit_s": medians[best],
            "limits_s": self.limits,
            "wall_s": ours_s,
            "walls_s": [item.seconds for item in self.ours],
            "ratio": ratio,
            "run_s": run_s,
            "krows_per_s": line.rows / run_s / 1000,
            "cpu_s_per_mrow": cpu_s / line.rows * 1e6,
            "rss_mib": rss_mib,
            "rss_tenth_mib": self.tenth_rss_mib,
            "goal_ratio": line.goal,
            "goal_s": line.goal_s,
            "goal_rss_mib": line.goal_rss_mib,
            "reached": reached and rss_mib <= line.goal_rss_mib,
            "note": line.note,
        }


def measure(line: Line, rounds: int, deadline: float) -> dict[str, Any]:
    """Return a line's figures after interleaved rounds; the last ones are left out when time is up."""
    say = line.bench.say
    started = time.monotonic()
    say(f"{line.name}: preparing")
    line.prepare()
    line.before()
    small = line.tenth()  # the first run of all: it compiles the modules
    times = Times()
    for number in range(1, rounds + 1):
        if number > 1 and time.monotonic() > deadline:
            say(f"{line.name}: time is up after {number - 1} of {rounds} rounds")
            break
        for name, action in line.limits().items():
            line.server.sql("CHECKPOINT")
            times.limits.setdefault(name, []).append(action())
        line.before()
        line.server.sql("CHECKPOINT")
        times.ours.append(line.ours())
        shown = ", ".join(f"{name} {values[-1]:.2f}" for name, values in times.limits.items())
        say(f"{line.name}: round {number}: {shown}, ours {times.ours[-1].seconds:.2f} s")
        if number == 1:
            line.verify(times.ours[0].run)
    times.tenth_rss_mib = small.process.rss_mib if small is not None else None
    return {**times.figures(line), "took_s": time.monotonic() - started}
