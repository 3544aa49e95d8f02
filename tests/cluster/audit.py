"""The API server's audit log: who asked for what. Tests count an operator's requests with it.

The server writes an entry before it answers, so a request that has returned is in the log.
Left out: the control plane's own components and the node, whose traffic would drown the rest.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_COMPONENTS = ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler"]
_GROUPS = ["system:nodes", "system:serviceaccounts:kube-system"]

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "None", "users": _COMPONENTS},
        {"level": "None", "userGroups": _GROUPS},
        {"level": "None", "nonResourceURLs": ["/readyz", "/livez", "/healthz", "/version", "/openapi*", "/api*"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True)
class Request:
    """One answered request. `resource` is plural, with its subresource (`pipelines/status`); `code` is HTTP's."""

    verb: str
    resource: str
    namespace: str
    name: str
    user: str
    agent: str
    code: int
    at: datetime

    @property
    def writes(self) -> bool:
        return self.verb in _WRITES


class AuditLog:
    """Reads the log from a mark on, so that each test sees its own requests only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def mark(self) -> int:
        """Return the present end of the log, to hand to `requests` later."""
        return self._path.stat().st_size if self._path.exists() else 0

    def requests(self, since: int = 0, *, user: str = "", agent: str = "") -> list[Request]:
        """Return the requests after `since` whose user and user agent contain the given texts."""
        return [r for r in self._read(since) if user in r.user and agent in r.agent]

    def writes(self, since: int = 0, *, user: str = "", agent: str = "") -> list[Request]:
        """As `requests`, but only those that change something."""
        return [request for request in self.requests(since, user=user, agent=agent) if request.writes]

    def _read(self, since: int) -> Iterator[Request]:
        with self._path.open("rb") as log:
            log.seek(since)
            for line in log:
                # The last line may still be under way.
                if line.endswith(b"\n"):
                    yield _request(json.loads(line))


def _request(entry: dict[str, Any]) -> Request:
    about = entry.get("objectRef", {})
    resource = "/".join(filter(None, (about.get("resource", ""), about.get("subresource", ""))))
    return Request(
        verb=entry["verb"],
        resource=resource or entry["requestURI"],
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        user=entry["user"]["username"],
        agent=entry.get("userAgent", ""),
        code=int(entry.get("responseStatus", {}).get("code", 0)),
        at=datetime.fromisoformat(entry["requestReceivedTimestamp"]),
    )
