"""Progress as log lines, for pods: one when a stage begins, and rows at most every ten seconds."""

from __future__ import annotations

import logging
import time

from millstream_pipelines.progress import Stage

_EVERY_S = 10.0
_log = logging.getLogger("millstream.run")


class LogProgress:
    """See `Progress`."""

    def __init__(self) -> None:
        self._said_s = time.monotonic()

    def stage(self, name: str, stage: Stage, detail: str = "") -> None:
        """Log the beginning of a stage."""
        _log.info("%s: %s %s", name, stage, detail)

    def rows(self, name: str, read: int, quarantined: int, bytes_read: int) -> None:
        """Log the sums so far, now and then."""
        now = time.monotonic()
        if now - self._said_s >= _EVERY_S:
            self._said_s = now
            _log.info("%s: %d rows read, %d set aside, %d bytes", name, read, quarantined, bytes_read)
