"""HTTP: /healthz and /readyz for the kubelet, /metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Probe = Callable[[], str | None]  # None is well; a text says what is not


async def serve_health(port: int, alive: Probe, ready: Probe) -> web.AppRunner:
    """Serve the probes; return the runner, to be cleaned up."""
    application = web.Application()
    application.router.add_get("/healthz", _answer(alive))
    application.router.add_get("/readyz", _answer(ready))
    return await _serve(application, port)


async def serve_metrics(port: int, registry: CollectorRegistry) -> web.AppRunner:
    """Serve the metrics; return the runner, to be cleaned up."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    return await _serve(application, port)


def _answer(probe: Probe) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        problem = probe()
        return web.Response(text=problem or "ok", status=503 if problem else 200)

    return answer


async def _serve(application: web.Application, port: int) -> web.AppRunner:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    return runner
