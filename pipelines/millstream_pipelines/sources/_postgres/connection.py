"""Connections to the PostgreSQL that is read, and its errors as ours.

Two drivers, one DSN: psycopg2 asks the catalog and watches other transactions (autocommit, never holding a snapshot
between statements), ADBC streams the rows. Errors at connection time carry no SQLSTATE in either, so their text is all
there is to go by; what is not recognised counts as retriable.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.extensions import make_dsn

from millstream_pipelines.errors import ConfigurationError, DataError, MillstreamError, RetriableError
from millstream_pipelines.pooler import with_own_session

if TYPE_CHECKING:
    from millstream_pipelines.sources._postgres.config import PostgresConfig

# Every text form we select must read back to the same value, whatever the server's defaults are.
SESSION = (
    "SET datestyle = 'ISO, MDY'",
    "SET intervalstyle = 'postgres'",
    "SET timezone = 'UTC'",
    "SET bytea_output = 'hex'",
    "SET extra_float_digits = 3",
)

_LOGIN = re.compile(r"authentication failed|no password supplied|password is required|is not permitted to log in", re.I)
_NAME = re.compile(r'(database|role) "[^"]*" does not exist', re.I)
_ACCESS = re.compile(r"no pg_hba\.conf entry|permission denied for database", re.I)
_TLS = re.compile(r"does not support SSL|certificate|invalid sslmode|private key file", re.I)
_OPTION = re.compile(r"invalid connection option|invalid dsn|invalid port number|unrecognized configuration", re.I)
_STARTUP = re.compile(r"unsupported startup parameter", re.I)  # PgBouncer's words

# Classes of SQLSTATE: 08 connection, 40 rollback, 53 resources, 55P03 lock, 57 operator, 58 system.
_RETRIABLE = ("08", "40", "53", "55", "57", "58")
_CONFIGURATION = ("42", "3D", "3F", "28", "0A")


def dsn_of(config: PostgresConfig) -> str:
    """Return the libpq connection string of the configuration."""
    given: dict[str, Any] = {
        "host": config.host,
        "port": config.port,
        "dbname": config.database,
        "user": config.user,
        "password": config.password.get_secret_value() if config.password else None,
        "sslmode": config.sslmode,
        "connect_timeout": config.connect_timeout_seconds,
        "application_name": "millstream",
        "client_encoding": "UTF8",
        # Keepalives watch a connection that waits; the other time-out, one with something sent and not acknowledged.
        "keepalives_idle": _idle_s(config),
        "keepalives_interval": _interval_s(config),
        "keepalives_count": _PROBES,
        "tcp_user_timeout": config.network_timeout_seconds * 1000,
    }
    chosen = {key: value for key, value in {**given, **config.options}.items() if value is not None}
    return make_dsn(None, **chosen)


def session_settings(config: PostgresConfig) -> list[str]:
    """Return the statements every connection starts with."""
    security = [] if config.row_security else ["SET row_security = off"]
    limits = {
        "statement_timeout": int(config.statement_timeout_seconds * 1000),
        # The server, too, must notice that a reader is gone: its snapshot would hold back vacuum for two hours.
        "tcp_keepalives_idle": _idle_s(config),
        "tcp_keepalives_interval": _interval_s(config),
        "tcp_keepalives_count": _PROBES,
        "tcp_user_timeout": config.network_timeout_seconds * 1000,
    }
    return [*SESSION, *security, *(f"SET {name} = {value}" for name, value in limits.items())]


_PROBES = 6


def _idle_s(config: PostgresConfig) -> int:
    return min(30, config.network_timeout_seconds // 2)


def _interval_s(config: PostgresConfig) -> int:
    return min(10, max(1, config.network_timeout_seconds // 6))


def session_of(config: PostgresConfig, owner: str) -> Any:
    """Open a session, in autocommit. ConfigurationError where a pooler keeps none; the driver's errors stay its own."""
    where = f"{config.host}:{config.port}/{config.database}"
    place = (config.host, config.port, config.database, config.user)
    return with_own_session(lambda: psycopg2.connect(dsn_of(config)), place, owner, where)


class Control:
    """The connection that asks questions. Opens at the first one."""

    def __init__(self, config: PostgresConfig, owner: str) -> None:
        self.config = config
        self.owner = owner
        self._connection: Any = None

    def rows(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None, *, about: str = ""
    ) -> list[tuple[Any, ...]]:
        """Run one statement in its own transaction and return its rows. `about`: the stream, for messages."""
        try:
            with self._opened().cursor() as cursor:
                cursor.execute(sql, parameters)
                return list(cursor.fetchall())
        except psycopg2.Error as error:
            raise explained(error, error.pgcode, self.config, self.owner, about) from error

    def described(self, sql: str, *, about: str) -> list[Any]:
        """Return the columns (DB-API description) of a query that is not run for its rows."""
        try:
            with self._opened().cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.description or ())
        except psycopg2.Error as error:
            raise explained(error, error.pgcode, self.config, self.owner, about) from error

    def close(self) -> None:
        """Close the connection; a later question opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> Any:
        if self._connection is None or self._connection.closed:
            connection = session_of(self.config, self.owner)
            connection.set_session(readonly=True, autocommit=True)
            with connection.cursor() as cursor:
                cursor.execute("; ".join(session_settings(self.config)))
            self._connection = connection
        return self._connection


def explained(
    error: BaseException, sqlstate: str | None, config: PostgresConfig, owner: str, about: str = ""
) -> MillstreamError:
    """Return a driver's error as ours: who must act, where, what to do; never the password."""
    text = " ".join(str(error).split())
    secret = config.password.get_secret_value() if config.password else ""
    if secret:
        text = text.replace(secret, "***")
    where = f"{owner}: {config.host}:{config.port}/{config.database}" + (f", stream '{about}'" if about else "")
    if "conflict with recovery" in text:
        return RetriableError(
            f"{where}: the replica ended the read, to go on with its replay ({text}); set hot_standby_feedback = on "
            "there, or a longer max_standby_streaming_delay, or read the primary",
            reason="ReplicaConflict",
        )
    if sqlstate == "57014":
        limit = f"statementTimeoutSeconds is {config.statement_timeout_seconds:g}"
        return RetriableError(f"{where}: the query was cancelled ({text}); {limit}")
    if sqlstate == "42501":
        return ConfigurationError(f"{where}: {text}; {_grant(text, config, about)}")
    if sqlstate is not None and sqlstate.startswith(_RETRIABLE):
        return RetriableError(f"{where}: {text}")
    if sqlstate is not None and sqlstate.startswith(_CONFIGURATION):
        return ConfigurationError(f"{where}: {text}")
    if sqlstate is not None:
        return DataError(f"{where}: {text}", reason="UnreadableData")
    return _connecting(text, where, config)


def _connecting(text: str, where: str, config: PostgresConfig) -> MillstreamError:
    if _LOGIN.search(text):
        user = config.user or "the default user"
        return ConfigurationError(
            f"{where}: login of '{user}' refused; check key 'password' (and 'user') of the Secret. Server: {text}"
        )
    if _NAME.search(text) or _ACCESS.search(text):
        return ConfigurationError(f"{where}: {text}; check user, database and the server's pg_hba.conf")
    if _TLS.search(text):
        return ConfigurationError(f"{where}: {text}; sslmode is '{config.sslmode}', certificates go under options")
    if _STARTUP.search(text):
        return ConfigurationError(
            f"{where}: {text}; a pooler takes no such parameter: leave it out of options and set it for the role "
            "(ALTER ROLE … SET), or connect to the server itself. `ignore_startup_parameters` would drop it silently"
        )
    if _OPTION.search(text):
        return ConfigurationError(f"{where}: {text}; options are libpq connection parameters")
    return RetriableError(f"{where}: {text}")


def _grant(text: str, config: PostgresConfig, about: str) -> str:
    user = config.user or "the user"
    if "row-level security" in text or "row level security" in text:
        return (
            f'rows would be left out by a policy: ALTER ROLE "{user}" BYPASSRLS, or set rowSecurity: true to read only '
            "what the policy shows"
        )
    schema = re.search(r"permission denied for schema (\S+)", text)
    if schema is not None:
        return f'run: GRANT USAGE ON SCHEMA {schema[1]} TO "{user}"'
    name = re.search(r"permission denied for (?:\w+ )*?(?:table|view|relation) (\S+)", text)
    return f'run: GRANT SELECT ON {about or (name[1] if name else "the table")} TO "{user}"'


def hang_up(connection: Any) -> None:
    """End whatever another thread does with a connection: the statement at the server, then the socket."""
    with contextlib.suppress(psycopg2.Error):
        connection.cancel()
    with contextlib.suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def identifier(name: str) -> str:
    """Return one identifier quoted for SQL. NUL cannot be in a name."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Return a string literal. COPY takes no parameters, so a cursor's bound is written into the query."""
    quoted = value.replace("'", "''")
    return f" E'{quoted.replace(chr(92), chr(92) * 2)}'" if "\\" in quoted else f"'{quoted}'"


__all__ = [
    "SESSION", "Control", "dsn_of", "explained", "hang_up", "identifier", "literal", "session_of", "session_settings",
]  # fmt: skip
