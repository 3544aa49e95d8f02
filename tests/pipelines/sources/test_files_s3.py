"""Object storage, on a real S3 server: the suite, ranges, rights, changes, a server that is away."""

from __future__ import annotations

import os
import socket
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from obstore.store import S3Store

from files_reading import opened, rows
from millstream_pipelines.batch import Batch, Position
from millstream_pipelines.errors import ConfigurationError, RetriableError
from millstream_pipelines.sources.base import ReadRequest
from millstream_pipelines.sources.files import FilesSource
from millstream_pipelines.testing.source import SourceSuite
from servers.s3 import S3

SECRET = {"AWS_ACCESS_KEY_ID": "test-key-id", "AWS_SECRET_ACCESS_KEY": "test-secret-value"}  # where nobody asks


@dataclass(frozen=True)
class Server:
    """A running server with an empty bucket."""

    endpoint: str
    bucket: str
    secret: dict[str, str]
    store: Any

    def config(self, prefix: str, **more: Any) -> dict[str, Any]:
        return {"url": f"s3://{self.bucket}/{prefix}", "endpoint": self.endpoint, "timeoutSeconds": 5, **more}


@pytest.fixture(scope="module")
def server(s3_server: S3) -> Server:
    bucket = s3_server.create_bucket()
    secret = {"AWS_ACCESS_KEY_ID": s3_server.access_key, "AWS_SECRET_ACCESS_KEY": s3_server.secret_key}
    store = S3Store(
        bucket,
        endpoint=s3_server.endpoint,
        access_key_id=s3_server.access_key,
        secret_access_key=s3_server.secret_key,
        region=s3_server.region,
        client_options={"allow_http": True},
    )
    return Server(s3_server.endpoint, bucket, secret, store)


def read(server: Server, prefix: str, position: Position | None = None, **stream: Any) -> list[Batch]:
    config = server.config(prefix, streams=[{"name": "s", **stream}])
    with opened(config.pop("url"), server.secret, **config) as source:
        return list(source.read(ReadRequest("s", mode="incremental", position=position)))


class TestS3(SourceSuite):
    source = FilesSource
    stream = "flights"
    row_count = 13

    @pytest.fixture
    def secret(self, server: Server) -> dict[str, str]:
        return server.secret

    @pytest.fixture
    def config(self, server: Server, tmp_path: Path) -> dict[str, Any]:
        with zipfile.ZipFile(tmp_path / "z", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("flights.csv", "id\n" + "".join(f"{n}\n" for n in range(5)))
        pq.write_table(pa.table({"id": [str(n) for n in range(5)]}), tmp_path / "p", row_group_size=2)
        obstore.put(server.store, "suite/flights_1.csv.zip", (tmp_path / "z").read_bytes())
        obstore.put(server.store, "suite/flights_2.parquet", (tmp_path / "p").read_bytes())
        obstore.put(server.store, "suite/flights_3.csv", b"id\n1\n2\n3\n")
        obstore.put(server.store, "suite/other.csv", b"id\n1\n")
        return server.config("suite", batchRows=2, streams=[{"name": "flights", "glob": "flights*"}])


def test_a_file_of_many_ranges(server: Server) -> None:
    content = b"n\n" + b"".join(b"%d\n" % n for n in range(2_000_000))
    obstore.put(server.store, "many/a.csv", content)
    found = read(server, "many")
    assert sum(batch.data.num_rows for batch in found) == 2_000_000
    assert found[-1].data.to_pylist()[-1] == {"n": "1999999"}
    assert read(server, "many", found[-1].position) == []
    assert sum(batch.data.num_rows for batch in read(server, "many", found[1].position)) == 2_000_000 - sum(
        batch.data.num_rows for batch in found[:2]
    )


def test_the_url_may_be_one_object(server: Server) -> None:
    obstore.put(server.store, "one/a.csv", b"n\n1\n")
    assert rows(read(server, "one/a.csv")) == [{"n": "1"}]


def test_a_changed_object_is_read_again(server: Server) -> None:
    obstore.put(server.store, "changed/a.csv", b"n\n1\n")
    position = read(server, "changed")[-1].position
    obstore.put(server.store, "changed/a.csv", b"n\n1\n2\n")
    assert rows(read(server, "changed", position)) == [{"n": "1"}, {"n": "2"}]


def test_an_object_overwritten_while_it_is_read_is_retriable(server: Server) -> None:
    obstore.put(server.store, "during/a.csv", b"n\n" + b"123456789\n" * 2_000_000)
    config = server.config("during", streams=[{"name": "s"}])
    with opened(config.pop("url"), server.secret, **config) as source:
        reader = iter(source.read(ReadRequest("s")))
        next(reader)
        obstore.put(server.store, "during/a.csv", b"n\n" + b"987654321\n" * 2_000_000)
        with pytest.raises(RetriableError, match="changed while it was read"):
            list(reader)


def test_wrong_keys_name_the_secret_and_show_no_value(server: Server) -> None:
    wrong = {"accessKeyId": "nobody-key", "secretAccessKey": "wrong-value"}
    for secret in (wrong, {**server.secret, "AWS_SECRET_ACCESS_KEY": "wrong-value"}):
        config = server.config("suite")
        with opened(config.pop("url"), secret, **config) as source, pytest.raises(ConfigurationError) as caught:
            source.streams()
        message = str(caught.value)
        assert "accessKeyId" in message
        assert f"s3://{server.bucket}/suite" in message
        assert not [value for value in (*secret.values(), *server.secret.values()) if value in message]


def test_a_missing_bucket_is_configuration(server: Server) -> None:
    for url in ("s3://nowhere", "s3://nowhere/prefix"):
        with (
            opened(url, server.secret, endpoint=server.endpoint) as source,
            pytest.raises(ConfigurationError, match=r"bucket.*does not exist"),
        ):
            source.streams()


def test_no_keys_at_all_says_which_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    with opened("s3://b/p", timeoutSeconds=1) as source, pytest.raises(ConfigurationError, match="no credentials"):
        source.streams()


def test_an_empty_prefix_says_that_nothing_is_there(server: Server) -> None:
    config = server.config("nothing", streams=[{"name": "s", "glob": "x*"}])
    with (
        opened(config.pop("url"), server.secret, **config) as source,
        pytest.raises(ConfigurationError, match=r"no file matches 'x\*' under 's3://.*/nothing'; no files"),
    ):
        source.streams()


def test_a_server_that_is_away_is_retriable() -> None:
    with (
        opened("s3://b/p", SECRET, endpoint="http://127.0.0.1:1", timeoutSeconds=1) as source,
        pytest.raises(RetriableError, match="s3://b/p"),
    ):
        source.streams()


def test_a_server_that_never_answers_is_retriable() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with opened("s3://b/p", SECRET, endpoint=address, timeoutSeconds=0.5) as source, pytest.raises(RetriableError):
            source.streams()
