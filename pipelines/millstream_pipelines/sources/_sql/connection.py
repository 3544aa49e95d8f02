"""The engine of SQLAlchemy for one database, sessions that read and never write, and drivers' errors as ours."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL, Connection, Engine, make_url

from millstream_pipelines.errors import ConfigurationError, DataError, MillstreamError, RetriableError
from millstream_pipelines.sources._sql.config import SqlConfig

_CONNECT_S = 10
_READ_S = 900  # longer than a slow first row; a server that vanished without a word is noticed after this

_LOGIN = re.compile(r"access denied|login failed|authentication|password|ORA-01017|\b(1044|1045|18456)\b", re.I)
_NAME = re.compile(r"unknown database|no such table|doesn't exist|does not exist|unable to open|\b1049\b", re.I)


class Database:
    """One database. Nothing is connected before the first use; each read has a connection of its own."""

    def __init__(self, config: SqlConfig, owner: str) -> None:
        self.owner = owner
        self._config = config
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine, made at first use. Raises ConfigurationError for a URL or driver that nobody knows."""
        if self._engine is None:
            self._engine = self._made()
        return self._engine

    @property
    def dialect(self) -> str:
        """The dialect's name: sqlite, mysql, mariadb, mssql, oracle, …"""
        return str(self.engine.dialect.name)

    def quoted(self, *names: str) -> str:
        """Return a dotted name, quoted for this database."""
        return ".".join(self.engine.dialect.identifier_preparer.quote_identifier(name) for name in names)

    @contextmanager
    def connected(self, about: str = "") -> Iterator[Connection]:
        """Yield a connection that reads; rows come one page at a time. Errors leave it as ours."""
        try:
            with self.engine.connect() as connection:
                for statement in _SESSION.get(self.dialect, ()):
                    connection.exec_driver_sql(statement)
                yield connection.execution_options(stream_results=True)
        except (exc.SQLAlchemyError, sqlite3.Error) as error:
            raise self.explained(error, about) from error
        except OSError as error:  # a driver's socket
            raise RetriableError(f"{self._where(about)}: {error}") from error

    def explained(self, error: Exception, about: str = "") -> MillstreamError:
        """Return a driver's error as ours: who must act, where, what to do; never the password."""
        cause = getattr(error, "orig", None) or error
        text = self._without_secret(" ".join(str(cause).split()))
        where = self._where(about)
        if isinstance(error, exc.NoSuchTableError):
            return ConfigurationError(f"{where}: there is no table {text}")
        if _LOGIN.search(text):
            return ConfigurationError(
                f"{where}: login refused; check keys 'user' and 'password' of the Secret. Server: {text}"
            )
        if _NAME.search(text) or isinstance(error, exc.ProgrammingError):
            return ConfigurationError(f"{where}: {text}")
        if isinstance(error, (exc.DataError, exc.IntegrityError)):
            return DataError(f"{where}: {text}", reason="UnreadableData")
        return RetriableError(f"{where}: {text}")

    def close(self) -> None:
        """Release what is open; a later question opens it again."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _made(self) -> Engine:
        config = self._config
        try:
            url = make_url(config.url)
            if config.user:
                url = url.set(username=config.user)
            if config.password is not None:
                url = url.set(password=config.password.get_secret_value())
            return self._engine_of(url)
        except exc.NoSuchModuleError as error:
            raise ConfigurationError(
                f"{self.owner}: field 'url': no SQLAlchemy dialect for '{config.url.partition('://')[0]}'; there are "
                "mysql+pymysql, mariadb+pymysql and sqlite; others come with their package"
            ) from error
        except ImportError as error:
            raise ConfigurationError(
                f"{self.owner}: field 'url': the driver for '{config.url.partition('://')[0]}' is not installed "
                f"({error}); add its package to the runner image"
            ) from error
        except exc.ArgumentError as error:
            raise ConfigurationError(
                f"{self.owner}: field 'url': {self._without_secret(str(error))}; write dialect+driver://host:port/database"
            ) from error

    def _engine_of(self, url: URL) -> Engine:
        given: dict[str, Any] = dict(self._config.connect_args)
        if url.get_backend_name() == "sqlite":
            # Without mode=ro a wrong path would make an empty database and read nothing from it.
            path = url.database or ""
            if path in ("", ":memory:"):
                raise ConfigurationError(
                    f"{self.owner}: field 'url': sqlite needs a file, e.g. sqlite:////data/shop.db"
                )
            return sa.create_engine(
                "sqlite://",
                creator=lambda: _sqlite(path, given),
                poolclass=sa.pool.NullPool,
            )
        if url.get_driver_name() == "pymysql":
            given = {"connect_timeout": _CONNECT_S, "read_timeout": _READ_S, "charset": "utf8mb4", **given}
        return sa.create_engine(url, poolclass=sa.pool.NullPool, connect_args=given)

    def _without_secret(self, text: str) -> str:
        password = self._config.password
        return text.replace(password.get_secret_value(), "***") if password and password.get_secret_value() else text

    def _where(self, about: str) -> str:
        return f"{self.owner}: {self._config.url}" + (f", stream '{about}'" if about else "")


# A driver's values are exact only if the session is known: times in UTC, no conversions by mode.
_MYSQL_SESSION = ("SET SESSION TRANSACTION READ ONLY", "SET time_zone = '+00:00'")
_SESSION = {"mysql": _MYSQL_SESSION, "mariadb": _MYSQL_SESSION, "sqlite": ("PRAGMA query_only = ON",)}


def _sqlite(path: str, given: dict[str, Any]) -> sqlite3.Connection:
    from urllib.parse import quote

    connection: sqlite3.Connection = sqlite3.connect(
        f"file:{quote(path)}?mode=ro", uri=True, timeout=_CONNECT_S, **given
    )
    connection.text_factory = _text
    return connection


def _text(raw: bytes) -> str | bytes:
    """SQLite does not check its text; what is no UTF-8 stays bytes, and its row is judged by itself."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


__all__ = ["Database"]
