"""The kinds of cluster that tests can run on, behind one face: `Cluster` to talk to, `Pods` to run our images.

existing: named by MILLSTREAM_TEST_KUBECONFIG. kind: a Docker engine answers. built: ours, from Go modules.
"""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from cluster import images, node, paths
from cluster.audit import AuditLog
from cluster.control_plane import ControlPlane
from cluster.images import Target
from cluster.kubectl import Kubectl
from cluster.processes import ClusterError, run

Rung = Literal["existing", "kind", "built"]


@dataclass(frozen=True)
class Cluster:
    """An API server that answers. `audit` is None where the server is not ours to configure."""

    rung: Rung
    kubectl: Kubectl
    pods: "Callable[[], Pods]"
    audit: AuditLog | None = None

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; `kubectl.as_service_account` gives others."""
        return self.kubectl.kubeconfig


class Pods(Protocol):
    """Where pods run: which address leads them to this machine, and which image name gives them our code."""

    @property
    def host_address(self) -> str: ...

    def image(self, target: Target) -> str:
        """Return the name of the image of the present sources, built and loaded into the cluster."""
        ...


@dataclass(frozen=True)
class BuiltPods:
    """A node of ours."""

    node: node.Node

    @property
    def host_address(self) -> str:
        return self.node.host_address

    def image(self, target: Target) -> str:
        image = images.ensure(target)
        self.node.import_image(image.archive)
        return image.name


@dataclass(frozen=True)
class KindPods:
    """Nodes in Docker containers; `kind` is a pytest_kind.KindCluster."""

    kind: Any

    @property
    def host_address(self) -> str:
        network = json.loads(run(["docker", "network", "inspect", "kind"], "the kind network"))[0]
        gateways = [entry["Gateway"] for entry in network["IPAM"]["Config"] if "." in entry.get("Gateway", "")]
        return str(gateways[0])

    def image(self, target: Target) -> str:
        name = f"millstream-{target}:{images.content_hash()}"
        if subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode != 0:
            command = ["docker", "build", "--quiet", "--target", target, "--tag", name, str(paths.REPOSITORY)]
            run(command, f"building the {target} image", timeout_s=1800)
        self.kind.load_docker_image(name)
        return name


@dataclass(frozen=True)
class ExistingPods:
    """A cluster we know nothing about: its user says which images it can pull and how pods reach this machine."""

    @property
    def host_address(self) -> str:
        return _required("MILLSTREAM_TEST_HOST_ADDRESS", "the address of this machine as the cluster's pods see it")

    def image(self, target: Target) -> str:
        return _required(f"MILLSTREAM_TEST_{target.upper()}_IMAGE", f"the {target} image the cluster can pull")


def built(plane: ControlPlane) -> Cluster:
    """Return our own cluster; its node joins when `pods` is first asked for."""

    def pods() -> Pods:
        return BuiltPods(node.attach(plane) or node.join(plane))

    return Cluster("built", plane.kubectl, pods, plane.audit)


def publish(cluster: Cluster, address: str, namespace: str, name: str, port: int, target_port: int = 0) -> None:
    """Make a server outside the cluster a Service, so that pods reach it as `name:port`.

    It listens at `address` (of this machine: `Pods.host_address`) and at `target_port` (default: `port`).
    """
    meta = {"name": name, "namespace": namespace}
    ports = [{"name": "main", "port": target_port or port, "protocol": "TCP"}]
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**meta, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }
    spec = {"ports": [{"name": "main", "port": port, "targetPort": target_port or port}]}
    cluster.kubectl.apply({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}, endpoints)


def _required(variable: str, meaning: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise ClusterError(f"with MILLSTREAM_TEST_KUBECONFIG, set {variable} to {meaning}")
    return value
