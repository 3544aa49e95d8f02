"""Start-up is part of the product: what may not be imported before it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

HEAVY = (
    "adbc_driver_manager", "duckdb", "httpx", "numpy", "obstore", "orjson", "pgpq", "psycopg2", "pyarrow",
    "pyarrow.compute", "pyarrow.csv", "pyarrow.dataset", "pyarrow.parquet", "pydantic", "rich", "sqlalchemy", "sqlglot",
    "yaml",
)  # fmt: skip


def imported(words: list[str], folder: Path) -> set[str]:
    """Run a command in a process of its own and return which of HEAVY it has imported."""
    code = (
        "import sys; from millstream_pipelines.cli import main\n"
        f"try: status = main({words!r})\n"
        "except SystemExit as error: status = error.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(status)"
    )
    environment = {**os.environ, "MILLSTREAM_HOME": str(folder)}
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(json.loads(done.stderr.splitlines()[-1].replace("'", '"')))


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    assert imported(words, tmp_path) == set()


def run(folder: Path, database: Postgres, source: dict[str, Any], stream: dict[str, Any]) -> set[str]:
    documents = {
        "DataSource": source,
        "Warehouse": {"type": "postgres", "config": database.config},
        "Pipeline": {"sourceRef": {"name": "a"}, "warehouseRef": {"name": "a"}, "streams": [stream]},
    }
    texts = (
        json.dumps({"apiVersion": "millstream.dev/v1alpha1", "kind": kind, "metadata": {"name": "a"}, "spec": spec})
        for kind, spec in documents.items()
    )
    (folder / "a.yaml").write_text("\n---\n".join(texts))
    return imported(["run", "-f", "a.yaml"], folder)


def test_rows_that_pass_undecoded_need_no_arrow(tmp_path: Path, postgres_database: Postgres) -> None:
    postgres_database.execute(
        "CREATE TABLE numbers AS SELECT n AS id, now() AS at, '{}'::jsonb AS j FROM generate_series(1, 9) n"
    )
    source = {"type": "postgres", "config": postgres_database.config}
    found = run(tmp_path, postgres_database, source, {"name": "public.numbers", "target": "raw.numbers"})
    assert found == {"psycopg2", "pydantic", "yaml"}


def test_a_checked_table_needs_arrow_and_its_driver_only(tmp_path: Path, postgres_database: Postgres) -> None:
    postgres_database.execute("CREATE TABLE numbers AS SELECT n AS id FROM generate_series(1, 9) n")
    source = {"type": "postgres", "config": postgres_database.config}
    checks = [{"type": "not_null", "columns": ["id"]}]
    found = run(tmp_path, postgres_database, source, {"name": "public.numbers", "target": "raw.n", "checks": checks})
    assert {"pyarrow", "pgpq", "adbc_driver_manager"} <= found
    unneeded = {"duckdb", "httpx", "obstore", "rich", "sqlalchemy", "sqlglot", "numpy"}
    assert found.isdisjoint(unneeded | {"pyarrow.csv", "pyarrow.dataset", "pyarrow.parquet"})


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", "id,at\n1,2026-01-01\n"), ("a.ndjson", '{"id": 1, "b": [2]}\n')]
)
def test_a_small_file_needs_arrow_only(name: str, content: str, tmp_path: Path, postgres_database: Postgres) -> None:
    (tmp_path / name).write_text(content)
    source = {"type": "files", "config": {"url": str(tmp_path)}}
    found = run(tmp_path, postgres_database, source, {"name": "a", "target": "raw.a"})
    assert {"pyarrow", "pgpq"} <= found
    unneeded = {
        "adbc_driver_manager",
        "duckdb",
        "httpx",
        "obstore",
        "pyarrow.dataset",
        "pyarrow.parquet",
        "rich",
        "numpy",
    }
    assert found.isdisjoint(unneeded | {"sqlalchemy", "sqlglot"})
