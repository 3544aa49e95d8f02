"""What a plan saves: prices of storage against bytes. Pure."""

from __future__ import annotations

from millstream_api.retentionpolicy import Costs


class Saving:
    """What bytes cost a month, in the warehouse and in the archive."""

    def __init__(self, costs: Costs | None) -> None:
        self._costs = costs

    def spoken(self, size_bytes: int) -> str:
        """Return what is saved a month; an empty text without prices."""
        if self._costs is None:
            return ""
        amount = size_bytes / 10**9 * (self._costs.warehouse - self._costs.archive)
        shown = "less than 0.01" if 0 < amount < 0.01 else f"{amount:.2f}"
        return f"{shown} {self._costs.currency}"


__all__ = ["Saving"]
