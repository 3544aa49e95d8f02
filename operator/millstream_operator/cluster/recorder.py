"""Kubernetes Events: repeated ones counted instead of multiplied, each object on a budget, never in anyone's way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from millstream_api.meta import FIELD_MANAGER
from millstream_operator.cluster.client import Client
from millstream_operator.cluster.errors import ApiError, NotFoundError
from millstream_operator.cluster.resources import EVENT
from millstream_operator.objects.naming import short_hash
from millstream_operator.queue import TokenBucket
from millstream_operator.reconcile.outcome import Note

Body = dict[str, Any]

_BURST = 25  # per object; client-go's numbers
_PER_SECOND = 1 / 60
_REMEMBERED = 4096  # events and budgets kept in memory
_WAITING = 1000  # events not yet sent; more than this and the oldest facts are already in the status
_MESSAGE_LIMIT = 1024  # the API's own limit
_log = logging.getLogger(__name__)


@dataclass
class _Told:
    name: str
    first: str
    count: int = 0


class Recorder:
    """Sends events in the background."""

    def __init__(self, client: Client, instance: str) -> None:
        self._client, self._instance = client, instance
        self._told: OrderedDict[tuple[str, str, str], _Told] = OrderedDict()
        self._budgets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._queue: asyncio.Queue[tuple[Body, Note]] = asyncio.Queue(_WAITING)

    def record(self, body: Body, note: Note) -> None:
        """Want an event on an object; dropped when there are far too many."""
        uid = body["metadata"]["uid"]
        budget = self._budgets.setdefault(uid, TokenBucket(_PER_SECOND, _BURST, time.monotonic))
        _bounded(self._budgets)
        if budget.try_take() and not self._queue.full():
            self._queue.put_nowait((body, note))

    async def flushed(self) -> None:
        """Return when everything recorded so far is sent."""
        await self._queue.join()

    async def run(self) -> None:
        """Send until cancelled. An event that cannot be sent is not worth a retry: the status says the same."""
        while True:
            body, note = await self._queue.get()
            try:
                await self._send(body, note)
            except ApiError as error:
                _log.warning("event.not_sent", extra={"reason": str(error)})
            finally:
                self._queue.task_done()

    async def _send(self, body: Body, note: Note) -> None:
        meta, now = body["metadata"], datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        fingerprint = (meta["uid"], note.reason, note.message)
        told = self._told.setdefault(
            fingerprint, _Told(f"{meta['name'][:200]}.{short_hash(*fingerprint, now, self._instance)}", now)
        )
        self._told.move_to_end(fingerprint)
        _bounded(self._told)
        told.count += 1
        path = EVENT.path(meta["namespace"])
        if told.count > 1:
            change = {"count": told.count, "lastTimestamp": now}
            try:
                await self._client.request(
                    "PATCH", f"{path}/{told.name}", body=change, content="application/merge-patch+json"
                )
            except NotFoundError:  # events are deleted after an hour
                told.count = 1
        if told.count == 1:
            await self._client.request("POST", path, body=self._event(body, note, told, now))

    def _event(self, body: Body, note: Note, told: _Told, now: str) -> Body:
        meta = body["metadata"]
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": told.name, "namespace": meta["namespace"]},
            "involvedObject": {
                "apiVersion": body["apiVersion"],
                "kind": body["kind"],
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
            },
            "type": note.type,
            "reason": note.reason,
            "message": note.message[:_MESSAGE_LIMIT],
            "source": {"component": FIELD_MANAGER, "host": self._instance},
            "reportingComponent": FIELD_MANAGER,
            "reportingInstance": self._instance,
            "firstTimestamp": told.first,
            "lastTimestamp": now,
            "count": 1,
        }


def _bounded(memory: OrderedDict[Any, Any]) -> None:
    while len(memory) > _REMEMBERED:
        memory.popitem(last=False)
