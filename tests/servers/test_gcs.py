"""What the GCS server of the tests honours: whoever trusts a green test on it trusts these."""

from __future__ import annotations

import threading

import obstore
import pytest
from obstore import exceptions as refused
from obstore.store import GCSStore

from servers.gcs import GCS
from servers.plugin import gcs_bucket, gcs_server

__all__ = ["gcs_bucket", "gcs_server"]


def store_of(server: GCS, bucket: str, key: str) -> GCSStore:
    return GCSStore(
        bucket, base_url=server.endpoint, service_account_key=key, client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )  # fmt: skip


@pytest.fixture
def store(gcs_server: GCS, gcs_bucket: str) -> GCSStore:
    return store_of(gcs_server, gcs_bucket, gcs_server.service_account)


def test_an_object_is_created_once_also_by_many_at_a_time(store: GCSStore) -> None:
    won: list[int] = []

    def race(runner: int) -> None:
        for number in range(10):
            try:
                obstore.put(store, f"race/{number}", b"%d" % runner, mode="create", use_multipart=False)
                won.append(runner)
            except (refused.AlreadyExistsError, refused.PreconditionError):
                pass

    threads = [threading.Thread(target=race, args=(runner,)) for runner in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 10
    before = bytes(obstore.get(store, "race/0").bytes())
    with pytest.raises((refused.AlreadyExistsError, refused.PreconditionError)):
        obstore.put(store, "race/0", b"later", mode="create", use_multipart=False)
    assert bytes(obstore.get(store, "race/0").bytes()) == before


def test_objects_survive_the_round_trip_also_in_parts(store: GCSStore) -> None:
    large = b"0123456789abcdef" * (12 * 2**16)
    obstore.put(store, "a/x=1/large.bin", large, use_multipart=True, chunk_size=5 * 2**20)
    obstore.put(store, "a/x=1/small.txt", b"x")
    listed = {entry["path"]: entry["size"] for entry in obstore.list(store, "a").collect()}
    assert listed == {"a/x=1/large.bin": len(large), "a/x=1/small.txt": 1}
    assert bytes(obstore.get(store, "a/x=1/large.bin").bytes()) == large
    assert bytes(obstore.get_range(store, "a/x=1/large.bin", start=16, end=20)) == b"0123"
    after = obstore.list(store, "a", offset="a/x=1/large.bin").collect()
    assert [entry["path"] for entry in after] == ["a/x=1/small.txt"]
    assert obstore.list_with_delimiter(store, "a")["common_prefixes"] == ["a/x=1"]


def test_a_range_is_refused_once_the_object_is_another(store: GCSStore) -> None:
    obstore.put(store, "a", b"one")
    tag = obstore.head(store, "a")["e_tag"]
    assert bytes(obstore.get(store, "a", options={"if_match": tag}).bytes()) == b"one"
    obstore.put(store, "a", b"two")
    with pytest.raises(refused.PreconditionError):
        obstore.get(store, "a", options={"if_match": tag})


def test_a_key_that_google_did_not_hand_out_is_refused(gcs_server: GCS, gcs_bucket: str) -> None:
    other = store_of(gcs_server, gcs_bucket, gcs_server.other_account)
    with pytest.raises(refused.UnauthenticatedError):
        obstore.put(other, "a", b"x")
    with pytest.raises(refused.UnauthenticatedError):
        obstore.get(other, "a")
