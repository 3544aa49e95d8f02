"""How a run tells what it is doing. The command draws it; a pod prints lines; a test listens."""

from __future__ import annotations

from typing import Literal, Protocol

Stage = Literal["connect", "describe", "load", "checks", "reconcile", "transform", "done"]


class Progress(Protocol):
    """Receives facts about a run. Calls come from one thread; they must return quickly."""

    def stage(self, name: str, stage: Stage, detail: str = "") -> None:
        """`name` is a stream or transform; `detail` is for people."""
        ...

    def rows(self, name: str, read: int, quarantined: int, bytes_read: int) -> None:
        """`name` has read that many rows and bytes so far (sums, not steps)."""
        ...


class Silence:
    """Listens to nothing."""

    def stage(self, name: str, stage: Stage, detail: str = "") -> None:
        """Drop it."""

    def rows(self, name: str, read: int, quarantined: int, bytes_read: int) -> None:
        """Drop it."""
