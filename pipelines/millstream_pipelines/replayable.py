"""Whether rows of a stream that were set aside can be sent through the manifest once more. Pure."""

from __future__ import annotations

from millstream_api.stream import StreamSpec

CURE = "repair the rows at the source, which sends them again, and discard them here"


def why_not_replayed(stream: StreamSpec) -> str | None:
    """Return why a replay would lack what its rows had when they were set aside, None where it lacks nothing."""
    if stream.nested.objects != "json" or stream.nested.lists != "json":
        return f"a replay does not take `nested` values apart; {CURE}"
    if stream.deletes.column is not None:
        return f"a replay does not follow `deletes.column`; {CURE}"
    return None
