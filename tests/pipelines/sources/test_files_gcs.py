"""Files in Google Cloud Storage: the suite, ranges, changes, logins."""

from __future__ import annotations

from typing import Any

import obstore
import pytest
from obstore.store import GCSStore

from files_reading import opened, rows
from millstream_pipelines.errors import ConfigurationError, RetriableError
from millstream_pipelines.sources.base import ReadRequest
from millstream_pipelines.sources.files import FilesSource
from millstream_pipelines.testing.source import SourceSuite
from servers.gcs import GCS
from servers.plugin import gcs_server

__all__ = ["gcs_server"]


class Bucket:
    """A bucket and a client of its own."""

    def __init__(self, server: GCS, *, public: bool = False) -> None:
        self.server, self.name = server, server.create_bucket(public=public)
        self.secret = {"serviceAccountKey": server.service_account}
        self.store = GCSStore(
            self.name, base_url=server.endpoint, service_account_key=server.service_account,
            client_options={"allow_http": True},
        )  # fmt: skip

    def config(self, prefix: str, **more: Any) -> dict[str, Any]:
        return {"url": f"gs://{self.name}/{prefix}", "endpoint": self.server.endpoint, "timeoutSeconds": 5, **more}


@pytest.fixture(scope="module")
def bucket(gcs_server: GCS) -> Bucket:
    return Bucket(gcs_server)


class TestGCS(SourceSuite):
    source = FilesSource
    stream = "flights"
    row_count = 8

    @pytest.fixture
    def secret(self, bucket: Bucket) -> dict[str, str]:
        return bucket.secret

    @pytest.fixture
    def config(self, bucket: Bucket) -> dict[str, Any]:
        obstore.put(bucket.store, "suite/flights_1.csv", b"id\n" + b"".join(b"%d\n" % n for n in range(5)))
        obstore.put(bucket.store, "suite/flights_3.csv", b"id\n1\n2\n3\n")
        obstore.put(bucket.store, "suite/other.csv", b"id\n1\n")
        return bucket.config("suite", batchRows=2, streams=[{"name": "flights", "glob": "flights*"}])


def read(bucket: Bucket, prefix: str, secret: dict[str, str] | None = None, **more: Any) -> list[dict[str, Any]]:
    config = bucket.config(prefix, streams=[{"name": "s"}], **more)
    with opened(config.pop("url"), bucket.secret if secret is None else secret, **config) as source:
        return rows(list(source.read(ReadRequest("s", mode="incremental"))))


def test_the_url_may_be_one_object(bucket: Bucket) -> None:
    obstore.put(bucket.store, "one/a.csv", b"n\n1\n")
    assert read(bucket, "one/a.csv") == [{"n": "1"}]


def test_an_object_overwritten_while_it_is_read_is_retriable(bucket: Bucket) -> None:
    obstore.put(bucket.store, "during/a.csv", b"n\n" + b"123456789\n" * 2_000_000)
    config = bucket.config("during", streams=[{"name": "s"}])
    with opened(config.pop("url"), bucket.secret, **config) as source:
        reader = iter(source.read(ReadRequest("s")))
        next(reader)
        obstore.put(bucket.store, "during/a.csv", b"n\n" + b"987654321\n" * 2_000_000)
        with pytest.raises(RetriableError, match="changed while it was read"):
            list(reader)


def test_a_public_bucket_is_read_without_a_login(gcs_server: GCS) -> None:
    public = Bucket(gcs_server, public=True)
    obstore.put(public.store, "open/a.csv", b"n\n1\n")
    assert read(public, "open", {}, anonymous=True) == [{"n": "1"}]


def test_a_private_bucket_is_refused_without_a_login(bucket: Bucket) -> None:
    with pytest.raises(ConfigurationError, match=r"access to .* was denied; check the Secret's keys serviceAccountKey"):
        read(bucket, "suite", {}, anonymous=True)


def test_a_workload_identity_needs_no_secret(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", bucket.server.metadata_host)
    obstore.put(bucket.store, "identity/a.csv", b"n\n1\n")
    assert read(bucket, "identity", {}) == [{"n": "1"}]


def test_no_key_and_no_identity_says_which_to_give(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    monkeypatch.setenv("GCE_METADATA_IP", "127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"no credentials for .*serviceAccountKey, a workload identity"):
        read(bucket, "suite", {}, timeoutSeconds=1)


def test_a_missing_bucket_is_configuration(bucket: Bucket, gcs_server: GCS) -> None:
    for url in ("gs://nowhere", "gs://nowhere/prefix"):
        with (
            opened(url, bucket.secret, endpoint=gcs_server.endpoint) as source,
            pytest.raises(ConfigurationError, match=r"bucket.*does not exist"),
        ):
            source.streams()
