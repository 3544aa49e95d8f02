"""The warehouse `parquet` on Google Cloud Storage: the suite, the race for a commit, large files, logins."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.testing.warehouse import WarehouseCore
from millstream_pipelines.testing.warehouse_case import PEOPLE, write
from parquet_case import ParquetCase
from servers.gcs import GCS
from servers.plugin import gcs_bucket, gcs_server

__all__ = ["gcs_bucket", "gcs_server"]


class TestGCS(ParquetCase, WarehouseCore):
    """The shared suite, with a service account's key from the Secret."""

    @pytest.fixture
    def config(self, gcs_server: GCS, gcs_bucket: str) -> dict[str, Any]:
        return {"url": f"gs://{gcs_bucket}/deep/lake", "endpoint": gcs_server.endpoint}

    @pytest.fixture
    def secret(self, gcs_server: GCS) -> dict[str, str]:
        return {"serviceAccountKey": gcs_server.service_account}

    def test_many_runners_race_for_one_number_and_one_wins(self) -> None:
        self.open().load(self.spec()).shape(PEOPLE)
        won: list[int] = []

        def race(runner: int) -> None:
            store = self.store
            won.extend(runner for number in range(10) if store.create(f"race/{number}", str(runner).encode()))

        threads = [threading.Thread(target=race, args=(runner,)) for runner in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 10

    def test_a_file_in_many_parts_comes_back(self) -> None:
        schema = Schema((Column("id", "bigint"), Column("name", "text")))
        load = self.open().load(self.spec())
        load.shape(schema)
        wide = [(number, os.urandom(90_000).hex()) for number in range(250)]
        write(load, *wide, schema=schema)
        load.commit(None)
        assert self.seen("id, name") == wide
        (file,) = self.open().files(self.table)
        assert file.startswith("gs://")

    def test_a_workload_identity_needs_no_secret(self, gcs_server: GCS, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GCE_METADATA_HOST", gcs_server.metadata_host)
        self.secret_seen = {}
        self.open().probe()
        assert any(key.startswith("_millstream/") for key in self.store.keys(""))

    def test_the_key_of_another_account_is_named_and_not_told(self, gcs_server: GCS) -> None:
        self.secret_seen = {"serviceAccountKey": gcs_server.other_account}
        with pytest.raises(ConfigurationError, match="serviceAccountKey") as caught:
            self.open().probe()
        assert "PRIVATE KEY" not in str(caught.value)

    @pytest.mark.parametrize("key", ["not json", "{}", '{"type": "authorized_user"}'])
    def test_what_is_no_service_account_is_refused_before_anything_is_asked(self, key: str) -> None:
        self.secret_seen = {"serviceAccountKey": key}
        with pytest.raises(ConfigurationError, match="serviceAccountKey"):
            self.open().probe()

    def test_anonymous_cannot_write_and_is_told_so(self, gcs_server: GCS) -> None:
        bucket = gcs_server.create_bucket(public=True)
        self.config_seen = {**self.config_seen, "url": f"gs://{bucket}/lake", "anonymous": True}
        self.secret_seen = {}
        with pytest.raises(ConfigurationError, match="leave `anonymous` out"):
            self.open().probe()

    def test_a_bucket_that_is_not_there(self) -> None:
        self.config_seen = {**self.config_seen, "url": "gs://no-such-bucket/lake"}
        with pytest.raises(ConfigurationError, match="does not exist"):
            self.open().probe()
