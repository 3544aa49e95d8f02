"""How the tests of the rest source open it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from millstream_pipelines.batch import Batch
from millstream_pipelines.registry import configured
from millstream_pipelines.sources.base import ReadRequest
from millstream_pipelines.sources.rest import RestSource
from scripted_api import ScriptedApi

OWNER = "source 'api'"
QUICK = {"retry": {"limit": 2, "backoffSeconds": 0.001}, "timeoutSeconds": 5}


def source(api: ScriptedApi, secret: Mapping[str, str] | None = None, /, **config: Any) -> RestSource:
    """Open the source as the runner does; `stream` is the one stream's configuration."""
    stream = {"name": "items", "path": "/items", **config.pop("stream", {})}
    merged = {"baseUrl": api.url, **QUICK, "streams": [stream], **config}
    return RestSource(configured(RestSource.Config, merged, secret or {}, OWNER), OWNER)


def batches(api: ScriptedApi, secret: Mapping[str, str] | None = None, /, **config: Any) -> list[Batch]:
    """Read the stream; `request` holds fields of the ReadRequest."""
    request = config.pop("request", {})
    opened = source(api, secret, **config)
    try:
        return list(opened.read(ReadRequest("items", **request)))
    finally:
        opened.close()


def rows(api: ScriptedApi, secret: Mapping[str, str] | None = None, /, **config: Any) -> list[dict[str, Any]]:
    """Read the stream and return its rows."""
    return [row for batch in batches(api, secret, **config) for row in batch.data.to_pylist()]
