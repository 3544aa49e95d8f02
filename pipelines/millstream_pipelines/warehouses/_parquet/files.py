"""The files of one open transaction: Parquet for rows, ndjson for what is set aside, each hashed on its way out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from millstream_pipelines.warehouses._parquet.commits import StoredFile
from millstream_pipelines.warehouses._parquet.store import Outgoing, Store

# A row group ends with whichever comes first. It is held in memory until then, so it is small where rows are wide.
_GROUP_ROWS = 100_000
_GROUP_BYTES = 32 * 1024 * 1024


class Hashing:
    """What a writer writes into: counts and hashes the bytes that pass."""

    def __init__(self, out: Outgoing) -> None:
        self._out = out
        self._digest = hashlib.sha256()
        self._abandoned = False
        self.size_bytes = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Pass bytes on."""
        view = memoryview(data).cast("B")
        if self._abandoned:
            return len(view)
        self._digest.update(view)
        self.size_bytes += len(view)
        self._out.write(view)
        return len(view)

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """Finish the object."""
        if not self._abandoned:
            self._out.close()
        self.closed = True

    def abandon(self) -> None:
        """Let nothing more through: a writer that is given up still writes its footer."""
        self._abandoned = True

    def stored(self, key: str, rows: int) -> StoredFile:
        """Return what a commit says of the object."""
        return StoredFile(key=key, size_bytes=self.size_bytes, rows=rows, sha256=self._digest.hexdigest())


class DataFiles:
    """Parquet files under one folder, begun when rows come and closed when they are large enough."""

    def __init__(self, store: Store, table: str, folder: str, file_bytes: int) -> None:
        self._store, self._table, self._folder, self._file_bytes = store, table, folder, file_bytes
        self._begun = 0
        self._schema: pa.Schema | None = None
        self._writer: pq.ParquetWriter | None = None
        self._sink: Hashing | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0
        self.finished: list[StoredFile] = []
        """Of the open transaction."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows, as `types.stored` made them. A schema that differs begins another file."""
        if self._schema is not None and not self._schema.equals(batch.schema, check_metadata=True):
            self.close()
        self._schema = batch.schema
        self._waiting.append(batch)
        rows = sum(item.num_rows for item in self._waiting)
        if rows >= _GROUP_ROWS or sum(item.nbytes for item in self._waiting) >= _GROUP_BYTES:
            self._group()
            if self._sink is not None and self._sink.size_bytes >= self._file_bytes:
                self.close()

    def close(self) -> None:
        """Finish the open file."""
        if self._waiting:
            self._group()
        if self._writer is None or self._sink is None:
            return
        self._writer.close()
        self._sink.close()
        self.finished.append(self._sink.stored(self._key(), self._rows))
        self._writer = self._sink = None

    def forget(self) -> list[str]:
        """Give up the open transaction; return the keys of what may have been written."""
        keys = [item.key for item in self.finished]
        if self._sink is not None:
            self._sink.abandon()
            keys.append(self._key())
        self._writer = self._sink = None
        self._waiting, self.finished = [], []
        return keys

    def taken(self) -> list[StoredFile]:
        """Return the files that were committed, and begin with none."""
        found, self.finished = self.finished, []
        return found

    def _key(self) -> str:
        return f"{self._folder}/part-{self._begun}.parquet"

    def _group(self) -> None:
        """Write what waits as one row group."""
        waiting, self._waiting = self._waiting, []
        if self._writer is None:
            self._begun, self._rows = self._begun + 1, 0
            self._sink = Hashing(self._store.outgoing(f"{self._table}/{self._key()}"))
            out = pa.PythonFile(self._sink, mode="w")
            self._writer = pq.ParquetWriter(out, self._schema, compression="zstd", compression_level=3)
        table = pa.Table.from_batches(waiting, schema=self._schema)
        self._rows += table.num_rows
        self._writer.write_table(table, row_group_size=table.num_rows)


class SetAsideFile:
    """An ndjson file of rows that were set aside in one transaction, begun with the first."""

    def __init__(self, store: Store, table: str, folder: str) -> None:
        self._store, self._table, self._folder = store, table, folder
        self._begun = 0
        self._sink: Hashing | None = None
        self._rows = 0

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        """Add rows."""
        if not lines:
            return
        if self._sink is None:
            self._begun, self._rows = self._begun + 1, 0
            self._sink = Hashing(self._store.outgoing(f"{self._table}/{self._key()}"))
        self._rows += len(lines)
        self._sink.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())

    def close(self) -> list[StoredFile]:
        """Finish the file; return what a commit says of it, nothing when there is none."""
        if self._sink is None:
            return []
        sink, self._sink = self._sink, None
        sink.close()
        return [sink.stored(self._key(), self._rows)]

    def forget(self) -> list[str]:
        """Give up the open file; return its key."""
        if self._sink is None:
            return []
        self._sink.abandon()
        self._sink = None
        return [self._key()]

    def _key(self) -> str:
        return f"{self._folder}/part-{self._begun}.ndjson"
