"""What is seen of a run while it runs: bars on a terminal, plain lines elsewhere, both on standard error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from millstream_pipelines.cli.output import fancy, log, number, size
from millstream_pipelines.progress import Progress, Stage

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_LINE_EVERY_S = 5.0  # a log that is read later needs no more


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield what fits the place: bars on a terminal, else lines."""
    if fancy():
        with _bars() as bars:
            yield bars
    else:
        yield Lines()


class Lines:
    """One line per stage, and one every few seconds while rows flow."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def stage(self, name: str, stage: Stage, detail: str = "") -> None:
        """Tell that a stream or transform has reached a stage."""
        log(f"{name}: {stage}{': ' + detail if detail else ''}")

    def rows(self, name: str, read: int, quarantined: int, bytes_read: int) -> None:
        """Tell how far a stream is, but seldom."""
        now = time.monotonic()
        started = self._started.setdefault(name, now)
        if now - self._told.setdefault(name, now) < _LINE_EVERY_S:
            return
        self._told[name] = now
        rate = read / max(now - started, 0.001)
        aside = f", {number(quarantined)} quarantined" if quarantined else ""
        log(f"{name}: {number(read)} rows, {size(bytes_read)}, {number(rate)} rows/s{aside}")


class Bars:
    """One line per stream or transform that moves: stage, rows, bytes, rate."""

    def __init__(self, display: RichProgress) -> None:
        self._display = display
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}

    def stage(self, name: str, stage: Stage, detail: str = "") -> None:
        """Show the stage; a line that is done stands still."""
        done = stage == "done"
        self._display.update(self._task(name), stage=stage, total=1 if done else None, completed=1 if done else 0)
        if detail:
            self._display.update(self._task(name), detail=detail)

    def rows(self, name: str, read: int, quarantined: int, bytes_read: int) -> None:
        """Show rows, bytes and rate."""
        now = time.monotonic()
        rate = read / max(now - self._started.setdefault(name, now), 0.2)
        aside = f" · {number(quarantined)} quarantined" if quarantined else ""
        detail = f"{number(read)} rows · {size(bytes_read)} · {number(rate)} rows/s{aside}"
        self._display.update(self._task(name), detail=detail)

    def _task(self, name: str) -> TaskID:
        if name not in self._tasks:
            self._tasks[name] = self._display.add_task(name, total=None, stage="", detail="")
            self._started[name] = time.monotonic()
        return self._tasks[name]


@contextmanager
def _bars() -> Iterator[Bars]:
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=18),
        TextColumn("{task.fields[stage]:<9}"),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=8) as display:
        yield Bars(display)
