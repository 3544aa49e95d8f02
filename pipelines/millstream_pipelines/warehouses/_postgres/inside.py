"""A load's own open transaction as what alters tables: what it makes is there when it commits."""

from __future__ import annotations

from collections.abc import Callable

import psycopg2
from psycopg2.extensions import connection as Connection

from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.warehouses._postgres.connection import translated


class Inside(Ddl):
    """See `Ddl`. Waits for locks as long as the session does; nothing is tried again."""

    def __init__(self, connection: Connection, owner: str) -> None:
        self.connection, self.owner, self.waited_s = connection, owner, 0.0

    def __exit__(self, *_: object) -> None:
        pass

    def _in_transaction(self, action: Callable[[], None]) -> None:
        action()

    def _patiently(self, doing: str, tables: tuple[str, ...], action: Callable[[], None]) -> None:
        try:
            action()
        except psycopg2.Error as error:
            raise translated(error, self.owner, doing) from error


__all__ = ["Inside"]
