"""A thin client over the async `kubernetes` package: JSON in, JSON out, every request counted and limited.

We use its configuration, login and connections, not its models: those would cost memory and lose unknown fields.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.incluster_config import load_incluster_config
from kubernetes.aio.config.kube_config import load_kube_config

from millstream_api.meta import FIELD_MANAGER
from millstream_operator.cluster.errors import NotFoundError, TemporaryApiError, from_status
from millstream_operator.cluster.resources import BY_KIND, Body, Resource
from millstream_operator.metrics import Metrics
from millstream_operator.queue import TokenBucket
from millstream_operator.reconcile.outcome import Ref

USER_AGENT = FIELD_MANAGER
REQUEST_TIMEOUT_S = 30
PAGE_SIZE = 500
# The server ends a watch after this; bookmarks come every minute, so a longer silence is a dead connection.
WATCH_TIMEOUT_S = 300
SILENCE_S = 90

_APPLY = {"fieldManager": FIELD_MANAGER, "force": "true"}
_PARTIAL = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1,application/json"


async def connect(metrics: Metrics, bucket: TokenBucket) -> Client:
    """Return a client for the cluster we run in, or the one that KUBECONFIG names."""
    configuration = Configuration()
    if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        path = os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
        await load_kube_config(config_file=path, client_configuration=configuration)  # type: ignore[no-untyped-call]
    api = ApiClient(configuration)
    api.user_agent = USER_AGENT
    return Client(api, metrics, bucket)


class Client:
    """Reads, applies, deletes and watches."""

    def __init__(self, api: ApiClient, metrics: Metrics, bucket: TokenBucket) -> None:
        self._api, self._metrics, self._bucket = api, metrics, bucket

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Body:
        """Return an object (its metadata only, where the resource says so); raises NotFoundError."""
        accept = _PARTIAL.format("") if resource.metadata_only else "application/json"
        return await self.request("GET", resource.path(namespace, name), accept=accept)

    async def find(self, resource: Resource, namespace: str | None, name: str) -> Body | None:
        """Return an object, or None where there is none."""
        try:
            return await self.get(resource, namespace, name)
        except NotFoundError:
            return None

    async def list_all(
        self, resource: Resource, namespace: str | None, selector: str | None = None
    ) -> tuple[list[Body], str]:
        """Return all objects, read page by page, and the resource version to watch from."""
        accept = _PARTIAL.format("List") if resource.metadata_only else "application/json"
        query = {"limit": str(PAGE_SIZE)} | ({"labelSelector": selector} if selector else {})
        items: list[Body] = []
        while True:
            page = await self.request("GET", resource.path(namespace), query=query, accept=accept)
            items += page.get("items") or []
            token = page["metadata"].get("continue")
            if not token:
                return items, page["metadata"]["resourceVersion"]
            query["continue"] = token

    async def watch(
        self, resource: Resource, namespace: str | None, version: str, selector: str | None = None
    ) -> AsyncIterator[Body]:
        """Yield watch events until the server ends the stream; raises GoneError, and TemporaryApiError on silence."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_TIMEOUT_S),
        } | ({"labelSelector": selector} if selector else {})
        accept = _PARTIAL.format("") if resource.metadata_only else "application/json"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_S, sock_read=SILENCE_S)
        response = await self._send("GET", resource.path(namespace), query, None, accept, "", timeout)
        try:
            async for line in _lines(response.content):
                event: Body = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise from_status(status.get("code", 0), status.get("message", "watch failed"))
                yield event
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TemporaryApiError(f"the watch of {resource.plural} broke: {error}") from error
        finally:
            response.close()

    async def apply(self, manifest: Body) -> Body:
        """Apply a manifest server-side and return the object."""
        meta = manifest["metadata"]
        path = BY_KIND[manifest["kind"]].path(meta["namespace"], meta["name"])
        return await self.request("PATCH", path, query=_APPLY, body=manifest, content="application/apply-patch+yaml")

    async def apply_status(self, body: Body, status: Body) -> Body:
        """Apply the whole status of an object of ours, as long as it still is the version in `body`.

        A UID would not do as a precondition: the status of a custom resource ignores it, and a namesake would get it.
        """
        meta = body["metadata"]
        document = {
            "apiVersion": body["apiVersion"],
            "kind": body["kind"],
            "metadata": {key: meta[key] for key in ("name", "namespace", "resourceVersion")},
            "status": status,
        }
        path = BY_KIND[body["kind"]].path(meta["namespace"], meta["name"], "status")
        return await self.request("PATCH", path, query=_APPLY, body=document, content="application/apply-patch+yaml")

    async def delete(self, ref: Ref) -> None:
        """Delete an object; that it is gone already is fine."""
        options: Body = {"propagationPolicy": "Foreground" if ref.wait_for_pods else "Background"}
        if ref.uid:
            options["preconditions"] = {"uid": ref.uid}
        try:
            await self.request("DELETE", BY_KIND[ref.kind].path(ref.namespace, ref.name), body=options)
        except NotFoundError:
            return

    async def request(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Body | None = None,
        accept: str = "application/json",
        content: str = "application/json",
        limited: bool = True,
    ) -> Body:
        """Send one request and return its JSON; raises the errors of `cluster.errors`."""
        if limited and (wait_s := self._bucket.reserve()) > 0:
            await asyncio.sleep(wait_s)
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        response = await self._send(method, path, query or {}, body, accept, content, timeout)
        try:
            answer: Body = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise TemporaryApiError(f"{method} {path}: {error}") from error
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: Body | None,
        accept: str,
        content: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": accept} | ({"Content-Type": content} if content else {})
        serialized = await self._api.param_serialize(
            method, path, None, list(query.items()), headers, body, auth_settings=["BearerToken"]
        )
        try:
            answer = await self._api.call_api(*serialized, _request_timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count(method, "error", path)
            raise TemporaryApiError(f"{method} {path}: {type(error).__name__}: {error}") from error
        response: aiohttp.ClientResponse = answer.response
        self._count(method, str(response.status), path)
        if response.status >= 400:
            raise await _error(method, path, response)
        return response

    def _count(self, method: str, code: str, path: str) -> None:
        resource = next((item.plural for item in BY_KIND.values() if f"/{item.plural}" in path), "other")
        self._metrics.requests.labels(method, code, resource).inc()


async def _error(method: str, path: str, response: aiohttp.ClientResponse) -> Exception:
    text = await response.text()
    try:
        message = str(json.loads(text).get("message", text))
    except ValueError:
        message = text
    wait_s = response.headers.get("Retry-After", "")
    return from_status(response.status, f"{method} {path}: {message}", float(wait_s) if wait_s.isdigit() else 0.0)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield lines of any length; `readline` gives up on objects larger than its buffer."""
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
