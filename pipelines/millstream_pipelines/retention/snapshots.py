"""Snapshots that are older than a copy: who looks at the table with one after the switch would find the copy empty."""

from __future__ import annotations

import time

from millstream_pipelines.errors import RetriableError
from millstream_pipelines.retention.ddl import Ddl

# The number of its transaction tells what began before from what began since, where the xmin of both may be that of
# some old writer. What is left out reads no rows by a snapshot: autovacuum (of no role) and VACUUM. Parallel workers
# go with their leader. Everybody may read these columns; times and queries of other roles are hidden from most.
_OLDER = """
SELECT a.pid, l.virtualxid, format('pid %%s (%%s, since %%s): %%s', a.pid, a.usename,
  coalesce(a.xact_start::timestamp(0)::text, 'unknown'), left(a.query, 60))
FROM pg_stat_activity a
JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'virtualxid' AND l.virtualxid = l.virtualtransaction
WHERE a.datname = current_database() AND a.backend_xmin IS NOT NULL AND a.pid <> pg_backend_pid()
  AND a.usesysid IS NOT NULL AND a.leader_pid IS NULL AND a.pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
  AND (%(of)s IS NULL OR l.virtualxid = ANY(%(of)s))
ORDER BY 1
"""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.01, 1.0


def wait_for_older(ddl: Ddl, doing: str) -> None:
    """Wait until nobody has a snapshot from before this call; RetriableError names who still has when patience ends."""
    started, wait_s = time.monotonic(), _FIRST_WAIT_S
    older = ddl.rows(_OLDER, {"of": None})
    while older := older and ddl.rows(_OLDER, {"of": [row[1] for row in older]}):
        if time.monotonic() >= started + ddl.patience_s:
            ddl.waited_s += time.monotonic() - started
            raise RetriableError(
                f"{ddl.owner}: {doing}: a transaction that is older than the copy would see none of its rows, and did "
                f"not end in {ddl.patience_s:.0f} s; held by {'; '.join(row[2] for row in older)}. Nothing was "
                "changed; the next run tries again",
                reason="TableLocked",
            )
        time.sleep(wait_s)
        wait_s = min(_LONGEST_WAIT_S, wait_s * 2)
    ddl.waited_s += time.monotonic() - started


__all__ = ["wait_for_older"]
