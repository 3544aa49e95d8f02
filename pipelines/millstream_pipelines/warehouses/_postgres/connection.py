"""Connect to PostgreSQL, quote names, and turn its errors into ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import psycopg2
from psycopg2.extensions import connection as Connection
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic.alias_generators import to_camel

from millstream_pipelines.errors import ConfigurationError, DataError, MillstreamError, RetriableError
from millstream_pipelines.pooler import with_own_session


class PostgresConfig(BaseModel):
    """How to reach a PostgreSQL or TimescaleDB server. `user` and `password` usually come from the Secret."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    host: str = Field(default="localhost", description="Host name, address, or folder of the Unix socket.")
    port: int = Field(default=5432, ge=1, le=65535, description="TCP port.")
    database: str = Field(default="postgres", min_length=1, description="Database to load into.")
    user: str = Field(default="postgres", min_length=1, description="Role to log in as.")
    password: SecretStr | None = Field(default=None, description="Password; put it in the Secret, not here.")
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        default="prefer", description="As in libpq."
    )
    connect_timeout_seconds: int = Field(default=10, ge=1, le=300, description="How long a connection may take.")
    lock_timeout_seconds: int = Field(
        default=30, ge=1, le=3600, description="How long a statement waits for a lock before the run is retried."
    )
    network_timeout_seconds: int = Field(
        default=120,
        ge=2,
        le=3600,
        description="How long the network may swallow what is sent before the connection counts as lost; also how long "
        "the server may take no more rows.",
    )
    synchronous_commit: bool = Field(
        default=True, description="False trades the last moments before a server crash for speed: do not, for money."
    )


def connect(config: PostgresConfig, owner: str) -> Connection:
    """Open a connection, in a transaction at the first statement.

    Raises ConfigurationError for a wrong login or database (names the Secret's keys, never a value) and for a pooler
    that keeps no session, RetriableError when the server is away or is a standby, which takes no writes.
    """
    where = f"{config.host}:{config.port}/{config.database}"
    place = (config.host, config.port, config.database, config.user)
    try:
        connection: Connection = with_own_session(lambda: _opened(config), place, owner, where)
        if one(connection, f"{_settings(config)}; SELECT pg_is_in_recovery()")[0]:
            connection.close()
            raise RetriableError(
                f"{owner}: {where} is a standby, which takes no writes: give the address of the primary, or one that "
                "follows it (after a failover this ends by itself)",
                reason="ReadOnly",
            )
        connection.autocommit = False
    except psycopg2.Error as error:
        raise _connect_error(error, owner, where, config.user) from None
    except ValueError:  # NUL or a lone surrogate, which no message of the driver should repeat
        raise ConfigurationError(
            f"{owner}: host, database, user or password holds a character that PostgreSQL cannot take"
        ) from None
    return connection


def _opened(config: PostgresConfig) -> Connection:
    connection: Connection = psycopg2.connect(
        host=config.host,
        port=config.port,
        dbname=config.database,
        user=config.user,
        password=config.password.get_secret_value() if config.password else None,
        sslmode=config.sslmode,
        connect_timeout=config.connect_timeout_seconds,
        application_name=_APPLICATION,
        keepalives_idle=_idle_s(config),
        keepalives_interval=_interval_s(config),
        keepalives_count=3,
        # Keepalives only watch a connection that waits. What was sent and is not acknowledged, the system would
        # send again for a quarter of an hour.
        tcp_user_timeout=config.network_timeout_seconds * 1000,
        client_encoding="UTF8",
    )
    return connection


_APPLICATION = "millstream"


def _idle_s(config: PostgresConfig) -> int:
    return min(30, config.network_timeout_seconds // 2)


def _interval_s(config: PostgresConfig) -> int:
    return min(10, max(1, config.network_timeout_seconds // 6))


def _settings(config: PostgresConfig) -> str:
    """Return the session's settings: what the load protocol relies on, whatever the role's defaults are.

    Statements, not `options` of the connection: poolers refuse those. The server, too, must notice that a pod is gone:
    its locks would wait for the system's two hours.
    """
    settings = {
        "lock_timeout": f"{config.lock_timeout_seconds}s",
        "timezone": "UTC",
        "datestyle": "ISO, MDY",  # of "ISO" alone, the order of day and month is the database's
        "bytea_output": "hex",
        "extra_float_digits": 3,
        "intervalstyle": "postgres",
        "default_transaction_isolation": "read committed",
        "synchronous_commit": "on" if config.synchronous_commit else "off",
        "tcp_keepalives_idle": _idle_s(config),
        "tcp_keepalives_interval": _interval_s(config),
        "tcp_keepalives_count": 3,
        "tcp_user_timeout": min(60, config.network_timeout_seconds) * 1000,
    }
    return "; ".join(f"SET {name} = '{value}'" for name, value in settings.items())


_LOGIN_REFUSED = ("password authentication failed", "no password supplied", "sasl authentication failed")


def _connect_error(error: Exception, owner: str, where: str, user: str) -> MillstreamError:
    text = " ".join(str(error).split())
    lower = text.lower()
    if any(words in lower for words in _LOGIN_REFUSED):
        return ConfigurationError(
            f"{owner}: {where} refuses the login of user '{user}': check the keys 'user' and 'password' of the Secret",
            reason="LoginRefused",
        )
    if "no pg_hba.conf entry" in lower or ('role "' in lower and "does not exist" in lower):
        return ConfigurationError(f"{owner}: {where} refuses user '{user}': {text}", reason="LoginRefused")
    if 'database "' in lower and "does not exist" in lower:
        return ConfigurationError(f"{owner}: there is no such database at {where}: create it or change `database`")
    if "server does not support ssl" in lower or "certificate" in lower:
        return ConfigurationError(f"{owner}: {where}: {text}; change `sslmode`, or give the server a certificate")
    return RetriableError(f"{owner}: cannot connect to {where}: {text}")


# Appendix A of the manual. 08 connection, 40 rollback (deadlock, serialization), 53 resources, 55 lock, 57 operator,
# 58 system, XX internal ("tuple concurrently updated" when two sessions alter one object).
_RETRIABLE_CLASSES = ("08", "40", "53", "55", "57", "58", "XX")
# 21 cardinality, 22 data exception, 23 constraint, 44 check option, 54 a value too large for an index or a row.
_DATA_CLASSES = ("21", "22", "23", "44", "54")
_MAX_DETAIL = 300  # characters; the detail may hold a whole row


def translated(error: psycopg2.Error, owner: str, doing: str) -> MillstreamError:
    """Return our error for one of PostgreSQL's, by its SQLSTATE class (PostgreSQL manual, appendix A)."""
    code = error.pgcode or ""
    text = f"{owner}: {doing}: {detailed(error)}"
    if code.startswith("53"):
        return RetriableError(f"{text}; free space or connections on the server", reason="WarehouseFull")
    if not code or (code.startswith(_RETRIABLE_CLASSES) and code != "55000"):  # 55000: "not in prerequisite state"
        return RetriableError(text)
    if code == "25006":  # a standby in mid-failover, or a role set to read only
        return RetriableError(f"{text}; the server takes no writes now: is it a standby?", reason="ReadOnly")
    if code == "23505" and (error.diag.table_name or "").startswith("pg_"):
        return RetriableError(text)  # two sessions made the same schema or type at the same moment
    if code == "42501":
        return ConfigurationError(f"{text}; grant the role what it needs", reason="PermissionDenied")
    if code == "2BP01":
        return ConfigurationError(f"{text}; drop or change what depends on it, or keep its columns")
    if code.startswith(_DATA_CLASSES):
        return DataError(text, reason="RefusedByWarehouse")
    return ConfigurationError(text)


def detailed(error: psycopg2.Error) -> str:
    """Return the server's words, its detail included."""
    first = " ".join(str(error.diag.message_primary or error).split())
    detail = f" ({' '.join(error.diag.message_detail.split())[:_MAX_DETAIL]})" if error.diag.message_detail else ""
    return first + detail


@contextmanager
def translating(owner: str, doing: str) -> Iterator[None]:
    """Run a block; psycopg2's errors leave it as ours."""
    try:
        yield
    except psycopg2.Error as error:
        raise translated(error, owner, doing) from error


def one(connection: Connection, sql: str, arguments: Any = None) -> Any:
    """Run a statement and return its first row, or None."""
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments)
        return cursor.fetchone() if cursor.description else None


def run(connection: Connection, sql: str, arguments: Any = None) -> int:
    """Run a statement and return how many rows it touched."""
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments)
        return int(cursor.rowcount)
