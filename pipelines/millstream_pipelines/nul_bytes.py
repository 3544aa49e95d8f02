"""NUL in text: no PostgreSQL type can hold it, so the rows that have one are found before the warehouse fails on all.

In JSON text NUL hides as the escape `\\u0000`, which jsonb refuses.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from millstream_pipelines.text_buffers import contents

# An escape counts when an even number of backslashes stands before it: `\\u0000` is a backslash and five characters.
_ESCAPED = r"(^|[^\\])(\\\\)*\\u0000"


def rows_with_nul(text: pa.StringArray, *, json: bool = False) -> pa.BooleanArray | None:
    """Return which values hold NUL (never null), or None when none does. `json`: the escape counts too."""
    raw = contents(text)
    found = []
    if b"\0" in raw:
        found.append(pc.match_substring(text, "\0"))
    if json and b"\\u0000" in raw:
        found.append(pc.match_substring_regex(text, _ESCAPED))
    if not found:
        return None
    hits = pc.fill_null(found[0] if len(found) == 1 else pc.or_(*found), False)
    return hits if hits.true_count else None
