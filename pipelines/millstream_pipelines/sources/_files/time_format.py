"""Local times in a pattern of their own: told from a sample, and written as ISO text."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc


def fits_format(values: Iterable[str], pattern: str) -> bool:
    """Return whether there are values and all follow a strptime pattern."""
    texts = pa.array(list(values), pa.string())
    return len(texts) > 0 and pc.strptime(texts, pattern, "s", error_is_null=True).null_count == 0


def reformatted(texts: pa.Array, pattern: str) -> pa.Array:
    """Return local times as ISO text; a value that does not follow the pattern stays as it is."""
    times = pc.strptime(texts, pattern, "s", error_is_null=True)
    return pc.coalesce(pc.strftime(times, "%Y-%m-%d %H:%M:%S").cast(pa.string()), texts)
