"""Object storage, on a real S3 server: the suite, ranges, rights, changes, a server that is away."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from obstore.store import S3Store

from cluster import paths
from files_reading import opened, rows
from millstream_pipelines.batch import Batch, Position
from millstream_pipelines.errors import ConfigurationError, RetriableError
from millstream_pipelines.sources.base import ReadRequest
from millstream_pipelines.sources.files import FilesSource
from millstream_pipelines.testing.source import SourceSuite

BINARY = paths.bin_dir("versitygw", paths.VERSITYGW) / "versitygw"
SECRET = {"AWS_ACCESS_KEY_ID": "test-key-id", "AWS_SECRET_ACCESS_KEY": "test-secret-value"}

pytestmark = pytest.mark.skipif(not BINARY.exists(), reason="the S3 server is built by tests/cluster/build.py")


@dataclass(frozen=True)
class Server:
    """A running server with an empty bucket."""

    endpoint: str
    store: Any

    def config(self, prefix: str, **more: Any) -> dict[str, Any]:
        return {"url": f"s3://landing/{prefix}", "endpoint": self.endpoint, "timeoutSeconds": 5, **more}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("s3")
    (root / "data" / "landing").mkdir(parents=True)
    port = free_port()
    environment = {
        **os.environ,
        "ROOT_ACCESS_KEY": SECRET["AWS_ACCESS_KEY_ID"],
        "ROOT_SECRET_KEY": SECRET["AWS_SECRET_ACCESS_KEY"],
    }
    with (root / "log").open("w") as log:
        line = [str(BINARY), "--port", f"127.0.0.1:{port}", "posix", str(root / "data")]
        process = subprocess.Popen(line, env=environment, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            assert process.poll() is None, (root / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        store = S3Store(
            "landing",
            endpoint=f"http://127.0.0.1:{port}",
            access_key_id=SECRET["AWS_ACCESS_KEY_ID"],
            secret_access_key=SECRET["AWS_SECRET_ACCESS_KEY"],
            region="us-east-1",
            client_options={"allow_http": True},
        )
        yield Server(f"http://127.0.0.1:{port}", store)
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def read(server: Server, prefix: str, position: Position | None = None, **stream: Any) -> list[Batch]:
    config = server.config(prefix, streams=[{"name": "s", **stream}])
    with opened(config.pop("url"), SECRET, **config) as source:
        return list(source.read(ReadRequest("s", mode="incremental", position=position)))


class TestS3(SourceSuite):
    source = FilesSource
    stream = "flights"
    row_count = 13

    @pytest.fixture
    def secret(self) -> dict[str, str]:
        return SECRET

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
    with opened(config.pop("url"), SECRET, **config) as source:
        reader = iter(source.read(ReadRequest("s")))
        next(reader)
        obstore.put(server.store, "during/a.csv", b"n\n" + b"987654321\n" * 2_000_000)
        with pytest.raises(RetriableError, match="changed while it was read"):
            list(reader)


def test_wrong_keys_name_the_secret_and_show_no_value(server: Server) -> None:
    wrong = {"accessKeyId": "nobody-key", "secretAccessKey": "wrong-value"}
    for secret in (wrong, {**SECRET, "AWS_SECRET_ACCESS_KEY": "wrong-value"}):
        config = server.config("suite")
        with opened(config.pop("url"), secret, **config) as source, pytest.raises(ConfigurationError) as caught:
            source.streams()
        message = str(caught.value)
        assert "accessKeyId" in message
        assert "s3://landing/suite" in message
        assert not [value for value in (*secret.values(), *SECRET.values()) if value in message]


def test_a_missing_bucket_is_configuration(server: Server) -> None:
    for url in ("s3://nowhere", "s3://nowhere/prefix"):
        with (
            opened(url, SECRET, endpoint=server.endpoint) as source,
            pytest.raises(ConfigurationError, match=r"bucket.*does not exist"),
        ):
            source.streams()


def test_no_keys_at_all_says_which_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://169.254.0.0:1")
    with opened("s3://b/p", timeoutSeconds=1) as source, pytest.raises(ConfigurationError, match="no credentials"):
        source.streams()


def test_an_empty_prefix_says_that_nothing_is_there(server: Server) -> None:
    config = server.config("nothing", streams=[{"name": "s", "glob": "x*"}])
    with (
        opened(config.pop("url"), SECRET, **config) as source,
        pytest.raises(ConfigurationError, match=r"no file matches 'x\*' under 's3://landing/nothing'; no files"),
    ):
        source.streams()


def test_a_server_that_is_away_is_retriable() -> None:
    with (
        opened("s3://b/p", SECRET, endpoint=f"http://127.0.0.1:{free_port()}", timeoutSeconds=1) as source,
        pytest.raises(RetriableError, match="s3://b/p"),
    ):
        source.streams()


def test_a_server_that_never_answers_is_retriable() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with opened("s3://b/p", SECRET, endpoint=address, timeoutSeconds=0.5) as source, pytest.raises(RetriableError):
            source.streams()
        assert time.monotonic() - began < 10
