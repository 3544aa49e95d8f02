"""What the watchdog calls blind, and what it does not."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from api.manifests import body, pipeline_spec
from millstream_operator import watchdog
from millstream_operator.cluster.reflector import Reflector
from millstream_operator.cluster.resync import Resync
from millstream_operator.cluster.store import Store
from millstream_operator.metrics import Metrics


async def test_dead_kopf_watchers_are_noticed_after_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    check = watchdog.kopf_watchers(2)
    tasks = [asyncio.create_task(forever(), name=f"watcher for {number}") for number in range(2)]
    await asyncio.sleep(0)
    later = time.monotonic() + 1000
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: later)
    assert check() is None
    tasks[0].cancel()
    await asyncio.sleep(0)
    assert check() == "1 of 2 Kopf watchers are alive"
    tasks[1].cancel()


def test_silent_reflectors_are_noticed() -> None:
    quiet = cast("Reflector", SimpleNamespace(name="jobs in shop", heard_at=time.monotonic() - 700))
    fresh = cast("Reflector", SimpleNamespace(name="pods in shop", heard_at=time.monotonic()))
    assert watchdog.reflectors_heard([fresh])() is None
    assert watchdog.reflectors_heard([fresh, quiet])() == "nothing heard of jobs in shop for 600 s"


async def test_watchdog_ends_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_EVERY_S", 0.0)
    dog = watchdog.Watchdog([lambda: None, lambda: "blind"], Metrics())
    with pytest.raises(watchdog.BlindError, match="blind"):
        await dog.run()


def pipeline(name: str, version: str) -> dict[str, Any]:
    return body("Pipeline", name, pipeline_spec(), resourceVersion=version)


async def test_changes_that_kopf_did_not_bring_are_strikes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that is newer than the cache, and stays newer, twice in a row: the watch is silent."""
    monkeypatch.setattr("millstream_operator.cluster.resync._GRACE_S", 0.0)
    store, wanted = Store(), []
    lists = {"Pipeline": ([pipeline("a", "5")], "5")}

    async def list_all(resource: Any, scope: str | None) -> tuple[list[dict[str, Any]], str]:
        return lists.get(resource.kind, ([], "5"))

    client = cast("Any", SimpleNamespace(list_all=list_all))
    resync = Resync(client, store, [None], 600, lambda key, _: wanted.append(key.name))
    await resync.first()
    assert (wanted, resync.silent) == (["a"], False)
    await resync._again()
    assert not resync.silent
    for version in ("7", "9"):
        lists["Pipeline"] = ([pipeline("a", version)], version)
        await resync._again()
    assert resync.silent
    assert store.get("Pipeline", "shop", "a")["metadata"]["resourceVersion"] == "9"  # type: ignore[index]
    await resync._again()
    assert not resync.silent
    lists["Pipeline"] = ([], "11")
    await resync._again()
    assert resync._strikes == 1
    assert store.keys("Pipeline") == []
