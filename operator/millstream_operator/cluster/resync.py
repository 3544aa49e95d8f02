"""Lists our kinds: once before anything is decided, then now and then.

Kopf brings the changes in between. A list that knows more than Kopf told, even after a while, means that a watch has
gone silent; the watchdog then ends the process, since nothing else restarts a watch.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

from millstream_operator.cluster.client import Client
from millstream_operator.cluster.errors import ApiError
from millstream_operator.cluster.resources import OURS, Resource, cached
from millstream_operator.cluster.store import Store, key_of, version_of
from millstream_operator.queue import Key

Body = dict[str, Any]

_GRACE_S = 15.0  # a watch event arrives within a second on a healthy server; the rest is for bad weather
_SPREAD_S = 30.0  # at most; 20 objects a second
_STRIKES = 2  # resyncs in a row that must find something missing
_log = logging.getLogger(__name__)


class Resync:
    """Keeps the cache of our kinds complete."""

    def __init__(
        self,
        client: Client,
        store: Store,
        scopes: Sequence[str | None],
        every_s: float,
        want: Callable[[Key, float], None],
    ) -> None:
        self._client, self._store, self._scopes = client, store, scopes
        self._every_s, self._want = every_s, want
        self._strikes = 0

    @property
    def silent(self) -> bool:
        """Whether changes have been missed again and again."""
        return self._strikes >= _STRIKES

    async def first(self) -> None:
        """Fill the cache and want every object, spread over a moment."""
        for resource, scope in self._all():
            bodies, version = await self._list(resource, scope)
            self._store.replace(resource.kind, scope, bodies, version)
            self._want_all(resource, scope)

    async def run(self) -> None:
        """Repeat until cancelled."""
        while True:
            await asyncio.sleep(self._every_s * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load
            try:
                await self._again()
            except ApiError as error:
                _log.warning("resync.failed", extra={"reason": str(error)})

    async def _again(self) -> None:
        lists = [(resource, scope, *await self._list(resource, scope)) for resource, scope in self._all()]
        behind = [found for item in lists for found in self._behind(*item)]
        for resource, scope, _, _ in lists:
            self._want_all(resource, scope)
        await asyncio.sleep(_GRACE_S)
        missed = [key for key, version in behind if (known := self._store.get(*key)) and version_of(known) <= version]
        self._strikes = self._strikes + 1 if missed else 0
        if missed:
            _log.warning("resync.missed", extra={"objects": len(missed), "first": "/".join(missed[0])})
        for item in lists:
            self._take(*item)

    def _behind(self, resource: Resource, scope: str | None, bodies: list[Body], version: int) -> list[tuple[Key, int]]:
        """Return what the cache has in an older version than the list, or has although the list does not."""
        listed = {key_of(body): version_of(body) for body in bodies}
        behind = []
        for key in self._keys(resource, scope):
            known = self._store.get(*key)
            newest = listed.get(key, version + 1)
            if known is not None and version_of(known) < newest:
                behind.append((key, newest - 1))
        return behind

    def _take(self, resource: Resource, scope: str | None, bodies: list[Body], version: int) -> None:
        for key in self._store.replace(resource.kind, scope, bodies, version):
            self._want(key, 0.0)

    def _want_all(self, resource: Resource, scope: str | None) -> None:
        keys = self._keys(resource, scope)
        for key in keys:
            self._want(key, random.uniform(0, min(_SPREAD_S, len(keys) / 20)))  # noqa: S311 - spreads load

    def _keys(self, resource: Resource, scope: str | None) -> list[Key]:
        return [key for key in self._store.keys(resource.kind) if scope in (None, key.namespace)]

    async def _list(self, resource: Resource, scope: str | None) -> tuple[list[Body], int]:
        items, version = await self._client.list_all(resource, scope)
        return [cached(resource, item) for item in items], int(version)

    def _all(self) -> list[tuple[Resource, str | None]]:
        return [(resource, scope) for resource in OURS for scope in self._scopes]
