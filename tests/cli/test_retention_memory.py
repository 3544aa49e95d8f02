"""Archives of any size within 512 MiB: many times the rows take no more memory to archive, prove, ask and restore.

Buffers are full with the smaller table; what the further rows add is what was kept of them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from measuring import Measured, measured
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

MOST_MIB = 512
MOST_GROWTH = 1 / 4
"""Of the data added. Rows that are kept would be all of it."""
YEAR = ("--from", "2013-01-01", "--to", "2014-01-01")
WIDTHS = {
    "1 kB": ("repeat(md5(n::text), 28)", 240_000, 720_000),
    "1 kB to 1 MB of jsonb": (
        "jsonb_build_object('n', n, 'words', repeat(md5(n::text), CASE WHEN n % 50 = 0 THEN 32000 ELSE 30 END))",
        4_000,
        16_000,
    ),
}


@pytest.fixture
def retention(postgres_database: Postgres, tmp_path: Path) -> Callable[..., Measured]:
    """Call `millstream retention` for the table of so many rows, in a process of its own."""

    def call(rows: int, *words: str) -> Measured:
        policy = {
            "warehouseRef": {"name": "dw"}, "tables": [{"name": f"raw.rows_{rows}"}], "keep": {"age": "1 month"},
            "archive": {"url": f"file://{tmp_path}/archive"},
        }  # fmt: skip
        warehouse = {"type": "postgres", "config": postgres_database.config}
        texts = (
            json.dumps(
                {"apiVersion": "millstream.dev/v1alpha1", "kind": kind, "metadata": {"name": "dw"}, "spec": spec}
            )
            for kind, spec in {"Warehouse": warehouse, "RetentionPolicy": policy}.items()
        )
        (tmp_path / "policy.yaml").write_text("\n---\n".join(texts))
        line = [
            sys.executable,
            "-m",
            "millstream_pipelines.cli",
            "retention",
            words[0],
            "-f",
            "policy.yaml",
            *words[1:],
        ]
        done = measured(line, tmp_path, env=dict(os.environ), timeout_s=120)
        assert done.code == 0, done.out + done.err
        return done

    return call


def made(database: Postgres, value: str, rows: int) -> None:
    """Make a table with one partition that is too old, and fill it."""
    database.execute(
        f"CREATE SCHEMA IF NOT EXISTS raw; CREATE TABLE raw.source_{rows} AS SELECT n AS id, {value} AS note, "
        f"timestamptz '2013-01-01Z' + n * interval '1 second' AS at FROM generate_series(1, {rows}) n;"
        f"CREATE TABLE raw.rows_{rows} (LIKE raw.source_{rows}) PARTITION BY RANGE (at);"
        f"ALTER TABLE raw.rows_{rows} ATTACH PARTITION raw.source_{rows} "
        "FOR VALUES FROM ('2013-01-01') TO ('2014-01-01')"
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_archive_query_and_restore(width: str, retention: Callable[..., Measured], postgres_database: Postgres) -> None:
    value, *sizes = WIDTHS[width]
    found: dict[str, list[float]] = {}
    for rows in sizes:
        made(postgres_database, value, rows)
        table = ("--table", f"raw.rows_{rows}")
        sql = "SELECT count(*), max(length(note::text)), min(note::text)[:9] FROM archive"
        steps = {
            "archive": retention(rows, "run"),
            "query": retention(rows, "query", *table, sql, "--json"),
            "restore": retention(rows, "restore", *table, *YEAR, "--into", "back"),
        }
        assert "1 archived and verified" in steps["archive"].out
        assert f"{rows} rows, each compared" in steps["restore"].out
        for name, step in steps.items():
            found.setdefault(name, []).append(step.rss_mib)
    size = "SELECT sum(octet_length(note::text)) FROM back.source_{}"
    small, large = (int(postgres_database.execute(size.format(rows))[0][0]) / 2**20 for rows in sizes)
    for name, (few, many) in found.items():
        assert many <= MOST_MIB, (name, found)
        assert many - few <= (large - small) * MOST_GROWTH, (name, found)
