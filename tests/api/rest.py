"""The API server without kubectl, whose every call costs a process: what tests ask hundreds of times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from kubernetes import config

from cluster.processes import ClusterError
from millstream_api import API_VERSION, KINDS

Body = dict[str, Any]

_GROUPS = {
    **{kind.singular: (API_VERSION, kind.plural) for kind in KINDS},
    "job": ("batch/v1", "jobs"),
    "cronjob": ("batch/v1", "cronjobs"),
    "lease": ("coordination.k8s.io/v1", "leases"),
    **{kind: ("v1", f"{kind}s") for kind in ("pod", "event", "configmap", "secret")},
}


class Rest:
    """Requests to one namespace. What the server refuses is a ClusterError with its words."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._api, self._namespace = config.new_client_from_config(str(kubeconfig)), namespace

    def get(self, kind: str, name: str) -> Body:
        return self._ask("GET", self._path(kind, name))

    def list(self, kind: str, selector: str = "") -> list[Body]:
        found = self._ask("GET", self._path(kind), labelSelector=selector)
        items: list[Body] = found["items"]
        return items

    def apply(self, manifest: Body) -> None:
        """Apply server-side, as `kubectl apply --server-side --force-conflicts` does."""
        path = self._path(manifest["kind"].lower(), manifest["metadata"]["name"])
        self._ask("PATCH", path, manifest, "application/apply-patch+yaml", fieldManager="kubectl", force="true")

    def merge(self, kind: str, name: str, change: Body, subresource: str = "") -> None:
        """Patch an object, or a subresource of it."""
        path = self._path(kind, name) + (f"/{subresource}" if subresource else "")
        self._ask("PATCH", path, change, "application/merge-patch+json")

    def _path(self, kind: str, name: str = "") -> str:
        version, plural = _GROUPS[kind]
        root = f"/api/{version}" if version == "v1" else f"/apis/{version}"
        return f"{root}/namespaces/{self._namespace}/{plural}" + (f"/{name}" if name else "")

    def _ask(self, method: str, path: str, body: Body | None = None, content: str = "", **query: str) -> Body:
        headers = {"Accept": "application/json"} | ({"Content-Type": content} if content else {})
        self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self._api.configuration.host}{path}?{urlencode(query)}"
        pool = self._api.rest_client.pool_manager
        answer = pool.request(method, url, headers=headers, body=json.dumps(body) if body is not None else None)
        if answer.status >= 400:
            raise ClusterError(f"{method} {path}: {answer.status} {answer.data.decode()}")
        found: Body = json.loads(answer.data)
        return found
