"""The warehouse `parquet`: the suite in a folder and on S3, and what only files promise."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from millstream_pipelines.batch import Reject
from millstream_pipelines.errors import ConfigurationError, RetriableError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.testing.warehouse import WarehouseCore
from millstream_pipelines.testing.warehouse_case import PEOPLE, write
from millstream_pipelines.warehouses._parquet.commits import path_name
from parquet_case import ParquetCase
from servers.plugin import s3_bucket, s3_server
from servers.s3 import S3

__all__ = ["s3_bucket", "s3_server"]


class TestFolder(ParquetCase, WarehouseCore):
    """The shared suite, in a folder."""


class TestS3(ParquetCase, WarehouseCore):
    """The shared suite, on a real S3 server."""

    @pytest.fixture
    def config(self, s3_server: S3, s3_bucket: str) -> dict[str, Any]:
        return {"url": f"s3://{s3_bucket}/deep/lake", "endpoint": s3_server.endpoint}

    @pytest.fixture
    def secret(self, s3_server: S3) -> dict[str, str]:
        return {"accessKeyId": s3_server.access_key, "secretAccessKey": s3_server.secret_key}

    def test_many_runners_race_for_one_number_and_one_wins(self) -> None:
        self.open().load(self.spec()).shape(PEOPLE)
        won: list[int] = []

        def race(runner: int) -> None:
            store = self.store
            won.extend(runner for number in range(20) if store.create(f"race/{number}", str(runner).encode()))

        threads = [threading.Thread(target=race, args=(runner,)) for runner in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 20

    def test_a_file_in_many_parts_comes_back(self) -> None:
        load = self.open().load(self.spec())
        load.shape(Schema((Column("id", "bigint"), Column("name", "text"))))
        wide = [(number, os.urandom(90_000).hex()) for number in range(250)]
        write(load, *wide, schema=Schema((Column("id", "bigint"), Column("name", "text"))))
        load.commit(None)
        assert self.seen("id, name") == wide
        (file,) = self.open().files(self.table)
        assert file.startswith("s3://")

    def test_a_wrong_login_is_named_and_no_secret_is_told(self) -> None:
        self.secret_seen = {"accessKeyId": "wrong", "secretAccessKey": "very-secret"}
        with pytest.raises(ConfigurationError, match="accessKeyId") as caught:
            self.open().probe()
        assert "very-secret" not in str(caught.value)

    def test_a_bucket_that_is_not_there(self) -> None:
        self.config_seen = {**self.config_seen, "url": "s3://no-such-bucket/lake"}
        with pytest.raises(ConfigurationError, match="does not exist"):
            self.open().probe()


class TestLeftovers(ParquetCase):
    """Files that nothing refers to, and when they go."""

    def test_what_a_dead_attempt_wrote_is_removed_by_the_next(self) -> None:
        dead = self.open().load(self.spec())
        write(dead, (1, "lost", 1), schema=dead.shape(PEOPLE), rejects=(Reject("r", "m", {}),))
        dead.settle()
        self._opened.clear()  # nobody rolls it back
        assert len(self.stored("data")) == 1
        load = self.open().load(self.spec(holder="pod-2"))
        assert self.stored("data") == self.stored("quarantine") == []
        self.loaded(load, (2, "kept", 1))
        self.open().load(self.spec(holder="pod-3"))
        assert self.seen() == [(2, "kept")]

    def test_a_rollback_removes_its_files(self) -> None:
        load = self.open().load(self.spec())
        write(load, (1, "lost", 1), schema=load.shape(PEOPLE), rejects=(Reject("r", "m", {}),))
        load.settle()
        load.rollback()
        assert self.stored("data") == self.stored("quarantine") == []

    def test_replaced_files_stay_for_a_day(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for run in ("run-1", "run-2"):
            self.loaded(self.open().load(self.spec(mode="full", disposition="replace", run=run)), (1, run, 1))
        assert self.seen() == [(1, "run-2")]
        assert len(self.stored("data")) == 2
        monkeypatch.setattr("millstream_pipelines.warehouses._parquet.lease.datetime", _Tomorrow)
        self.open().load(self.spec(mode="full", disposition="replace", run="run-3"))
        assert len(self.stored("data")) == 1
        assert self.seen() == [(1, "run-2")]


class _Tomorrow(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz or UTC) + timedelta(hours=25)


class TestFiles(ParquetCase):
    """What a file holds."""

    def test_a_file_says_the_types_and_its_rows_are_hashed(self) -> None:
        self.loaded(self.open().load(self.spec()), (1, "", 1), (2, None, None))
        (path,) = self.open().files(self.table)
        table = pq.read_table(path)
        assert table.to_pylist() == [{"id": 1, "name": "", "rev": 1}, {"id": 2, "name": None, "rev": None}]
        assert [field.metadata[b"millstream.type"] for field in table.schema] == [b"bigint", b"text", b"bigint"]
        (ledger,) = self.metadata("content_hash", "ledger")
        assert len(ledger[0]) == 32

    def test_files_are_closed_where_they_are_large_enough(self) -> None:
        self.config_seen = {**self.config_seen, "fileMegabytes": 1}
        load = self.open().load(self.spec())
        load.shape(PEOPLE)
        for number in range(3):
            write(load, *((number, os.urandom(40).hex(), 1) for _ in range(100_000)))
        load.commit(None)
        assert len(self.open().files(self.table)) == 3
        assert self.query(f"SELECT count(*), min(id), max(id) FROM {self.open().quoted(self.table)}") == [
            (300_000, 0, 2)
        ]

    def test_a_file_that_cannot_be_read_is_no_verdict_on_the_data(self) -> None:
        self.loaded(self.open().load(self.spec()), (1, "a", 1))
        self.store.remove([f"suite_{self.suffix}/people/{key}" for key in self.stored("data")])
        warehouse = self.open()
        with pytest.raises(RetriableError, match="a file of the table has gone"):
            warehouse.scalar(f"SELECT max(id) FROM {warehouse.quoted(self.table)}")

    def test_two_columns_that_differ_in_case_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="differ in case"):
            self.open().load(self.spec()).shape(Schema((Column("id"), Column("ID"))))

    def test_a_column_keeps_the_name_that_the_table_has_for_it(self) -> None:
        self.loaded(self.open().load(self.spec()), (1, "a", 1))
        load = self.open().load(self.spec())
        upper = Schema(tuple(Column(item.name.upper(), item.type) for item in PEOPLE))
        assert load.shape(upper).names == ["ID", "NAME", "REV"]
        self.loaded(load, (2, "b", 1), schema=upper)
        assert self.seen() == [(1, "a"), (2, "b")]

    def test_the_engine_is_imported_at_first_use(self) -> None:
        script = (
            "import sys; from millstream_pipelines.warehouses.parquet import ParquetWarehouse as W; "
            "W(W.Config(url='x'), 'w'); sys.exit(any(name in sys.modules for name in ('duckdb', 'pyarrow', 'obstore')))"
        )
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        self.config_seen = {"url": str(tmp_path / "file" / "lake")}
        with pytest.raises(ConfigurationError, match="change it"):
            self.open().probe()

    def test_a_scheme_that_is_not_known(self) -> None:
        self.config_seen = {"url": "ftp://somewhere/lake"}
        with pytest.raises(ConfigurationError, match="file, gs, s3"):
            self.open().probe()

    @pytest.mark.parametrize(
        ("asked", "named"),
        [
            ({"disposition": "merge", "primary_key": ("id",)}, "writeDisposition 'merge'"),
            ({"disposition": "scd2", "primary_key": ("id",)}, "writeDisposition 'scd2'"),
            ({"disposition": "replace", "mode": "full", "primary_key": ("id",)}, "primaryKey"),
            ({"window": "a..b"}, "backfill"),
            ({"deletes": True}, "`deletes`"),
            ({"numbered": True}, "nested.lists"),
            ({"origin": "quarantine"}, "replay"),
            ({"target": "_millstream.state"}, "_millstream"),
        ],
    )
    def test_what_files_cannot_do_is_refused_by_name(self, asked: dict[str, Any], named: str) -> None:
        with pytest.raises(ConfigurationError, match=named):
            self.open().load(self.spec(**asked))


@pytest.mark.parametrize("name", ["people", "a.b", ".hidden", "..", "a/b", "per%cent", "ünï 💧", "=41", ""])
def test_names_are_parts_of_a_path(name: str) -> None:
    from millstream_pipelines.warehouses._parquet.commits import named

    part = path_name(name)
    assert named(part) == name
    assert "/" not in part
    assert not part.startswith(".")
