"""How Kopf runs: login, list and watch, `on.event`. Whatever writes or polls is off (reasons: docs/decisions)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import kopf


class Endless:
    """Waits between tries of a request, in seconds: ever longer, jittered, without end.

    Kopf's default gives up after 54 s, and a watcher that has given up is never started again.
    """

    def __iter__(self) -> Iterator[float]:
        """Yield the waits."""
        delay_s = 0.5
        while True:
            yield delay_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load
            delay_s = min(30.0, delay_s * 2)


@kopf.on.login()
def login(**kwargs: Any) -> Any:
    """Use the pod's service account, or the kubeconfig; the token is read again when the server refuses it."""
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


@kopf.on.startup()
async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Set Kopf up as a reader that never writes."""
    settings.posting.enabled = False
    settings.scanning.disabled = True  # together with the watchdog only: see watchdog.py
    settings.peering.standalone = True
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = Endless()
    settings.watching.server_timeout = 300
    settings.watching.inactivity_timeout = 90
    settings.watching.chunk_size = 500
    settings.process.ultimate_exiting_timeout = 20
