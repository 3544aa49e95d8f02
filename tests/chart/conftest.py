"""helm as the cluster's tests use it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from api.live import install_crds
from chart.rendering import Helm
from cluster import build
from cluster.kubectl import Kubectl
from cluster.processes import ClusterError


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Skips where there is no helm and no way to build it; fails with CI=true."""
    try:
        return Helm(build.ensure("helm")["helm"])
    except ClusterError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@dataclass(frozen=True)
class Places:
    """Three namespaces: of the release, one that it serves, one that is none of its business in namespaced mode."""

    plane: Any
    release: str
    home: str
    served: str
    elsewhere: str

    @property
    def kubectl(self) -> Kubectl:
        kubectl: Kubectl = self.plane.kubectl
        return kubectl

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{self.home}:{self.release}"

    def helm(self, helm: Helm, *words: str) -> str:
        kubeconfig: Path = self.kubectl.kubeconfig
        return helm(*words, f"--kubeconfig={kubeconfig}", f"--namespace={self.home}")


RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


@pytest.fixture
def places(control_plane: Any) -> Iterator[Places]:
    """Restricted namespaces on a server that knows our kinds, and a release name that no other test has."""
    install_crds(control_plane)
    release = f"millstream-{uuid.uuid4().hex[:6]}"
    places = Places(control_plane, release, *(f"{release}-{name}" for name in ("home", "served", "elsewhere")))
    names = (places.home, places.served, places.elsewhere)
    for name in names:
        control_plane.kubectl.create_namespace(name, RESTRICTED)
    yield places
    selector = f"--selector=app.kubernetes.io/instance={release}"
    control_plane.kubectl("delete", "clusterrole,clusterrolebinding", selector, "--ignore-not-found")
    control_plane.kubectl("delete", "namespace", *names, "--wait=false")
