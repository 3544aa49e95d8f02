"""SQL over archives where they lie: DuckDB reads the files that manifests name, never a pattern.

A file that no manifest names, of an attempt that was killed, is not seen. Nothing is loaded into the warehouse. Objects
pass one at a time, each compared with its SHA-256: neither memory nor disk grows with the archives, and a query that
has enough reads no further.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from millstream_pipelines.errors import ConfigurationError, MillstreamError
from millstream_pipelines.retention import manifest as manifests
from millstream_pipelines.retention.export import arrow_schema
from millstream_pipelines.retention.manifest import Manifest
from millstream_pipelines.retention.readback import batches
from millstream_pipelines.retention.request import RetentionRequest, archive_store, opened, warehouse_config
from millstream_pipelines.retention.restorable import overlapping
from millstream_pipelines.retention.store import ArchiveStore

_MEMORY = "256MB"
_THREADS = 2
MOST_ROWS = 10_000  # of an answer; for more, restore


@dataclass(frozen=True)
class Answer:
    """Column names and rows. `is_cut`: there were more than `MOST_ROWS`."""

    names: list[str]
    rows: list[tuple[Any, ...]]
    is_cut: bool


class _Rows:
    """An archive's rows, as DuckDB takes them (Arrow's C stream): from the first on, each time they are asked for."""

    def __init__(self, store: ArchiveStore, manifest: Manifest) -> None:
        self._store, self._manifest = store, manifest
        self._schema = arrow_schema(manifest.columns)
        self.failure: MillstreamError | None = None
        """What ended the reading; DuckDB tells it as an error of its own."""

    def __arrow_c_schema__(self) -> object:
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        reader = pa.RecordBatchReader.from_batches(self._schema, self._read())
        return reader.__arrow_c_stream__(requested_schema)

    def _read(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in batches(self._store, self._manifest):
                yield pa.RecordBatch.from_arrays(batch.columns, schema=self._schema)
        except MillstreamError as error:
            self.failure = error
            raise


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
    kept = [
        manifests.read(store, item.manifest, item.archive_url)
        for item in found
        if item.manifest and item.state != "expired"
    ]
    if not kept:
        raise ConfigurationError(
            f"{request.owner}: no archive of table {table} there; `millstream retention plan` shows what is"
        )
    if not any(manifest.objects for manifest in kept):
        raise ConfigurationError(f"{request.owner}: the archives of table {table} there hold no rows")
    found_rows = [_Rows(store, manifest) for manifest in kept]
    with tempfile.TemporaryDirectory(prefix="millstream-query-") as scratch:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY, "temp_directory": scratch, "threads": _THREADS,
        }  # fmt: skip
        with closing(duckdb.connect(config=config)) as engine:
            engine.execute("SET TimeZone = 'UTC'")
            for number, item in enumerate(found_rows):
                engine.register(f"archive_{number}", item)
            parts = (f"FROM archive_{number}" for number in range(len(found_rows)))
            engine.execute(f"CREATE TEMPORARY VIEW archive AS {' UNION ALL BY NAME '.join(parts)}")
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
                if failure := next((item.failure for item in found_rows if item.failure is not None), None):
                    raise failure from None
                raise ConfigurationError(f"{request.owner}: the query is refused: {error}") from error


__all__ = ["MOST_ROWS", "Answer", "query"]
