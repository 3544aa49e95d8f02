"""Whether a connection to PostgreSQL is a session of its own, or a pooler lends a server's session per transaction.

Advisory locks, settings, temporary tables and cursors belong to a server's session. Behind a pooler in transaction mode
the next transaction may run in another one, and what was set or locked stays behind for a stranger, without any error.

Two observations tell, on PgBouncer and on others. A pooler hands its own cancel key to the client, so the process that
the key names is not the one that `pg_backend_pid()` names. And a pooler that keeps sessions clears one when its client
has gone, while one that lends them per transaction (or clears nothing) lets a lock of that client live on.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Hashable
from typing import Any

from millstream_pipelines.errors import ConfigurationError

_CLEARED_S = 3.0  # in which a pooler clears the session of a client that has gone
_LOOK_EVERY_S = 0.02
_known: set[Hashable] = set()

_HELD = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND {} = %s"
_NUMBER = "((classid::bigint << 32) | objid::bigint)"


def with_own_session(connect: Callable[[], Any], place: Hashable, owner: str, where: str) -> Any:
    """Return a connection that `connect` makes, in autocommit; it is asked three times at most.

    `place` is looked at once in this process. Raises ConfigurationError for a pooler that keeps no session for its
    client, and the driver's errors.
    """
    connection = connect()
    connection.autocommit = True
    if place in _known:
        return connection
    try:
        (pid,) = _asked(connection, "SELECT pg_backend_pid()")
        if pid != connection.info.backend_pid:
            number = secrets.randbits(63)
            _hold(connection, number, owner, where)
            connection.close()
            connection = connect()
            connection.autocommit = True
            _require_freed(connection, number, owner, where)
    except BaseException:
        connection.close()
        raise
    _known.add(place)
    return connection


def _hold(connection: Any, number: int, owner: str, where: str) -> None:
    """Lock in one transaction and look in the next."""
    _asked(connection, "SELECT pg_advisory_lock(%s)", number)
    if not _asked(connection, f"{_HELD.format(_NUMBER)} AND pid = pg_backend_pid()", number)[0]:
        raise _refused(owner, where, "a lock was gone with the transaction that took it")


def _require_freed(connection: Any, number: int, owner: str, where: str) -> None:
    until = time.monotonic() + _CLEARED_S
    while _asked(connection, _HELD.format(_NUMBER), number)[0]:
        if time.monotonic() >= until:
            # Likely the same server's session: then nothing of the question is left behind.
            _asked(connection, "SELECT pg_advisory_unlock(%s)", number)
            raise _refused(owner, where, "a lock outlived the connection that took it")
        time.sleep(_LOOK_EVERY_S)


def _asked(connection: Any, sql: str, *values: Any) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        found: tuple[Any, ...] = cursor.fetchone()
        return found


def _refused(owner: str, where: str, seen: str) -> ConfigurationError:
    return ConfigurationError(
        f"{owner}: {where} is a connection pooler that keeps no session for its client ({seen}), and locks, settings "
        "and temporary tables need one: connect to the server itself, or to a pool with `pool_mode = session` (and "
        "`server_reset_query = DISCARD ALL`, its default), for example a database of its own in pgbouncer.ini",
        reason="TransactionPooling",
    )


__all__ = ["with_own_session"]
