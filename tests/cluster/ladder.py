"""Find a cluster to test on: the first of four rungs that holds, or a plain account of why none did.

1. MILLSTREAM_TEST_KUBECONFIG names one; 2. a Docker engine answers: kind; 3. Go, or an earlier build: ours;
4. none: `NoClusterError`, which the fixtures turn into a skip, or with CI=true into a failure.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster import build, control_plane, paths, runs
from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl
from cluster.processes import ClusterError
from cluster.rungs import Cluster, ExistingPods, KindPods, built

# pytest-kind's own defaults are from 2022, before the API versions our chart needs.
_KIND = "v0.30.0"
_KIND_NODE = "kindest/node:v1.34.0"


class NoClusterError(ClusterError):
    """No rung of the ladder held; the message says why for each."""


@contextmanager
def climb() -> Iterator[Cluster]:
    """Yield a cluster that lasts until the block ends, or with this process."""
    kubeconfig = os.environ.get("MILLSTREAM_TEST_KUBECONFIG")
    if kubeconfig:
        yield _existing(Path(kubeconfig))
        return
    no_docker = _why_no_docker()
    if not no_docker:
        with _kind() as cluster:
            yield cluster
        return
    no_build = _why_no_build()
    if no_build:
        raise NoClusterError(f"MILLSTREAM_TEST_KUBECONFIG is not set; {no_docker}; {no_build}")
    run = runs.begin(tied=True)
    try:
        yield built(control_plane.begin(run))
    finally:
        run.end()


def _existing(kubeconfig: Path) -> Cluster:
    """Return the named cluster; one of ours (`up`) is recognised by the record beside its kubeconfig."""
    run = runs.load(kubeconfig.parent)
    if run is not None and run.alive():
        return built(ControlPlane(run))
    kubectl = Kubectl(_kubectl(), kubeconfig)
    kubectl("get", "--raw", "/readyz")
    return Cluster("existing", kubectl, ExistingPods)


def _kubectl() -> Path:
    found = shutil.which("kubectl")
    return Path(found) if found else build.ensure("kubectl")["kubectl"]


def _why_no_docker() -> str:
    if shutil.which("docker") is None:
        return "docker is not installed"
    answer = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    return "" if answer.returncode == 0 else "no Docker engine answers"


@contextmanager
def _kind() -> Iterator[Cluster]:
    from pytest_kind import cluster as pytest_kind

    pytest_kind.KIND_VERSION = os.environ.get("KIND_VERSION", _KIND)
    pytest_kind.KUBECTL_VERSION = f"v{paths.KUBERNETES}"
    kind: Any = pytest_kind.KindCluster(f"millstream-{os.getpid()}", image=os.environ.get("KIND_NODE", _KIND_NODE))
    try:
        kind.create()
        kind.ensure_kubectl()
        yield Cluster("kind", Kubectl(kind.kubectl_path, kind.kubeconfig_path), lambda: KindPods(kind))
    finally:
        kind.delete()


def _why_no_build() -> str:
    if build.go_available() or build.built(*build.CONTROL_PLANE):
        return ""
    return "Go is not installed to build a cluster of our own"
