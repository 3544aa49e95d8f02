"""An archive in a real S3 server's store: what is spoilt there is found and told; so are wrong keys and buckets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_pipelines import failpoints
from millstream_pipelines.retention import archive as archives
from retention.policies import FLIGHTS, carried_out, months, spec
from servers.plugin import postgres_database, postgres_server, s3_bucket, s3_server
from servers.postgres import Postgres
from servers.s3 import S3

__all__ = ["postgres_database", "postgres_server", "s3_bucket", "s3_server"]

NOW = datetime(2014, 1, 10, tzinfo=UTC)  # August and September are too old
LATER = NOW + timedelta(days=8)


class Kept:
    """A table and its policy, archived in a bucket."""

    def __init__(self, database: Postgres, server: S3, bucket: str) -> None:
        self.database, self.server, self.bucket = database, server, bucket
        database.execute(FLIGHTS)
        months(database, 8, 12)

    def policy(self, **more: Any) -> RetentionPolicySpec:
        given = {"url": f"s3://{self.bucket}/dw", "endpoint": self.server.endpoint, "region": self.server.region}
        return spec(archive=given | more)

    def run(self, now: datetime = NOW, **more: Any) -> tuple[int, str, str]:
        """Carry the policy out; return exit code, reason and message."""
        keys = {"accessKeyId": self.server.access_key, "secretAccessKey": self.server.secret_key}
        report = carried_out(self.database, self.policy(**more), now, secret=keys)
        return report.exit_code, report.reason, report.message

    def objects(self) -> list[Path]:
        return sorted((self.server.folder / self.bucket).rglob("*.parquet"))

    def manifests(self) -> list[Path]:
        return sorted((self.server.folder / self.bucket).rglob("_manifest.json"))


@pytest.fixture
def kept(postgres_database: Postgres, s3_server: S3, s3_bucket: str) -> Kept:
    return Kept(postgres_database, s3_server, s3_bucket)


def _corrupt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _swap(path: Path) -> None:
    """Put another partition's object, sound in itself, in its place."""
    others = [other for other in path.parents[2].rglob("*.parquet") if other != path]
    path.write_bytes(others[0].read_bytes() if others else b"PAR1")


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (Path.unlink, "is gone"), (_corrupt, "SHA-256"), (_truncate, "bytes with SHA-256"), (_swap, "SHA-256"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "words"), DAMAGE)
def test_an_object_spoilt_between_upload_and_read_back(
    damage: Callable[[Path], None], words: str, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(place: str) -> None:
        if place == "exported":
            damage(kept.objects()[-1])

    monkeypatch.setattr(archives, "reached", meanwhile)
    code, reason, message = kept.run()
    assert (code, reason, words in message) == (65, "ArchiveMismatch", True), message
    assert f"its archive in 's3://{kept.bucket}/dw' is not what it must be: object 'raw.flights/from=2013-08" in message
    assert kept.manifests() == []
    monkeypatch.setattr(archives, "reached", failpoints.reached)
    assert kept.run()[2].endswith("2 archived and verified")
    assert len(kept.objects()) == 2, "what was spoilt is removed"


@pytest.mark.parametrize(("damage", "words"), DAMAGE)
def test_an_object_spoilt_between_archive_and_drop(damage: Callable[[Path], None], words: str, kept: Kept) -> None:
    assert kept.run()[0] == 0
    damage(kept.objects()[0])
    code, reason, message = kept.run(LATER)
    assert (code, reason, words in message) == (65, "ArchiveMismatch", True), message
    assert kept.database.execute("SELECT count(*) FROM raw.flights_p20130801") == [(100,)]
    assert "1 dropped" in kept.run(LATER)[2], "it was archived anew"


def test_a_manifest_spoilt_in_the_store(kept: Kept) -> None:
    assert kept.run()[0] == 0
    kept.manifests()[0].write_text("{}")
    code, reason, message = kept.run(LATER)
    assert (code, reason, "is no manifest of ours" in message) == (65, "ArchiveUnreadable", True), message
    assert kept.database.execute("SELECT count(*) FROM raw.flights_p20130801") == [(100,)]


def test_wrong_keys_and_a_missing_bucket_are_named(kept: Kept) -> None:
    code, reason, message = kept.run(url="s3://nobody-made-this/dw")
    assert (code, "nobody-made-this" in message) == (78, True), (reason, message)
    kept.server = replace(kept.server, secret_key="of-somebody-else")
    code, reason, message = kept.run()
    assert (code, "secretAccessKey" in message) == (78, True), (reason, message)
    assert "of-somebody-else" not in message
    assert kept.database.execute("SELECT count(*) FROM raw.flights_p20130801") == [(100,)]
