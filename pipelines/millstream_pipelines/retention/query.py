"""SQL over archives where they lie: DuckDB reads the files that manifests name, never a pattern.

A file that no manifest names, of an attempt that was killed, is not seen. Nothing is loaded into the warehouse.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.retention import manifest as manifests
from millstream_pipelines.retention import records
from millstream_pipelines.retention.archive import fetched
from millstream_pipelines.retention.restore import overlapping
from millstream_pipelines.retention.run import RetentionRequest, archive_store, opened, warehouse_config

_MEMORY = "256MB"
_MOST_ROWS = 10_000  # of an answer; for more, restore


def query(
    request: RetentionRequest, table: str, start: str | None, end: str | None, sql: str
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return column names and rows of a SELECT in which `archive` stands for the archived rows of a table.

    `start` and `end` narrow it to the archives that a stretch touches. ConfigurationError when nothing is archived
    there, or DuckDB refuses the SELECT.
    """
    import duckdb

    store = archive_store(request)
    if store is None:
        raise ConfigurationError(f"{request.owner} names no archive")
    with opened(request, warehouse_config(request)) as ddl:
        whole = start is None and end is None
        found = (
            records.retired(ddl, table)
            if whole
            else overlapping(ddl, table, start or "0001-01-01", end or "9999-01-01")
        )
    kept = [manifests.read(store, item.manifest) for item in found if item.manifest and item.state != "expired"]
    if not kept:
        raise ConfigurationError(
            f"{request.owner}: no archive of table {table} there; `millstream retention plan` shows what is"
        )
    with tempfile.TemporaryDirectory(prefix="millstream-query-") as scratch:
        files: list[str] = []
        for item in (item for manifest in kept for item in manifest.objects):
            path = Path(scratch) / f"{len(files)}.parquet"
            fetched(store, item, path, table)
            files.append(str(path))
        if not files:
            raise ConfigurationError(f"{request.owner}: the archives of table {table} there hold no rows")
        with closing(duckdb.connect(config={"memory_limit": _MEMORY, "temp_directory": scratch})) as engine:
            engine.execute("SET TimeZone = 'UTC'")
            engine.execute(f"CREATE VIEW archive AS FROM read_parquet({files}, union_by_name = true)")
            try:
                answer = engine.execute(sql)
                return [item[0] for item in answer.description or ()], answer.fetchmany(_MOST_ROWS)
            except duckdb.Error as error:
                raise ConfigurationError(f"{request.owner}: {error}") from error


__all__ = ["query"]
