"""One piece of a policy's work in a process of its own, or what it is held against. Prints its report as JSON.

Called with what is to be done, the server's configuration, a folder, and a table.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from millstream_api import Endpoint, RunPlan
from millstream_api.retention_options import RetentionOptions
from millstream_api.retentionpolicy import Archive, RetentionPolicySpec
from millstream_pipelines.retention.archive import ToArchive, archive
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.definitions import definition
from millstream_pipelines.retention.records import Retired
from millstream_pipelines.retention.request import RetentionRequest
from millstream_pipelines.retention.restore import Restoring
from millstream_pipelines.retention.run import retain
from millstream_pipelines.retention.store import ArchiveStore
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig

OWNER = "the benchmark"
_COLUMN = "created_at"


class Work:
    """What can be asked for, by its name."""

    def __init__(self, config: dict[str, object], folder: Path, table: str) -> None:
        self._given, self._config = config, PostgresConfig.model_validate(config)
        self._folder, self._table = folder, table
        self._store = ArchiveStore(Archive(url=f"file://{folder}/archive"), {}, OWNER)
        self._noted = folder / f"archived-{table}.txt"

    def archive(self) -> int:
        """Archive the table, as a run does, and prove it; return the archive's bytes."""
        with Ddl(self._config, OWNER, 1) as ddl:
            ends = {"low": None, "high": None, "time_zone": "Etc/UTC"}
            wanted = ToArchive(
                self._table, self._table, 1, _COLUMN, "timestamptz", **ends, ddl=definition(ddl, self._table)
            )
            made = archive(self._config, OWNER, self._store, wanted)
        self._noted.write_text(made.key)
        return made.size_bytes

    def restore(self) -> int:
        """Bring the archive back into the schema `back`, and prove it."""
        record = Retired(self._table, self._table, 1, _COLUMN, "timestamptz", None, None, "Etc/UTC", 0, "dropped",
                         manifest=self._noted.read_text())  # fmt: skip
        with Ddl(self._config, OWNER, 1) as ddl:
            restoring = Restoring(ddl, self._config, self._store, "back", datetime.now(UTC), "bench")
            return restoring.go(record, f"back.{self._table}")

    def plan(self) -> int:
        """Plan a policy over the table's partitions; return how many steps there are."""
        spec = {"warehouseRef": {"name": "w"}, "tables": [{"name": self._table}], "keep": {"age": "1 day"}}
        plan = RunPlan(
            action="retain", namespace="bench", name="bench", policy=RetentionPolicySpec.model_validate(spec),
            warehouse=Endpoint(name="w", type="postgres", config=self._given),
        )  # fmt: skip
        report = retain(RetentionRequest(plan, {}, "bench", RetentionOptions(dry_run=True)))
        if report.retention is None or report.exit_code:
            raise SystemExit(report.message)
        return report.retention.plan_count

    def pyarrow(self) -> int:
        """Write the same rows in the same order with pyarrow over ADBC; nothing is verified."""
        import pyarrow.parquet as pq
        from adbc_driver_postgresql import StatementOptions, dbapi

        path = self._folder / "limit.parquet"
        where = " ".join(f"{'dbname' if name == 'database' else name}={value}" for name, value in self._given.items())
        hint = {StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(16 * 1024 * 1024)}
        query = f"SELECT * FROM {self._table} ORDER BY {_COLUMN}"
        with dbapi.connect(where) as connection, connection.cursor(adbc_stmt_kwargs=hint) as cursor:
            cursor.execute(query)
            reader = cursor.fetch_record_batch()
            with pq.ParquetWriter(path, reader.schema, compression="zstd", compression_level=3) as writer:
                for batch in reader:
                    writer.write_batch(batch, row_group_size=max(1, batch.num_rows))
        return path.stat().st_size


def main(what: str, config: str, folder: str, table: str) -> None:
    """Do it, and print how long it took and what it made."""
    work = Work(json.loads(config), Path(folder), table)
    started = time.monotonic()
    made = getattr(work, what)()
    print(json.dumps({"durationSeconds": time.monotonic() - started, "made": made}))


if __name__ == "__main__":
    main(*sys.argv[1:])
