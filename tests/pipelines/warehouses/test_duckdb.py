"""The warehouse `duckdb`: the suite, and what only DuckDB promises."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millstream_pipelines.errors import ConfigurationError, RetriableError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.testing.warehouse import WarehouseSuite
from millstream_pipelines.testing.warehouse_backfills import WarehouseBackfills
from millstream_pipelines.testing.warehouse_case import OWNER, PEOPLE, WarehouseCase, totals, write
from millstream_pipelines.warehouses._duckdb.config import DuckDBConfig
from millstream_pipelines.warehouses._duckdb.connection import open_database, rows
from millstream_pipelines.warehouses.duckdb import DuckDBWarehouse


class DuckDBCase(WarehouseCase):
    """A case that looks into the file over a connection of its own."""

    warehouse = DuckDBWarehouse
    failed_query_ends_transaction = True

    @pytest.fixture
    def config(self, tmp_path: Path) -> dict[str, Any]:
        return {"path": str(tmp_path / "new" / "dw.duckdb")}

    @pytest.fixture(autouse=True)
    def _looking(self, config: dict[str, Any]) -> Iterator[None]:
        self.other = open_database(DuckDBConfig(**config), OWNER)
        yield
        self.other.close()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return rows(self.other, sql)

    def execute(self, sql: str) -> None:
        self.other.execute(sql)


class TestSuite(DuckDBCase, WarehouseSuite, WarehouseBackfills):
    """The shared suite."""


class TestFile(DuckDBCase):
    """The file, and who else may have it."""

    def test_another_process_is_told_who_has_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "held.duckdb"
        script = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
        other = subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        self.config_seen = {"path": str(path)}
        with pytest.raises(RetriableError, match=rf"PID {other.pid}") as caught:
            self.open().probe()
        assert caught.value.reason == "WarehouseBusy"
        other.stdin.close()
        assert other.wait(timeout=60) == 0
        other.stdout.close()
        self.open().probe()

    @pytest.mark.parametrize("content", [b"not a database", b"x" * 100_000])
    def test_a_file_that_is_no_database(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "x.duckdb"
        path.write_bytes(content)
        self.config_seen = {"path": str(path)}
        with pytest.raises(ConfigurationError, match="change `path`"):
            self.open().probe()

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        self.config_seen = {"path": str(tmp_path / "file" / "x.duckdb")}
        with pytest.raises(ConfigurationError, match="change `path`"):
            self.open().probe()

    def test_a_process_that_was_killed_leaves_only_what_it_committed(self, tmp_path: Path) -> None:
        path = tmp_path / "killed.duckdb"
        script = (
            "import duckdb, os, signal, sys; c = duckdb.connect(sys.argv[1]); c.execute('CREATE TABLE t(a int)');"
            "c.execute('BEGIN'); c.execute('INSERT INTO t FROM range(100000)'); os.kill(os.getpid(), signal.SIGKILL)"
        )
        assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == -9
        self.config_seen = {"path": str(path)}
        warehouse = self.open()
        warehouse.probe()
        assert warehouse.scalar("SELECT count(*) FROM t") == 0

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT * FROM read_csv('{file}')",
            "SELECT * FROM '{file}'",
            "SELECT * FROM read_text('https://example.com')",
        ],
    )
    def test_sql_reaches_no_other_file(self, tmp_path: Path, sql: str) -> None:
        file = tmp_path / "secret.csv"
        file.write_text("a\n1\n")
        with pytest.raises(ConfigurationError, match=r"(?i)disabled|permission"):
            self.open().scalar(sql.format(file=file))

    def test_the_engine_is_imported_at_first_use(self) -> None:
        script = (
            "import sys; from millstream_pipelines.warehouses.duckdb import DuckDBWarehouse as W; "
            "W(W.Config(path='x'), 'w'); sys.exit('duckdb' in sys.modules or 'pyarrow.compute' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


class TestOwnTables(DuckDBCase):
    """Tables of the user's own making, as only DuckDB has them."""

    def owned(self, columns: str) -> None:
        self.execute(f"CREATE SCHEMA {self.table.split('.')[0]}")
        self.execute(f"CREATE TABLE {self.table} ({columns})")

    def test_names_are_compared_without_case(self) -> None:
        self.owned('"ID" bigint, "Name" text, rev bigint')
        load = self.open().load(self.merging(target=self.table.upper()))
        assert load.shape(PEOPLE).names == ["id", "name", "rev"]
        self.loaded(load, (1, "a", 1), (1, "b", 1))
        assert self.seen() == [(1, "b")]

    def test_two_columns_that_differ_in_case_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="differ in case"):
            self.open().load(self.spec()).shape(Schema((Column("id"), Column("ID"))))

    def test_a_merge_keeps_columns_that_the_stream_does_not_send(self) -> None:
        self.owned("id bigint PRIMARY KEY, name text, rev bigint, note text DEFAULT 'none'")
        load = self.open().load(self.merging())
        self.loaded(load, (1, "a", 1), (2, "b", 1))
        self.execute(f"UPDATE {self.table} SET note = 'mine' WHERE id = 1")
        assert totals(self.loaded(load, (1, "c", 1), (1, "d", 1), (3, "e", 1))) == (3, 2, 0, 1, 0)
        assert self.seen("id, name, note") == [(1, "d", "mine"), (2, "b", "none"), (3, "e", "none")]

    def test_a_nested_column_takes_no_rows(self) -> None:
        self.owned("id bigint, name STRUCT(a int), rev bigint, tags text[]")
        with pytest.raises(ConfigurationError, match="'name' is STRUCT"):
            self.open().load(self.spec()).shape(PEOPLE)

    def test_a_nested_column_that_the_stream_does_not_send_is_no_matter(self) -> None:
        self.owned("id bigint, name text, rev bigint, tags text[]")
        self.loaded(self.open().load(self.spec()), (1, "a", 1))
        assert self.seen() == [(1, "a")]

    def test_values_a_narrow_column_cannot_take_are_set_aside(self) -> None:
        self.owned("id TINYINT, name ENUM('sad', 'happy'), rev bigint")
        load = self.open().load(self.spec())
        target = load.shape(PEOPLE)
        assert [column.type for column in target] == ["smallint", "text", "bigint"]
        write(load, (1, "sad", 1), (300, "sad", 1), (2, "angry", 1), schema=target)
        assert totals(load.settle()) == (3, 1, 2, 0, 0)
        load.commit(None)
        assert self.seen() == [(1, "sad")]
        assert sorted(self.metadata("rule, status", "quarantine")) == [("cast(id)", "open"), ("cast(name)", "open")]
