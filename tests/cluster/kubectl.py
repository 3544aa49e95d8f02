"""A thin client for tests: kubectl with one kubeconfig, objects in and out as JSON."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.processes import ClusterError, run

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Kubectl:
    """Every call raises ClusterError with what the API server said when it is refused."""

    binary: Path
    kubeconfig: Path

    def __call__(self, *arguments: str, stdin: str | None = None, timeout_s: float = 120.0) -> str:
        command: list[str | Path] = [self.binary, f"--kubeconfig={self.kubeconfig}", *arguments]
        return run(command, f"kubectl {' '.join(arguments)}", stdin=stdin, timeout_s=timeout_s)

    def apply(self, *manifests: Manifest | str, namespace: str | None = None, dry_run: bool = False) -> str:
        """Apply objects, or YAML text, server-side; `dry_run` has the server admit them without storing."""
        parts = [part if isinstance(part, str) else json.dumps(part) for part in manifests]
        flags = [f"--namespace={namespace}"] if namespace else []
        flags += ["--dry-run=server"] if dry_run else []
        text = "\n---\n".join(parts)
        return self("apply", "--server-side", "--force-conflicts", *flags, "--filename=-", stdin=text)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Manifest:
        found: Manifest = json.loads(self("get", kind, name, *_in(namespace), "--output=json"))
        return found

    def list(self, kind: str, namespace: str | None = None, selector: str = "") -> list[Manifest]:
        where = [f"--namespace={namespace}"] if namespace else ["--all-namespaces"]
        chosen = [f"--selector={selector}"] if selector else []
        items: list[Manifest] = json.loads(self("get", kind, *where, *chosen, "--output=json"))["items"]
        return items

    def delete(self, kind: str, name: str, namespace: str | None = None, *, wait: bool = True) -> None:
        self("delete", kind, name, *_in(namespace), "--ignore-not-found", f"--wait={str(wait).lower()}")

    def wait(
        self, kind: str, name: str, condition: str, namespace: str | None = None, timeout_s: float = 180.0
    ) -> None:
        """Wait, in kubectl's words, for `condition=Complete`, `delete` or `jsonpath={.status.phase}=Running`."""
        flags = [f"--for={condition}", f"--timeout={timeout_s:.0f}s"]
        self("wait", f"{kind}/{name}", *flags, *_in(namespace), timeout_s=timeout_s + 10)

    def logs(self, pod: str, namespace: str, *flags: str) -> str:
        return self("logs", pod, f"--namespace={namespace}", *flags)

    def create_namespace(self, name: str, labels: dict[str, str] | None = None) -> None:
        """Create a namespace and wait for its default ServiceAccount, without which no pod is admitted."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}})
        deadline = time.monotonic() + 30
        while not self.exists("serviceaccount", "default", name):
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"namespace {name}: no default ServiceAccount after 30 s; see controller-manager's log"
                )
            time.sleep(0.1)

    def exists(self, kind: str, name: str, namespace: str | None = None) -> bool:
        return bool(self("get", kind, name, *_in(namespace), "--ignore-not-found", "--output=name").strip())

    def as_service_account(self, namespace: str, name: str, path: Path) -> "Kubectl":
        """Return a client that acts as an existing ServiceAccount for an hour; its kubeconfig is written to `path`."""
        config = json.loads(self("config", "view", "--raw", "--minify", "--flatten", "--output=json"))
        token = self("create", "token", name, f"--namespace={namespace}", "--duration=1h").strip()
        config["users"][0]["user"] = {"token": token}
        config["contexts"][0]["context"]["namespace"] = namespace
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return Kubectl(self.binary, path)


def _in(namespace: str | None) -> list[str]:
    return [f"--namespace={namespace}"] if namespace else []
