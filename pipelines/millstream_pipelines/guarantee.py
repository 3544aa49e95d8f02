"""Which delivery guarantee a stream really has, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from millstream_api.stream import StreamSpec

EXACTLY_ONCE = "exactly-once"
EFFECTIVELY_ONCE = "effectively-once"
AT_LEAST_ONCE = "at-least-once"
_ORDER = (AT_LEAST_ONCE, EFFECTIVELY_ONCE, EXACTLY_ONCE)


def guarantee(stream: StreamSpec, source: Literal["exact", "repeats"], why: str) -> tuple[str, str]:
    """Return the guarantee and the reason, from what the source promises and how rows are written."""
    if stream.mode == "full" and source == "exact":
        return EXACTLY_ONCE, f"each run is one transaction, all of it or nothing, and {why}"
    if source == "exact":
        return EXACTLY_ONCE, f"rows and cursor commit together, and {why}"
    if stream.write_disposition == "merge" or (stream.write_disposition == "replace" and stream.primary_key):
        return EFFECTIVELY_ONCE, f"{why}; the key keeps rows single"
    if stream.write_disposition == "scd2" and stream.scd2.effective_at is not None:
        return EFFECTIVELY_ONCE, f"{why}; key and effective time keep versions single"
    cures = {"replace": "a primaryKey", "scd2": "scd2.effectiveAt"}
    cure = cures.get(stream.write_disposition, "writeDisposition 'merge' with a primaryKey")
    return AT_LEAST_ONCE, f"{why}; {cure} would keep rows single"


def weakest(guarantees: Iterable[str]) -> str:
    """Return the weakest of several guarantees, "" for none."""
    known = [item for item in guarantees if item in _ORDER]
    return min(known, key=_ORDER.index) if known else ""
