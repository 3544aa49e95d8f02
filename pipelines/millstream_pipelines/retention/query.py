"""SQL over archives where they lie: DuckDB reads the files that manifests name, never a pattern.

A file that no manifest names, of an attempt that was killed, is not seen. Nothing is loaded into the warehouse.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.retention import manifest as manifests
from millstream_pipelines.retention.readback import fetched
from millstream_pipelines.retention.restore import overlapping
from millstream_pipelines.retention.run import RetentionRequest, archive_store, opened, warehouse_config

_MEMORY = "256MB"
MOST_ROWS = 10_000  # of an answer; for more, restore


@dataclass(frozen=True)
class Answer:
    """Column names and rows. `is_cut`: there were more than `MOST_ROWS`."""

    names: list[str]
    rows: list[tuple[Any, ...]]
    is_cut: bool


def query(request: RetentionRequest, table: str, start: str | None, end: str | None, sql: str) -> Answer:
    """Return the answer of a SELECT in which `archive` stands for the archived rows of a table.

    `start` and `end` narrow it to the archives that a stretch touches. It reaches no other file and no network.
    ConfigurationError when nothing is archived there, it is no SELECT, or DuckDB refuses it.
    """
    import duckdb

    with opened(request, warehouse_config(request)) as ddl:
        store = archive_store(request, ddl)
        if store is None:
            raise ConfigurationError(f"{request.owner} names no archive")
        found = overlapping(ddl, table, start, end)
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
            engine.execute(f"SET allowed_directories = ['{scratch}']")
            engine.execute("SET enable_external_access = false")
            engine.execute("SET lock_configuration = true")
            try:
                statements = engine.extract_statements(sql)
                if [item.type for item in statements] != [duckdb.StatementType.SELECT]:
                    raise ConfigurationError(
                        f"{request.owner}: a query is one SELECT; to change what is archived, restore it, or erase "
                        "rows by `delete` of the policy"
                    )
                answer = engine.execute(statements[0])
                names = [item[0] for item in answer.description or ()]
                rows = answer.fetchmany(MOST_ROWS + 1)
                return Answer(names, rows[:MOST_ROWS], len(rows) > MOST_ROWS)
            except duckdb.Error as error:
                raise ConfigurationError(f"{request.owner}: the query is refused: {error}") from error


__all__ = ["MOST_ROWS", "Answer", "query"]
