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
            self._take(resource, scope, *await self._list(resource, scope))

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
        await asyncio.sleep(_GRACE_S)
        missed = [
            key for resource, scope, bodies, version in lists for key in self._missed(resource, scope, bodies, version)
        ]
        self._strikes = self._strikes + 1 if missed else 0
        if missed:
            _log.warning("resync.missed", extra={"objects": len(missed), "first": "/".join(missed[0])})
        for resource, scope, bodies, version in lists:
            self._take(resource, scope, bodies, version)

    def _missed(self, resource: Resource, scope: str | None, bodies: list[Body], version: int) -> list[Key]:
        listed = {key_of(body): body for body in bodies}
        known = {
            key: self._store.get(*key) for key in self._store.keys(resource.kind) if scope in (None, key.namespace)
        }
        late = [key for key, body in listed.items() if (have := known.get(key)) and version_of(have) < version_of(body)]
        ghosts = [key for key, have in known.items() if have and key not in listed and version_of(have) <= version]
        return late + ghosts

    def _take(self, resource: Resource, scope: str | None, bodies: list[Body], version: int) -> None:
        changed = self._store.replace(resource.kind, scope, bodies, version)
        keys = {key for key in self._store.keys(resource.kind) if scope in (None, key.namespace)}
        for key in keys | changed:
            self._want(key, random.uniform(0, min(30.0, len(keys) / 20)))  # noqa: S311 - spreads load

    async def _list(self, resource: Resource, scope: str | None) -> tuple[list[Body], int]:
        items, version = await self._client.list_all(resource, scope)
        return [cached(resource, item) for item in items], int(version)

    def _all(self) -> list[tuple[Resource, str | None]]:
        return [(resource, scope) for resource in OURS for scope in self._scopes]
