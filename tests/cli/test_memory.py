"""Memory is bounded by configuration, not by the data: many times the rows take no more of it (promise 5).

The smaller run already fills every buffer of the engine, so what the further rows add is what was kept of them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from measuring import Measured, measured
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

ROWS = 30_000
"""Of about a kilobyte: 30 MB, and 300 MB in the larger run."""
TABLE_ROWS = (100_000, 400_000)
"""From a table, batches are larger and three threads hold some each: 30 MB would not fill them."""
MOST_MIB = 384
"""Pages of mapped libraries count: 20 to 35 MiB more after a fresh installation, as the page cache has them then."""
MOST_GROWTH = 1 / 4
"""Of the data added. Buffers that the smaller run left empty may fill; rows that are kept would be all of it."""

CHECKS = [{"type": "not_null", "columns": ["id"]}, {"type": "length", "column": "note", "min": 1}]
Run = Callable[..., Measured]


@pytest.fixture
def run(postgres_database: Postgres, tmp_path: Path) -> Run:
    """Run a Pipeline of one stream in a process of its own."""

    def call(
        source: dict[str, Any], stream: dict[str, Any], rows: int, warehouse: dict[str, Any] | None = None
    ) -> Measured:
        name = f"memory-{rows}"
        documents = {
            "DataSource": source,
            "Warehouse": warehouse or {"type": "postgres", "config": postgres_database.config},
            "Pipeline": {"sourceRef": {"name": name}, "warehouseRef": {"name": name}, "streams": [stream]},
        }
        texts = (
            json.dumps(
                {"apiVersion": "millstream.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
            )
            for kind, spec in documents.items()
        )
        (tmp_path / f"{name}.yaml").write_text("\n---\n".join(texts))
        line = [sys.executable, "-m", "millstream_pipelines.cli", "run", "-f", f"{name}.yaml", "--json"]
        done = measured(line, tmp_path, env=dict(os.environ), timeout_s=120)
        assert done.code == 0, done.out + done.err
        assert json.loads(done.out)["runs"][0]["report"]["totals"]["loaded"] == rows
        return done

    return call


def assert_bounded(small: Measured, large: Measured) -> None:
    assert large.rss_mib <= MOST_MIB
    added_mib = (bytes_read(large) - bytes_read(small)) / 2**20
    assert added_mib > 200, "too few bytes to tell"
    assert large.rss_mib - small.rss_mib <= added_mib * MOST_GROWTH, f"{small.rss_mib:.0f} → {large.rss_mib:.0f} MiB"


def bytes_read(done: Measured) -> int:
    return int(json.loads(done.out)["runs"][0]["report"]["totals"]["bytesRead"])


def test_from_a_table(run: Run, postgres_database: Postgres) -> None:
    for rows in TABLE_ROWS:
        postgres_database.execute(
            f"CREATE TABLE rows_{rows} AS SELECT n AS id, now() AS at, n / 100.0 AS amount, "
            f"repeat(md5(n::text), 28) AS note FROM generate_series(1, {rows}) n"
        )
    source = {"type": "postgres", "config": postgres_database.config}
    for name, checks in (("plain", []), ("checked", CHECKS)):
        made = [
            run(source, {"name": f"public.rows_{rows}", "target": f"raw.{name}_{rows}", "checks": checks}, rows)
            for rows in TABLE_ROWS
        ]
        assert_bounded(*made)


def test_from_a_table_into_parquet_files_that_a_set_check_reads(
    run: Run, postgres_database: Postgres, tmp_path: Path
) -> None:
    source = {"type": "postgres", "config": postgres_database.config}
    made = []
    for rows in TABLE_ROWS:
        postgres_database.execute(
            f"CREATE TABLE rows_{rows} AS SELECT n AS id, md5(n::text)::uuid AS token, n / 100.0 AS amount, "
            f"repeat(md5(n::text), 28) AS note FROM generate_series(1, {rows}) n"
        )
        stream = {"name": f"public.rows_{rows}", "target": "raw.rows", "checks": [{"type": "unique", "column": "note"}]}
        warehouse = {"type": "parquet", "config": {"url": str(tmp_path / f"lake-{rows}")}}
        made.append(run(source, stream | {"writeDisposition": "replace"}, rows, warehouse))
    assert_bounded(*made)


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_from_a_file(run: Run, tmp_path: Path, form: str) -> None:
    made = []
    for rows in (ROWS, 10 * ROWS):
        write(tmp_path / f"{rows}.{form}", rows)
        streams = [{"name": "rows", "glob": f"{rows}.{form}"}]
        source = {"type": "files", "config": {"url": str(tmp_path), "streams": streams}}
        columns = [{"name": "at", "type": "timestamptz"}, {"name": "amount", "type": "numeric(12,2)"}]
        stream = {"name": "rows", "target": f"raw.rows_{rows}", "columns": columns, "checks": CHECKS}
        made.append(run(source, stream, rows))
    assert_bounded(*made)


def write(path: Path, rows: int) -> None:
    note = "éx" * 300
    with path.open("w") as file:
        if path.suffix == ".csv":
            file.write("id,at,amount,note\n")
            file.writelines(f"{n},2026-01-01T00:00:00Z,{n}.25,{note}\n" for n in range(rows))
        else:
            line = '{{"id": {0}, "at": "2026-01-01T00:00:00Z", "amount": {0}.25, "note": "{1}"}}\n'
            file.writelines(line.format(n, note) for n in range(rows))
