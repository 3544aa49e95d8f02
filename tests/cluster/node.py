"""A real node that runs pods: containerd, kubelet, kube-proxy and DNS, in kernel namespaces of their own.

The node is one process tree (`node_init.py`); a virtual cable connects it to this machine, which pods and Services
reach, and from which tests reach pod and Service addresses.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cluster import archive, build, cgroups, debian, node_files, paths
from cluster.control_plane import NODE_NAME, ControlPlane
from cluster.processes import ClusterError, Started, run, start, start_ticks, wait_until
from cluster.runs import Run

_PROGRAMS = ("containerd", "kubelet", "kube-proxy", "coredns")
PAUSE_IMAGE = "localhost/millstream-pause:1"


class NoNodeError(ClusterError):
    """This machine can run a control plane, but no pods."""


@dataclass(frozen=True)
class Node:
    """A Ready node. `host_address` is this machine as pods see it."""

    control_plane: ControlPlane
    init: Started

    @property
    def host_address(self) -> str:
        return self.control_plane.run.addresses.host

    def import_image(self, image_archive: Path) -> None:
        """Load an image archive (OCI or Docker) into the node; instant when the node already holds it."""
        imported = self.control_plane.run.folder / "imported" / image_archive.name
        if imported.exists():
            return
        _ctr(self.control_plane.run, "images", "import", str(image_archive))
        imported.parent.mkdir(exist_ok=True)
        imported.touch()


def join(plane: ControlPlane) -> Node:
    """Start a node and return once it is Ready."""
    if os.getuid() != 0:
        raise NoNodeError("NO TEST NODE: a node of our own needs root, or a Docker engine")
    debian.ensure(debian.NODE)
    tools = build.ensure(*build.NODE)
    init = _namespaces(plane.run)
    _cable(plane.run, init)
    node_files.write(plane.run, PAUSE_IMAGE)
    cgroups.create(plane.run.cgroup)
    _services(plane.run, init, tools)
    node = Node(plane, init)
    node.import_image(_pause_archive(tools["pause"]))
    _await_ready(plane)
    return node


def attach(plane: ControlPlane) -> Node | None:
    """Return the node that already runs in this cluster, if one does."""
    inits = [process for process in plane.run.processes if process.name == "node-init" and process.alive()]
    return Node(plane, inits[0]) if inits else None


def _namespaces(run_: Run) -> Started:
    """Open the node's namespaces and return their process 1, as this machine sees it."""
    namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
    command = ["unshare", *namespaces, sys.executable, "-I", str(Path(__file__).with_name("node_init.py"))]
    outer = start("node", [*command, str(run_.folder)], run_.logs / "node.log", tied=run_.tied)
    run_.record(outer)
    wait_until((run_.folder / "node.ready").exists, "the node's namespaces", 10, needs=[outer], logs=run_.logs)
    pid = int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()[0])
    init = Started("node-init", pid, start_ticks(pid))
    run_.record(init)
    return init


def _cable(run_: Run, init: Started) -> None:
    """Lay a virtual cable from this machine to the node; it vanishes with the node."""
    here, there, device = run_.addresses.host, run_.addresses.node, f"millstream{run_.index}"
    inside = ["nsenter", f"--target={init.pid}", "--net"]
    for command in (
        ["ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", str(init.pid)],
        ["ip", "address", "add", f"{here}/30", "dev", device],
        ["ip", "link", "set", device, "up"],
        [*inside, "ip", "address", "add", f"{there}/30", "dev", "eth0"],
        [*inside, "ip", "link", "set", "eth0", "up"],
        [*inside, "ip", "route", "add", "default", "via", here],
        ["ip", "route", "add", run_.addresses.pods, "via", there],
        ["ip", "route", "add", run_.addresses.services, "via", there],
        [*inside, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"],
    ):
        run(command, "connecting the node")


def _services(run_: Run, init: Started, tools: dict[str, Path]) -> None:
    folder = run_.folder
    _start(run_, init, "containerd", ["containerd", f"--config={folder}/containerd.toml"])
    wait_until(lambda: _answers(run_), "containerd", 120, needs=[run_.processes[-1]], logs=run_.logs)
    kubelet = [f"--config={folder}/kubelet.json", f"--kubeconfig={folder}/kubelet.kubeconfig"]
    own = [f"--hostname-override={NODE_NAME}", f"--node-ip={run_.addresses.node}", f"--root-dir={folder}/kubelet"]
    _start(run_, init, "kubelet", [tools["kubelet"], *kubelet, *own])
    _start(run_, init, "kube-proxy", [tools["kube-proxy"], f"--config={folder}/proxy.json"])
    _start(run_, init, "coredns", [tools["coredns"], "-conf", folder / "Corefile"])


def _start(run_: Run, init: Started, name: str, command: list[str | Path]) -> None:
    enter = ["nsenter", f"--target={init.pid}", "--net", "--mount", "--pid", "--"]
    run_.record(start(name, [*enter, *command], run_.logs / f"{name}.log", tied=run_.tied))


def _answers(run_: Run) -> bool:
    if not (run_.folder / "containerd.sock").exists():
        return False
    try:
        _ctr(run_, "version")
    except ClusterError:
        return False
    return True


def _ctr(run_: Run, *arguments: str) -> str:
    command = ["ctr", f"--address={run_.folder}/containerd.sock", "--namespace=k8s.io", *arguments]
    return run(command, f"ctr {' '.join(arguments)}", timeout_s=300)


def _pause_archive(program: Path) -> Path:
    path = paths.cache_root() / "images" / "pause-1.tar"
    if not path.exists():
        archive.write(path, PAUSE_IMAGE, {"/pause": program}, ["/pause"])
    return path


def _await_ready(plane: ControlPlane) -> None:
    needs = [process for process in plane.run.processes if process.name in _PROGRAMS]
    wait_until(lambda: _node_ready(plane), "the node", 120, needs=needs, logs=plane.run.logs)


def _node_ready(plane: ControlPlane) -> bool:
    if not plane.kubectl.exists("node", NODE_NAME):
        return False
    conditions = plane.kubectl.get("node", NODE_NAME)["status"].get("conditions", [])
    ready = any(found["type"] == "Ready" and found["status"] == "True" for found in conditions)
    if not ready:
        time.sleep(0.2)
    return ready
