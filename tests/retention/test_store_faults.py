"""A store that changes, refuses, stalls or fills up: no drop without the archive that was proven, and no row lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chaos.front import Answer, Front
from chaos.proxy import Proxy
from millstream_api import RunReport
from millstream_api.retentionpolicy import RetentionPolicySpec
from retention.policies import FLIGHTS, carried_out, months, spec
from servers.folders import server_folder
from servers.plugin import postgres_database, postgres_server, s3_bucket, s3_server
from servers.postgres import Postgres
from servers.s3 import S3

__all__ = ["postgres_database", "postgres_server", "s3_bucket", "s3_server"]

NOW = datetime(2014, 1, 10, tzinfo=UTC)  # August and September are too old
LATER = NOW + timedelta(days=8)
ROWS = "SELECT count(*), sum(id) FROM raw.flights_p2013{month:02}01"


@pytest.fixture
def flights(postgres_database: Postgres) -> Postgres:
    """A table with five months."""
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 8, 12)
    return postgres_database


class Bucket:
    """The policy's archive in a bucket, reached straight or through what stands before it."""

    def __init__(self, database: Postgres, server: S3, bucket: str) -> None:
        self.database, self.server, self.bucket = database, server, bucket

    def run(self, now: datetime = NOW, endpoint: str = "") -> RunReport:
        place = {"url": f"s3://{self.bucket}/dw", "endpoint": endpoint or self.server.endpoint}
        keys = {"accessKeyId": self.server.access_key, "secretAccessKey": self.server.secret_key}
        return carried_out(self.database, spec(archive=place | {"region": self.server.region}), now, secret=keys)

    def files(self, name: str) -> list[Path]:
        return sorted((self.server.folder / self.bucket).rglob(name))

    def nothing_left(self) -> None:
        """Both months are still here, whole, whatever the store has."""
        for month in (8, 9):
            assert self.database.execute(ROWS.format(month=month)) == [(100, 4950)]


@pytest.fixture
def bucket(flights: Postgres, s3_server: S3, s3_bucket: str) -> Bucket:
    return Bucket(flights, s3_server, s3_bucket)


def finished(run: Callable[[datetime], RunReport], tries: int) -> None:
    """Run until all is archived and dropped; each archive that differed costs a run."""
    for _ in range(tries):
        report = run(LATER)
        if not report.exit_code:
            assert report.retention is not None
            assert [(table.dropped, table.archived) for table in report.retention.tables] == [(2, 2)]
            return
        assert (report.exit_code, report.reason) == (65, "ArchiveMismatch"), report.message
    raise AssertionError(report.message)


def exchanged(first: Path, second: Path) -> None:
    """Let two objects change places."""
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


@pytest.mark.parametrize(("name", "words"), [("*.parquet", "SHA-256"), ("_manifest.json", "of something else: from")])
def test_two_that_changed_places(name: str, words: str, bucket: Bucket) -> None:
    assert bucket.run().exit_code == 0
    exchanged(*bucket.files(name))
    report = bucket.run(LATER)
    assert (report.exit_code, report.reason, words in report.message) == (65, "ArchiveMismatch", True), report.message
    bucket.nothing_left()
    finished(bucket.run, 3)


@pytest.mark.parametrize(("names", "words"), [
    (("*.parquet",), "bytes with SHA-256"), (("*.parquet", "_manifest.json"), "of something else: content hash"),
])  # fmt: skip
def test_an_older_version_of_itself(names: tuple[str, ...], words: str, bucket: Bucket, tmp_path: Path) -> None:
    """It is sound, and its manifest goes with it; but it is not what was proven last."""
    assert bucket.run().exit_code == 0
    old = {name: shutil.copy(bucket.files(name)[0], tmp_path / Path(name).suffix) for name in names}
    bucket.database.execute("INSERT INTO raw.flights_p20130801 VALUES ('2013-08-20', 777, 'late')")
    assert bucket.run(LATER).reason == "ChangedSinceArchive"
    again = NOW + timedelta(days=1)
    assert bucket.run(again).exit_code == 0
    for name, path in old.items():
        (new,) = (found for found in bucket.files(name) if "from=2013-08" in str(found))
        text = Path(path).read_bytes()
        if name == "_manifest.json":  # but for where it lies
            text = text.replace(_folder(text), _folder(new.read_bytes()))
        new.write_bytes(text)
    report = bucket.run(LATER)
    assert (report.exit_code, report.reason, words in report.message) == (65, "ArchiveMismatch", True), report.message
    assert bucket.database.execute(ROWS.format(month=8)) == [(101, 5727)]
    finished(bucket.run, 3)


def _folder(manifest: bytes) -> bytes:
    return manifest.partition(b'"folder": "')[2].partition(b'"')[0]


def refusing(method: str, status: int, times: int = 10_000) -> Answer:
    """Answer the first so many requests of a method with a status."""
    left = [times]

    def answer(found: str, path: str) -> int | None:
        if found != method or "dw/raw.flights" not in path or not left[0]:
            return None
        left[0] -= 1
        return status

    return answer


@pytest.mark.parametrize(("method", "status", "times", "wanted"), [
    ("PUT", 503, 2, (0, "Succeeded")), ("PUT", 503, 10_000, (75, "")), ("GET", 503, 10_000, (75, "")),
    ("PUT", 403, 10_000, (78, "AccessDenied")), ("GET", 403, 10_000, (78, "AccessDenied")),
])  # fmt: skip
def test_a_store_that_refuses(method: str, status: int, times: int, wanted: tuple[int, str], bucket: Bucket) -> None:
    """403 on GET: the key was taken back between the upload and the read-back."""
    with Front(bucket.server.host, bucket.server.port, refusing(method, status, times)) as front:
        report = bucket.run(endpoint=front.endpoint)
        assert report.exit_code == wanted[0], report.message
        assert wanted[1] in report.reason
        assert front.refused >= min(times, 2) or status == 403
        if report.exit_code:
            assert bucket.files("_manifest.json") == []
            assert bucket.run(LATER, endpoint=front.endpoint).exit_code == wanted[0]
    bucket.nothing_left()
    finished_after(bucket)


def finished_after(bucket: Bucket) -> None:
    """Archive with a store that works again, and drop when the grace is over."""
    assert bucket.run().exit_code == 0
    finished(bucket.run, 1)
    assert len(bucket.files("*.parquet")) == len(bucket.files("_manifest.json")) == 2


def test_a_store_that_is_slow(bucket: Bucket) -> None:
    with Front(bucket.server.host, bucket.server.port, delay_s=0.05) as front:
        assert bucket.run(endpoint=front.endpoint).exit_code == 0
        assert front.delayed > 5
    bucket.nothing_left()
    finished(bucket.run, 1)


def test_connections_that_break_in_the_middle(bucket: Bucket) -> None:
    spoiled = 0
    for direction in ("up", "down"):
        for after in (300, 2000, 5000, 9000):
            proxy = Proxy(bucket.server.host, bucket.server.port, "reset", direction, after)  # type: ignore[arg-type]
            try:
                report = bucket.run(endpoint=f"http://127.0.0.1:{proxy.port}")
            finally:
                proxy.close()
            spoiled += proxy.spoiled
            assert report.exit_code in (0, 75), report.message
            bucket.nothing_left()
            bucket.database.execute("UPDATE _millstream.retired SET state = 'detached', manifest = NULL")  # once more
    assert spoiled >= 4
    finished_after(bucket)


def test_a_key_that_is_taken_back_before_the_drop(bucket: Bucket) -> None:
    assert bucket.run().exit_code == 0
    good = bucket.server
    bucket.server = replace(good, secret_key="of-yesterday")
    report = bucket.run(LATER)
    assert (report.exit_code, report.reason) == (78, "AccessDenied"), report.message
    bucket.nothing_left()
    bucket.server = good
    finished(bucket.run, 1)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A small disk."""
    with server_folder("archive") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_volume_that_is_full(flights: Postgres, disk: Path) -> None:
    policy: RetentionPolicySpec = spec(disk)
    ballast, free = disk / "ballast", os.statvfs(disk)
    ballast.write_bytes(b"\0" * (free.f_bavail * free.f_frsize - 8192))
    flights.execute("UPDATE raw.flights SET tail = repeat(md5(id::text || tail), 20)")
    rows: Any = flights.execute(ROWS.format(month=8))
    report = carried_out(flights, policy, NOW)
    assert report.exit_code == 75, report.message
    assert str(disk) in report.message
    assert list(disk.rglob("_manifest.json")) == []
    assert carried_out(flights, policy, LATER).exit_code == 75
    assert flights.execute(ROWS.format(month=8)) == rows
    ballast.unlink()
    assert carried_out(flights, policy, LATER).exit_code == 0
    finished(lambda now: carried_out(flights, policy, now), 1)
    assert len(list(disk.rglob("*.parquet"))) == len(list(disk.rglob("_manifest.json"))) == 2
