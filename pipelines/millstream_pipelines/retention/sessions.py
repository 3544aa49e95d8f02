"""What the archives of one run share: two connections and DuckDB. Opening them is most of a small archive's time."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from millstream_pipelines.retention.ddl import UNLIMITED, session
from millstream_pipelines.sources._postgres.config import PostgresConfig as ReaderConfig
from millstream_pipelines.sources._postgres.connection import dsn_of, session_settings
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

_MEMORY = "256MB"  # for DuckDB: what it reads is a row group at a time
_THREADS = 2  # each holds a row group


class Sessions:
    """Opens what is asked for, once, and closes it with the block. After a failure: `hang_up`."""

    def __init__(self, config: PostgresConfig, owner: str) -> None:
        self.owner, self._config = owner, config
        self._stack, self._lines = ExitStack(), ExitStack()
        self._judge: Connection | None = None
        self._reader: Any = None
        self._engine: Any = None
        shared = ("host", "port", "database", "user", "password", "sslmode", "network_timeout_seconds")
        given = {name: getattr(config, name) for name in shared}
        self.reading = ReaderConfig.model_validate(given | {"row_security": False})

    def __enter__(self) -> Sessions:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close whatever is open."""
        self.hang_up()
        self._engine = None
        self._stack.close()

    def hang_up(self) -> None:
        """Close the connections to the server, whatever state they are in."""
        self._judge = self._reader = None
        self._lines.close()

    def judge(self) -> Connection:
        """Return the connection that hashes, and makes the snapshot."""
        if self._judge is None:
            found = session(self._config, self.owner)
            self._lines.callback(found.close)
            self._judge = found
        return self._judge

    def reader(self) -> Any:
        """Return the connection that sends rows as Arrow, in autocommit. The driver's errors leave it as they are."""
        if self._reader is None:
            from adbc_driver_postgresql import dbapi

            found = self._lines.enter_context(dbapi.connect(dsn_of(self.reading), autocommit=True))
            with found.cursor() as cursor:
                for statement in (*session_settings(self.reading), UNLIMITED):
                    cursor.execute(statement)
            self._reader = found
        return self._reader

    def engine(self) -> Any:
        """Return DuckDB, which reads archives back. Bounded; it spills to a folder that goes with it."""
        if self._engine is None:
            import duckdb

            scratch = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="millstream-verify-"))
            config: dict[str, str | bool | int | float | list[str]] = {
                "memory_limit": _MEMORY,
                "temp_directory": scratch,
                "threads": _THREADS,
            }
            self._engine = self._stack.enter_context(duckdb.connect(config=config))
            self._engine.execute("SET TimeZone = 'UTC'")
        return self._engine


__all__ = ["Sessions"]
