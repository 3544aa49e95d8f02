"""List, then watch, for ever: keeps the cache of one kind of child true. Never gives up, never stays silent."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any

from millstream_operator.cluster.client import Client
from millstream_operator.cluster.errors import ApiError, GoneError
from millstream_operator.cluster.resources import Resource, cached
from millstream_operator.cluster.store import Store

Body = dict[str, Any]
Notice = Callable[[Body], None]

_FIRST_BACKOFF_S = 1.0
_LAST_BACKOFF_S = 30.0
_log = logging.getLogger(__name__)


class Reflector:
    """Mirrors the objects of one resource in one namespace (None: all) into the cache."""

    def __init__(
        self, client: Client, store: Store, resource: Resource, namespace: str | None, selector: str, notice: Notice
    ) -> None:
        self._client, self._store, self._notice = client, store, notice
        self._resource, self._namespace, self._selector = resource, namespace, selector
        self.synced = asyncio.Event()
        self.heard_at = time.monotonic()
        self.name = f"{resource.plural} in {namespace or 'all namespaces'}"

    async def run(self) -> None:
        """Mirror until cancelled."""
        failures = 0
        while True:
            try:
                version = await self._list()
                failures = 0
                while True:
                    version = await self._watch(version)
            except GoneError:
                continue  # too far behind: the list catches up
            except ApiError as error:
                failures += 1
                delay_s = min(_LAST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(failures, 8)) * random.uniform(0.5, 1.0)  # noqa: S311
                _log.warning("watch.broken", extra={"what": self.name, "reason": str(error), "retry_s": delay_s})
                await asyncio.sleep(delay_s)

    async def _list(self) -> str:
        items, version = await self._client.list_all(self._resource, self._namespace, self._selector)
        bodies = [cached(self._resource, item) for item in items]
        before = {key: self._store.get(*key) for key in self._store.keys(self._resource.kind)}
        changed = self._store.replace(self._resource.kind, self._namespace, bodies, int(version))
        self.heard_at = time.monotonic()
        self.synced.set()
        for key in changed:
            body = self._store.get(*key) or before.get(key)
            if body is not None:
                self._notice(body)
        return version

    async def _watch(self, version: str) -> str:
        async for event in self._client.watch(self._resource, self._namespace, version, self._selector):
            self.heard_at = time.monotonic()
            version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] == "BOOKMARK":
                continue
            body = cached(self._resource, event["object"])
            taken = self._store.remove(body) if event["type"] == "DELETED" else self._store.put(body)
            if taken:
                self._notice(body)
        self.heard_at = time.monotonic()
        return version

    def __repr__(self) -> str:
        return f"Reflector({self.name})"
