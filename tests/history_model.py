"""The reference model of scd2: per key a line of moments, in a few lines of Python. Moments are whole numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

END = object()
Change = tuple[int, int, Any]
"""Key, effective time, state (END: marked as deleted)."""


@dataclass
class Model:
    """Takes chunks of changes, gives versions (key, state, from, to)."""

    moments: dict[int, dict[int, Any]] = field(default_factory=dict)

    def take(self, chunk: list[Change]) -> None:
        """Put a chunk's changes on the lines; an end that ends nothing leaves no trace behind its chunk."""
        for key, at, state in chunk:
            self.moments.setdefault(key, {})[at] = state
        for key in {key for key, _, _ in chunk}:
            line, alive = self.moments[key], False
            for at in sorted(line):
                if line[at] is END and not alive:
                    del line[at]
                else:
                    alive = line[at] is not END

    def versions(self) -> list[tuple[int, Any, int, int | None]]:
        """Return all versions in order."""
        found = []
        for key, line in self.moments.items():
            times = sorted(line)
            for at, until in zip(times, [*times[1:], None], strict=True):
                if line[at] is not END:
                    found.append((key, line[at], at, until))
        return sorted(found, key=lambda version: (version[0], version[2]))
