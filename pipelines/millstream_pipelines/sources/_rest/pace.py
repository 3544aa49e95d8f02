"""Time: our own rate limit, pauses between attempts, and what a Retry-After asks for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from millstream_pipelines.sources._rest.config import RateLimit, Retry


class TokenBucket:
    """Lets `burst` requests go at once and `requestsPerSecond` on the average."""

    def __init__(
        self,
        limit: RateLimit | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limit, self._clock, self._sleep = limit, clock, sleep
        self._tokens = float(limit.burst) if limit else 0.0
        self._filled_at = clock()

    def take(self) -> None:
        """Wait for a token and take it."""
        if self._limit is None:
            return
        now = self._clock()
        rate = self._limit.requests_per_second
        self._tokens = min(float(self._limit.burst), self._tokens + (now - self._filled_at) * rate)
        self._filled_at = now
        if self._tokens < 1:
            pause_s = (1 - self._tokens) / rate
            self._sleep(pause_s)
            self._filled_at = now + pause_s
            self._tokens = 1.0
        self._tokens -= 1


def backoff_s(retry: Retry, attempt: int) -> float:
    """Return the pause before attempt + 1: exponential, the upper half of it by chance, so that clients part ways."""
    longest = min(retry.max_backoff_seconds, retry.backoff_seconds * 2.0 ** min(attempt, 30))
    return longest * (0.5 + random.random() / 2)  # noqa: S311 (no secret hangs on it)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds a response asks us to wait, None if it does not say. Never clamped.

    A date is taken against the server's own clock where it sends one.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        until = _aware(parsedate_to_datetime(text))
        now = _aware(parsedate_to_datetime(headers["date"])) if headers.get("date") else datetime.now(UTC)
    except ValueError:
        return None
    return max(0.0, (until - now).total_seconds())


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


__all__ = ["TokenBucket", "backoff_s", "retry_after_s"]
