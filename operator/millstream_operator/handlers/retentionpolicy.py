"""RetentionPolicy: every event only enqueues."""

from __future__ import annotations

from typing import Any

import kopf

from millstream_api import GROUP, VERSION


@kopf.on.event(GROUP, VERSION, "retentionpolicies")
async def retentionpolicy(event: Any, memo: Any, **_: Any) -> None:
    """Take the event to the controller."""
    memo.observe(event["object"], event["type"] == "DELETED")
