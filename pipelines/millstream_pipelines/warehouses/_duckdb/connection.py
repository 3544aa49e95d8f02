"""Open a DuckDB file, run SQL in it, and turn its errors into ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from millstream_pipelines.errors import ConfigurationError, DataError, MillstreamError, RetriableError
from millstream_pipelines.warehouses._duckdb.config import DuckDBConfig


def open_database(config: DuckDBConfig, owner: str) -> duckdb.DuckDBPyConnection:
    """Open a connection to the file. SQL in it reaches neither other files nor the network.

    Raises RetriableError that says who has the file, ConfigurationError when it cannot be a database.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "enable_external_access": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "memory_limit": config.memory_limit,
        "threads": str(config.threads),
    }
    try:
        if config.path != ":memory:":
            Path(config.path).parent.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(config.path, config=settings)
    except OSError as error:
        raise ConfigurationError(f"{owner}: folder of {config.path}: {error.strerror}; change `path`") from error
    except duckdb.Error as error:
        raise _open_error(error, owner, config.path) from error
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _open_error(error: duckdb.Error, owner: str, path: str) -> MillstreamError:
    text = _one_line(error)
    held = re.search(r"Conflicting lock is held in (.+?\(PID \d+\)(?: by user \S+)?)", text)
    if held is not None or "different configuration" in text:
        who = held.group(1).rstrip(".") if held else "this process, with other settings,"
        return RetriableError(
            f"{owner}: {path} is open in {who}; DuckDB lets one process write, so this run waits for its turn",
            reason="WarehouseBusy",
        )
    return ConfigurationError(f"{owner}: {path} cannot be opened: {text}; change `path`, or the version of DuckDB")


_DATA = (
    duckdb.ConstraintException, duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.TypeMismatchException,
)  # fmt: skip
_MANIFEST = (
    duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException, duckdb.PermissionException,
    duckdb.NotImplementedException, duckdb.DependencyException, duckdb.InvalidInputException, duckdb.SyntaxException,
)  # fmt: skip


def translated(error: duckdb.Error, owner: str, doing: str) -> MillstreamError:
    """Return our error for one of DuckDB's, by its class."""
    text = f"{owner}: {doing}: {_one_line(error)}"
    if isinstance(error, duckdb.OutOfMemoryException):
        return ConfigurationError(f"{text}; raise `memoryLimit`", reason="OutOfMemory")
    if isinstance(error, duckdb.TransactionException) and "is aborted" in text:
        return ConfigurationError(f"{text}; a query before it failed (see the checks), and DuckDB has no savepoints")
    if isinstance(error, _DATA):
        return DataError(text, reason="RefusedByWarehouse")
    if isinstance(error, _MANIFEST):
        return ConfigurationError(text)
    if isinstance(error, duckdb.IOException) and re.search(r"(?i)no space|disk full|could not write", text):
        return RetriableError(f"{text}; free space on the disk", reason="WarehouseFull")
    return RetriableError(text)  # a conflict of transactions, an interrupt, a lost file system


def _one_line(error: Exception) -> str:
    """Return an error's first paragraph; the rest shows the place in our SQL."""
    return " ".join(str(error).split("\n\n")[0].split())[:500]


@contextmanager
def translating(owner: str, doing: str) -> Iterator[None]:
    """Run a block; DuckDB's errors leave it as ours."""
    try:
        yield
    except duckdb.Error as error:
        raise translated(error, owner, doing) from error


def rows(connection: duckdb.DuckDBPyConnection, sql: str, arguments: list[Any] | None = None) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows. Values go through Arrow: DuckDB itself wants pytz for times with a zone."""
    relation = connection.sql(sql, params=arguments) if arguments else connection.sql(sql)
    if relation is None:
        return []
    table = relation.to_arrow_table()
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True)) if table.num_columns else []


def run(connection: duckdb.DuckDBPyConnection, sql: str, arguments: list[Any] | None = None) -> int:
    """Run a statement and return how many rows it touched."""
    found = connection.execute(sql, arguments).fetchone() if arguments else connection.execute(sql).fetchone()
    return int(found[0]) if found is not None and isinstance(found[0], int) else 0
