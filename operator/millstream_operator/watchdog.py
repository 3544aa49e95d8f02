"""Ends the process when it has stopped seeing the cluster. Backlog is never a reason: work that waits is not lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from millstream_operator.cluster.reflector import Reflector
from millstream_operator.cluster.resync import Resync
from millstream_operator.metrics import Metrics

_EVERY_S = 5.0
_GRACE_S = 120.0  # Kopf needs a moment to start its watchers
_SILENCE_S = 600.0  # two whole watches; bookmarks come every minute
_WATCHER = "watcher for "  # how Kopf names its tasks
_log = logging.getLogger(__name__)

Check = Callable[[], str | None]


class BlindError(Exception):
    """The operator no longer sees what happens; only a new process helps."""


class Watchdog:
    """Asks its checks every few seconds."""

    def __init__(self, checks: Sequence[Check], metrics: Metrics) -> None:
        self._checks, self._metrics = checks, metrics
        self.beat = time.monotonic()

    async def run(self) -> None:
        """Watch until cancelled; raises BlindError."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(_EVERY_S)
            self.beat = time.monotonic()
            self._metrics.loop_lag.set(max(0.0, self.beat - before - _EVERY_S))
            for check in self._checks:
                if (reason := check()) is not None:
                    _log.error("watchdog.blind", extra={"reason": reason})
                    raise BlindError(reason)


def kopf_watchers(expected: int) -> Check:
    """Return a check that Kopf's watcher tasks are alive."""
    started = time.monotonic()

    def check() -> str | None:
        alive = sum(task.get_name().startswith(_WATCHER) and not task.done() for task in asyncio.all_tasks())
        young = time.monotonic() - started < _GRACE_S
        return None if young or alive >= expected else f"{alive} of {expected} Kopf watchers are alive"

    return check


def reflectors_heard(reflectors: Sequence[Reflector]) -> Check:
    """Return a check that every watch of ours has said something lately."""

    def check() -> str | None:
        silent = [item.name for item in reflectors if time.monotonic() - item.heard_at > _SILENCE_S]
        return f"nothing heard of {', '.join(silent)} for {_SILENCE_S:g} s" if silent else None

    return check


def kopf_heard(resync: Resync) -> Check:
    """Return a check that Kopf tells us of changes at all."""
    return lambda: "Kopf's watches have gone silent: lists show changes they did not" if resync.silent else None
