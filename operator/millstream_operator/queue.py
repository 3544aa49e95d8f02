"""The work queue: keys, never events. A key waits once however often it is added, and two workers never hold it.

Delays (retries with back-off, requeue-after, resync) wait on one heap; there is no task or timer per object.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

_FIRST_BACKOFF_S = 0.5
_LAST_BACKOFF_S = 300.0  # an object that fails for hours costs 12 tries an hour


class Key(NamedTuple):
    """What work is about."""

    kind: str
    namespace: str
    name: str


class QueueMeter(Protocol):
    """Who hears of the queue's life (metrics)."""

    def added(self, key: Key) -> None:
        """A key was put into the queue."""

    def taken(self, key: Key, waited_s: float) -> None:
        """A worker took it."""

    def retried(self, key: Key) -> None:
        """It failed and will come again."""


class WorkQueue:
    """Keys that want attention, in order of arrival."""

    def __init__(self, clock: Callable[[], float], meter: QueueMeter, jitter: random.Random | None = None) -> None:
        self._clock = clock
        self._meter = meter
        self._random = jitter or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._ready: deque[Key] = deque()
        self._since: dict[Key, float] = {}  # waiting keys and since when
        self._held: dict[Key, bool] = {}  # keys being worked on → wanted again
        self._due: dict[Key, float] = {}  # earliest delayed time of a key; the heap may hold staler entries
        self._heap: list[tuple[float, Key]] = []
        self._failures: dict[Key, int] = {}
        self._wake = asyncio.Event()

    def add(self, key: Key) -> None:
        """Want `key` worked on soon."""
        if key in self._held:
            self._held[key] = True
        elif key not in self._since:
            self._since[key] = self._clock()
            self._ready.append(key)
            self._meter.added(key)
            self._wake.set()

    def add_after(self, key: Key, delay_s: float) -> None:
        """Want it in `delay_s` seconds, or earlier if that is already wanted."""
        when = self._clock() + max(0.0, delay_s)
        if self._due.get(key, float("inf")) <= when:
            return
        self._due[key] = when
        heapq.heappush(self._heap, (when, key))
        self._wake.set()

    async def take(self) -> Key:
        """Return the next key; it is held until `done`."""
        while True:
            self._promote()
            if self._ready:
                key = self._ready.popleft()
                self._held[key] = False
                self._meter.taken(key, self._clock() - self._since.pop(key))
                return key
            self._wake.clear()
            await self._sleep()

    def done(self, key: Key) -> None:
        """Give the key back; it comes again at once if it was added meanwhile."""
        if self._held.pop(key, False):
            self.add(key)

    def retry(self, key: Key, at_least_s: float = 0.0) -> float:
        """Want a failed key again, ever later; return the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        full = min(_LAST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(failures, 20))
        delay_s = max(at_least_s, full * self._random.uniform(0.5, 1.0))
        self._meter.retried(key)
        self.add_after(key, delay_s)
        return delay_s

    def forget(self, key: Key) -> None:
        """Note that the key went well: the next failure starts from the shortest delay."""
        self._failures.pop(key, None)

    def drop(self, key: Key) -> None:
        """Cancel delayed wishes of a key whose object is gone."""
        self._due.pop(key, None)
        self.forget(key)

    def __len__(self) -> int:
        return len(self._ready)

    def oldest_s(self) -> float:
        """Return how long the oldest waiting key has waited, in seconds."""
        return self._clock() - min(self._since.values()) if self._since else 0.0

    def _promote(self) -> None:
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            when, key = heapq.heappop(self._heap)
            if self._due.get(key) == when:
                del self._due[key]
                self.add(key)

    async def _sleep(self) -> None:
        delay_s = self._heap[0][0] - self._clock() if self._heap else None
        try:
            await asyncio.wait_for(self._wake.wait(), delay_s if delay_s is None else max(0.001, delay_s))
        except TimeoutError:
            return


class TokenBucket:
    """Limits a rate on average and lets bursts through."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = per_second, burst, clock
        self._tokens, self._at = burst, clock()

    def reserve(self) -> float:
        """Take a token, in advance if need be; return how many seconds to wait before using it."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1.0
        self._at = now
        return max(0.0, -self._tokens / self._rate)

    def try_take(self) -> bool:
        """Take a token if there is one."""
        if self.reserve() == 0.0:
            return True
        self._tokens += 1.0
        return False
