"""What in a condition means something else tomorrow: the clock, chance, the session. An archive is judged only once.

Read from the tree that PostgreSQL has parsed, not from the words: a column may be called `now`. What a function of the
user does nobody knows.
"""

from __future__ import annotations

import re

from millstream_pipelines.retention.ddl import Ddl

# Volatile functions of PostgreSQL's own, and those that are stable only within one statement or session.
_CALLED = """
SELECT DISTINCT p.proname FROM pg_constraint k
CROSS JOIN regexp_matches(k.conbin::text, ':(?:op)?funcid (\\d+)', 'g') m
JOIN pg_proc p ON p.oid = m[1]::oid AND p.pronamespace = 'pg_catalog'::regnamespace
WHERE k.conname = 'millstream_condition' AND k.conrelid = %s::regclass AND (p.provolatile = 'v'
  OR p.proname IN ('now', 'transaction_timestamp', 'statement_timestamp', 'current_setting', 'session_user',
    'current_user', 'current_database', 'pg_backend_pid', 'inet_client_addr', 'inet_client_port')
  OR p.proname = 'age' AND p.pronargs = 1)
ORDER BY 1
"""
_KEYWORDS = """
SELECT pg_get_constraintdef(oid), conbin::text LIKE '%%{SQLVALUEFUNCTION %%'
FROM pg_constraint WHERE conname = 'millstream_condition' AND conrelid = %s::regclass
"""
# Such a text becomes a date when it is read; where it is not one, it still stands in the tree.
_SPECIAL = re.compile(r"'\s*(?:now|today|tomorrow|yesterday)\b[^']*'", re.IGNORECASE)
_NAMES = re.compile(
    r"\b(current_date|current_timestamp|current_time|localtimestamp|localtime|current_user|current_role|session_user|"
    r"current_catalog|current_schema|user)\b",
    re.IGNORECASE,
)


def changing(ddl: Ddl, copy: str, where: str) -> list[str]:
    """Return what changes, as it is written; nothing where all depends on the row. `copy`: the table with the check."""
    found = [f"{row[0]}()" for row in ddl.rows(_CALLED, (copy,))]
    ((spelled, has_keyword),) = ddl.rows(_KEYWORDS, (copy,))
    if has_keyword:
        found += dict.fromkeys(match.lower() for match in _NAMES.findall(where))
    kept = _SPECIAL.findall(spelled)
    given = _SPECIAL.findall(where)
    return found + (given if len(given) > len(kept) else [])


__all__ = ["changing"]
