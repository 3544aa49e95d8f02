"""Error budgets: how many bad rows are too many, and when that may be said. Pure.

A number of rows is judged at once: once spent, it stays spent. A share is fair only over enough rows, since one bad
row among the first ten is no tenth of a stream: it is judged from `FAIR_ROWS` rows on and at the end. Until then a
chunk over its share is not committed either; it waits for more rows.
"""

from __future__ import annotations

from dataclasses import dataclass

FAIR_ROWS = 10_000


@dataclass(frozen=True)
class Budget:
    """A limit and what was seen. `what` says whose rows: "stream 'orders': {bad} of {seen} rows …"."""

    what: str
    max_rows: int | None
    max_ratio: float | None
    bad: int
    seen: int

    def spent(self) -> str | None:
        """Return why the limit is broken by what was seen, or None."""
        if self.max_rows is not None and self.bad > self.max_rows:
            return f"{self.what}, more than {self.max_rows} rows"
        ratio = self.bad / self.seen if self.seen else 0.0
        if self.max_ratio is not None and ratio > self.max_ratio:
            return f"{self.what}, a share of {ratio:.4f} above {self.max_ratio}"
        return None

    def judged(self, *, final: bool) -> str | None:
        """Return why a run must fail now; `final`: no more rows come."""
        certain = final or self.seen >= FAIR_ROWS or (self.max_rows is not None and self.bad > self.max_rows)
        return self.spent() if certain else None
