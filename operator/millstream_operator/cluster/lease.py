"""Leader election by a Lease: one replica works, the others stand by.

As in client-go, another's lease counts as expired when we have not seen it change for its whole duration by our own
clock; clocks are never compared. The leader stops before a rival may start (renew deadline < duration).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from datetime import UTC, datetime
from typing import Any

from millstream_operator.cluster.client import Client
from millstream_operator.cluster.errors import ApiError, ConflictError, LeaseLostError, NotFoundError
from millstream_operator.cluster.resources import LEASE

DURATION_S = 15
RENEW_DEADLINE_S = 10.0
RETRY_S = 2.0
NAME = "millstream-operator"

Body = dict[str, Any]
_log = logging.getLogger(__name__)


class Lease:
    """Our claim to be the leader."""

    def __init__(self, client: Client, namespace: str, identity: str) -> None:
        self._client, self._namespace, self.identity = client, namespace, identity
        self._valid_until = 0.0
        self._seen: tuple[str, float] = ("", 0.0)  # the rival's record and when we first saw it

    def held(self) -> bool:
        """Return whether we are the leader for certain: the fencing check before every write."""
        return time.monotonic() < self._valid_until

    async def acquire(self) -> None:
        """Return once we are the leader."""
        while not await self._try():
            await asyncio.sleep(RETRY_S * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load
        _log.info("leader.acquired", extra={"identity": self.identity})

    async def keep(self) -> None:
        """Renew until cancelled; raises LeaseLostError when that fails for longer than the deadline."""
        while True:
            await asyncio.sleep(RETRY_S)
            await self._try()
            if not self.held():
                raise LeaseLostError(f"lease {self._namespace}/{NAME} was not renewed within {RENEW_DEADLINE_S:g} s")

    async def release(self) -> None:
        """Give the lease back, so that a rival need not wait for its end."""
        if not self.held():
            return
        self._valid_until = 0.0
        try:
            async with asyncio.timeout(RENEW_DEADLINE_S / 2):  # a stop must not wait for an API server that is silent
                await self._give_back()
        except (ApiError, TimeoutError) as error:
            _log.warning("leader.release_failed", extra={"reason": str(error)})

    async def _give_back(self) -> None:
        found = await self._get()
        if found is not None and found["spec"].get("holderIdentity") == self.identity:
            spec = found["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1}
            await self._write("PUT", NAME, found | {"spec": spec})
            _log.info("leader.released", extra={"identity": self.identity})

    async def _try(self) -> bool:
        started = time.monotonic()
        try:
            async with asyncio.timeout(RENEW_DEADLINE_S / 2):
                taken = await self._claim()
        except ConflictError:
            taken = False
        except (ApiError, TimeoutError) as error:
            _log.warning("leader.unreachable", extra={"reason": str(error)})
            return False
        if taken:
            self._valid_until = started + RENEW_DEADLINE_S
        elif self.held():
            self._valid_until = 0.0  # someone else has it
        return taken

    async def _claim(self) -> bool:
        found = await self._get()
        if found is None:
            await self._write("POST", "", {"metadata": {"name": NAME}, "spec": self._spec({})})
            return True
        spec = found.get("spec") or {}
        if spec.get("holderIdentity") not in ("", None, self.identity) and not self._expired(found):
            return False
        await self._write("PUT", NAME, found | {"spec": self._spec(spec)})
        return True

    def _expired(self, found: Body) -> bool:
        version, now = found["metadata"]["resourceVersion"], time.monotonic()
        if version != self._seen[0]:
            self._seen = (version, now)
        return now - self._seen[1] > float(found["spec"].get("leaseDurationSeconds") or DURATION_S)

    def _spec(self, old: Body) -> Body:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = old.get("holderIdentity") == self.identity
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": DURATION_S,
            "renewTime": now,
            "acquireTime": old.get("acquireTime", now) if ours else now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if ours else 1),
        }

    async def _get(self) -> Body | None:
        try:
            return await self._client.request("GET", LEASE.path(self._namespace, NAME), limited=False)
        except NotFoundError:
            return None

    async def _write(self, method: str, name: str, body: Body) -> None:
        document = {"apiVersion": LEASE.api_version, "kind": "Lease", **body}
        await self._client.request(method, LEASE.path(self._namespace, name), body=document, limited=False)


class Unfenced(Lease):
    """For a single replica without election: always the leader."""

    def held(self) -> bool:
        """Return True."""
        return True

    async def acquire(self) -> None:
        """Return at once."""

    async def keep(self) -> None:
        """Never end."""
        await asyncio.Event().wait()

    async def release(self) -> None:
        """Do nothing."""
