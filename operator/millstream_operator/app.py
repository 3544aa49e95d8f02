"""The operator from start to stop: CRDs, leadership, caches, Kopf, workers, watchdog; then everything down again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any

import kopf

from millstream_api import API_VERSION, KINDS
from millstream_api.meta import LABEL_MANAGED_BY, MANAGED_BY
from millstream_operator import handlers, watchdog
from millstream_operator.cluster.client import Client, connect
from millstream_operator.cluster.errors import ApiError, LeaseLostError
from millstream_operator.cluster.lease import NAME, Lease, Unfenced
from millstream_operator.cluster.recorder import Recorder
from millstream_operator.cluster.reflector import Reflector
from millstream_operator.cluster.resources import CHILDREN
from millstream_operator.cluster.resync import Resync
from millstream_operator.cluster.store import Store
from millstream_operator.controller import Controller
from millstream_operator.health import serve_health, serve_metrics
from millstream_operator.metrics import Metrics, PipelineGauges, Sample
from millstream_operator.objects.podtemplate import RunnerDefaults
from millstream_operator.queue import TokenBucket, WorkQueue
from millstream_operator.reconcile.observed import instant
from millstream_operator.retention_metrics import RetentionGauges
from millstream_operator.settings import Settings

_SELECTOR = f"{LABEL_MANAGED_BY}={MANAGED_BY}"
_CRD_WAIT_S = 5.0
_LOOP_STALL_S = 60.0  # a loop that did not turn for a minute is stuck in a call
_STANDBY = "standing by: another replica holds the lease"
_log = logging.getLogger(__name__)


class Operator:
    """One process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._store = Store()
        self._queue = WorkQueue(time.monotonic, self._metrics)
        self._state: str | None = "starting"  # why not ready
        self._watchdog: watchdog.Watchdog | None = None
        self._metrics.workers.set(settings.workers)
        self._metrics.registry.register(PipelineGauges(self._freshness, self._quality))
        self._metrics.registry.register(RetentionGauges(self._policies))

    async def run(self) -> int:
        """Run until a signal (0) or until only a new process helps (1)."""
        stop = asyncio.Event()
        _on_signals(stop)
        servers = [
            await serve_health(self._settings.port, self._alive, lambda: self._state),
            await serve_metrics(self._settings.metrics_port, self._metrics.registry),
        ]
        qps = self._settings.api_qps
        client = await connect(self._metrics, TokenBucket(qps, 2 * qps, time.monotonic))
        try:
            return await self._serve(client, stop)
        finally:
            await client.close()
            for server in servers:
                await server.cleanup()

    async def _serve(self, client: Client, stop: asyncio.Event) -> int:
        settings = self._settings
        lease = (Lease if settings.leader_election else Unfenced)(client, settings.pod_namespace, settings.pod_name)
        stopped = asyncio.create_task(stop.wait(), name="stop")
        try:
            for step in (self._wait_for_crds(client), self._wait_for_lead(lease)):
                if not await _unless(stopped, step):
                    return 0
            return await self._lead(client, lease, stopped, stop)
        finally:
            stopped.cancel()
            await lease.release()

    async def _lead(self, client: Client, lease: Lease, stopped: asyncio.Task[bool], stop: asyncio.Event) -> int:
        self._metrics.leader.labels(NAME).set(1)
        coroutines = self._parts(client, lease, stop)
        tasks = [asyncio.create_task(part, name=name) for name, part in coroutines]
        try:
            done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._state = "stopping"
            for task in tasks:
                task.cancel()
            await lease.release()  # closes the fence first; Kopf takes a few seconds to end, a rival need not wait
            await asyncio.gather(*tasks, return_exceptions=True)
        return _verdict(done, stopped)

    def _parts(self, client: Client, lease: Lease, stop: asyncio.Event) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        settings = self._settings
        runner = RunnerDefaults(settings.runner_image, settings.image_pull_policy, settings.runner_service_account)
        recorder = Recorder(client, settings.pod_name)
        controller = Controller(client, self._store, self._queue, recorder, self._metrics, lease, runner)
        reflectors = [
            Reflector(client, self._store, resource, scope, _SELECTOR, controller.notice)
            for resource in CHILDREN
            for scope in settings.scopes
        ]
        resync = Resync(client, self._store, settings.scopes, settings.resync_seconds, self._queue.add_after)
        checks = [
            watchdog.reflectors_heard(reflectors),
            watchdog.kopf_watchers(len(KINDS) * len(settings.scopes)),
            watchdog.kopf_heard(resync),
        ]
        self._watchdog = watchdog.Watchdog(checks, self._metrics)
        return [
            ("lease", lease.keep()),
            ("recorder", recorder.run()),
            ("watchdog", self._watchdog.run()),
            *((f"reflector {item.name}", item.run()) for item in reflectors),
            ("control", self._control(controller, reflectors, resync, stop)),
        ]

    async def _control(
        self, controller: Controller, reflectors: list[Reflector], resync: Resync, stop: asyncio.Event
    ) -> None:
        """Decide nothing before the cache is complete: what is not seen yet would be made again."""
        for reflector in reflectors:
            await reflector.synced.wait()
        await _patiently(resync.first)
        self._state = None
        _log.info("cache.complete", extra={"objects": sum(len(self._store.keys(kind.name)) for kind in KINDS)})
        started = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._kopf(controller, stop, started), name="kopf")
            group.create_task(resync.run(), name="resync")
            for number in range(self._settings.workers):
                group.create_task(controller.work(), name=f"worker {number}")
            await started.wait()
            _on_signals(stop)  # Kopf has put its own handlers in place

    async def _kopf(self, controller: Controller, stop: asyncio.Event, started: asyncio.Event) -> None:
        names = self._settings.namespaces
        scope: dict[str, Any] = {"namespaces": names} if names else {"clusterwide": True}
        registry = handlers.registry()
        await kopf.operator(
            registry=registry, memo=controller, standalone=True, stop_flag=stop, ready_flag=started, **scope
        )
        stop.set()  # it ended without an error: somebody wants us to stop

    async def _wait_for_crds(self, client: Client) -> None:
        wanted = {kind.plural for kind in KINDS}
        while True:
            try:
                found = await client.request("GET", f"/apis/{API_VERSION}")
                missing = wanted - {item["name"] for item in found.get("resources", [])}
            except ApiError as error:
                missing = wanted
                _log.debug("crds.unknown", extra={"reason": str(error)})
            if not missing:
                return
            self._state = (
                f"CRDs are missing: {', '.join(sorted(missing))}; apply crds/ or set crds.enabled in the chart"
            )
            _log.warning("crds.missing", extra={"missing": sorted(missing), "cure": "kubectl apply -f crds/"})
            await asyncio.sleep(_CRD_WAIT_S)

    async def _wait_for_lead(self, lease: Lease) -> None:
        self._state = None  # a standby is ready: it can take over at any moment
        _log.info("leader.waiting", extra={"identity": lease.identity})
        await lease.acquire()
        self._state = "reading the cluster"

    def _alive(self) -> str | None:
        if self._watchdog is None:
            return None
        stalled_s = time.monotonic() - self._watchdog.beat
        return f"the event loop has not turned for {stalled_s:.0f} s" if stalled_s > _LOOP_STALL_S else None

    def _freshness(self) -> Iterator[Sample]:
        now = datetime.now(UTC)
        for namespace, name, status in self._statuses():
            if status.get("freshness"):
                yield namespace, name, (now - instant(status["freshness"])).total_seconds()

    def _quality(self) -> Iterator[Sample]:
        for namespace, name, status in self._statuses():
            passed, _, ran = status.get("quality", "").partition("/")
            if ran and int(ran):
                yield namespace, name, int(passed) / int(ran)

    def _policies(self) -> Iterator[dict[str, Any]]:
        found = (self._store.get(*key) for key in self._store.keys("RetentionPolicy"))
        yield from (body for body in found if body is not None)

    def _statuses(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for key in self._store.keys("Pipeline"):
            body = self._store.get(*key)
            yield key.namespace, key.name, (body or {}).get("status", {})


def _on_signals(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def _unless(stopped: asyncio.Task[bool], step: Coroutine[Any, Any, None]) -> bool:
    """Run a step; return False when the stop came first."""
    task = asyncio.create_task(step)
    await asyncio.wait([stopped, task], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
        return True
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return False


async def _patiently(step: Callable[[], Awaitable[None]]) -> None:
    delay_s = 1.0
    while True:
        try:
            return await step()
        except ApiError as error:
            _log.warning("start.retry", extra={"reason": str(error), "retry_s": delay_s})
            await asyncio.sleep(delay_s)
            delay_s = min(30.0, delay_s * 2)


def _verdict(done: set[asyncio.Task[Any]], stopped: asyncio.Task[bool]) -> int:
    for task in done - {stopped}:
        error = None if task.cancelled() else task.exception()
        reasons = error.exceptions if isinstance(error, BaseExceptionGroup) else (error,)
        for reason in reasons:
            lost = isinstance(reason, LeaseLostError | watchdog.BlindError)
            _log.error(
                "operator.ends",
                extra={"part": task.get_name(), "reason": repr(reason)},
                exc_info=None if lost else reason,
            )
    return 0 if stopped in done else 1
