"""A limit of rows per second: who reads faster waits."""

from __future__ import annotations

import time
from collections.abc import Callable

_SHORTEST_S = 0.05  # less is not worth a sleep; it is made up for by the next one


class Pace:
    """Lets rows pass at `rows_per_second` on the average. One for all streams of a run.

    The first rows pass at once; each further call waits until those before it have had their time, so a source is
    never ahead by more than the rows of one call. Only one thread calls at a time.
    """

    def __init__(
        self,
        rows_per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate, self._clock, self._sleep = rows_per_second, clock, sleep
        self._free_at = clock()

    def passed(self, rows: int) -> None:
        """Count rows that are about to pass; wait for their turn."""
        wait_s = self._free_at - self._clock()
        if wait_s > _SHORTEST_S:
            self._sleep(wait_s)
        self._free_at = max(self._free_at, self._clock()) + rows / self._rate
