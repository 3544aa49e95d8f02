"""A real control plane on loopback: etcd, API server, controller-manager and scheduler, ready in a few seconds.

It runs the control loops of Jobs, CronJobs and garbage collection, but no pods: they stay Pending until a `node` joins.
"""

import base64
import json
import secrets
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from cluster import audit, build, certificates, debian
from cluster.kubectl import Kubectl
from cluster.processes import Started, free_port, start, wait_until
from cluster.runs import Run

NODE_NAME = "node-1"
# User name and group of each client; the node's name is what NodeRestriction and the Node authorizer act on.
_CLIENTS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
    "proxy": ("system:kube-proxy", "system:node-proxier"),
    "dns": ("millstream-test-dns", "system:masters"),
}


@dataclass(frozen=True)
class ControlPlane:
    """A started control plane; `kubeconfig` is the cluster administrator's."""

    run: Run

    @property
    def kubeconfig(self) -> Path:
        return self.run.folder / "admin.kubeconfig"

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(build.TOOLS["kubectl"].path, self.kubeconfig)

    @property
    def audit(self) -> audit.AuditLog:
        return audit.AuditLog(self.run.logs / "audit.jsonl")

    @property
    def ca(self) -> Path:
        return self.run.folder / "pki" / "ca.crt"


def begin(run: Run) -> ControlPlane:
    """Start the four processes and return once the API server is ready; building what is missing may take minutes."""
    debian.ensure(debian.CONTROL_PLANE)
    tools = build.ensure(*build.CONTROL_PLANE)
    run.api_port = free_port("0.0.0.0")
    etcd_url = _start_etcd(run)
    _write_files(run)
    server = _start(run, "kube-apiserver", [tools["kube-apiserver"], *_api_flags(run, etcd_url)])
    plane = ControlPlane(run)
    wait_until(lambda: _ready(plane), "the API server", 60, needs=[*run.processes[-2:], server], logs=run.logs)
    _start(run, "kube-controller-manager", [tools["kube-controller-manager"], *_controller_flags(run)])
    scheduler = [f"--kubeconfig={run.folder}/scheduler.kubeconfig", "--leader-elect=false", "--secure-port=0"]
    _start(run, "kube-scheduler", [tools["kube-scheduler"], *scheduler])
    return plane


def _start(run: Run, name: str, command: list[str | Path]) -> Started:
    started = start(name, command, run.logs / f"{name}.log", tied=run.tied, cwd=run.folder)
    run.record(started)
    return started


def _start_etcd(run: Run) -> str:
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    listen = [f"--listen-client-urls={client}", f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}"]
    cluster = [f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"]
    # The data live as long as the tests do: no need to wait for the disk.
    _start(run, "etcd", ["etcd", f"--data-dir={run.folder}/etcd", "--unsafe-no-fsync", *listen, *cluster])
    return client


def _write_files(run: Run) -> None:
    pki = run.folder / "pki"
    addresses = ["127.0.0.1", run.addresses.host, run.addresses.kubernetes_service]
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    certificates.create(pki, server_addresses=addresses, server_names=[*names, f"{names[-1]}.cluster.local"])
    (run.folder / "audit-policy.json").write_text(json.dumps(audit.POLICY))
    lines = []
    for client, (user, group) in _CLIENTS.items():
        token = secrets.token_hex(16)
        lines.append(f'{token},{user},{client},"{group}"\n')
        # The node lives in a network namespace of its own, where loopback is not this machine's.
        host = run.addresses.host if client in ("kubelet", "proxy", "dns") else "127.0.0.1"
        _write_kubeconfig(run.folder / f"{client}.kubeconfig", run.api_port, pki / "ca.crt", token, host=host)
    (run.folder / "tokens.csv").write_text("".join(lines))


def _write_kubeconfig(path: Path, port: int, ca: Path, token: str, *, host: str) -> None:
    authority = base64.b64encode(ca.read_bytes()).decode()
    cluster = {"server": f"https://{host}:{port}", "certificate-authority-data": authority}
    context = {"cluster": "millstream-test", "user": "user", "namespace": "default"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "millstream-test", "cluster": cluster}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": context}],
        "current-context": "test",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=1))


def _api_flags(run: Run, etcd_url: str) -> list[str]:
    pki = run.folder / "pki"
    return [
        f"--etcd-servers={etcd_url}",
        "--bind-address=0.0.0.0",
        f"--secure-port={run.api_port}",
        f"--advertise-address={run.addresses.host}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki}/service-account.pub",
        f"--service-account-signing-key-file={pki}/service-account.key",
        f"--token-auth-file={run.folder}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--service-cluster-ip-range={run.addresses.services}",
        f"--audit-log-path={run.logs}/audit.jsonl",
        f"--audit-policy-file={run.folder}/audit-policy.json",
        "--audit-log-maxsize=1000",
    ]


def _controller_flags(run: Run) -> list[str]:
    return [
        f"--kubeconfig={run.folder}/controller-manager.kubeconfig",
        f"--service-account-private-key-file={run.folder}/pki/service-account.key",
        f"--root-ca-file={run.folder}/pki/ca.crt",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--secure-port=0",
        # The defaults (20 requests per second) make tests that create many objects wait for nothing.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]


def _ready(plane: ControlPlane) -> bool:
    config = json.loads(plane.kubeconfig.read_text())
    token = config["users"][0]["user"]["token"]
    request = urllib.request.Request(
        f"https://127.0.0.1:{plane.run.api_port}/readyz", headers={"Authorization": f"Bearer {token}"}
    )
    trust = ssl.create_default_context(cafile=str(plane.ca))
    try:
        with urllib.request.urlopen(request, context=trust, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
