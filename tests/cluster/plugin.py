"""Fixtures: one cluster per test session, which starts when a test first asks for it and ends with the session.

A conftest takes them by `from cluster.plugin import control_plane, namespace, node`.

`control_plane` answers in about 3 s and runs no pods; `node` adds a real node to that same cluster, about 3 s more.
"""

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import NoReturn

import pytest

from cluster.images import Target
from cluster.kubectl import Kubectl
from cluster.ladder import NoClusterError, climb
from cluster.node import NoNodeError
from cluster.rungs import Cluster, Pods, publish


@dataclass(frozen=True)
class TestNode:
    """A cluster that runs pods."""

    __test__ = False

    cluster: Cluster
    pods: Pods
    _images: dict[Target, str] = field(default_factory=dict)

    @property
    def kubectl(self) -> Kubectl:
        return self.cluster.kubectl

    @property
    def host_address(self) -> str:
        """This machine as pods see it; a server for them listens here or on 0.0.0.0."""
        return self.pods.host_address

    def image(self, target: Target) -> str:
        """Return the name of our image, built of the sources as this session first saw them, and loaded."""
        if target not in self._images:
            self._images[target] = self.pods.image(target)
        return self._images[target]

    def publish(self, namespace: str, name: str, port: int, target_port: int = 0) -> None:
        """Let pods reach a server of this machine (at `target_port`, default `port`) as the Service `name:port`."""
        publish(self.cluster, self.host_address, namespace, name, port, target_port)


# Kept on the session, not in a fixture: several conftest files may import the fixtures and still share one cluster.
_CLUSTER = pytest.StashKey[Cluster]()
_NODE = pytest.StashKey[TestNode]()


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> Cluster:
    """A real API server with its controllers; pods stay Pending. Skips where there is none, fails with CI=true."""
    stash = request.config.stash
    if _CLUSTER not in stash:
        ladder = ExitStack()
        request.config.add_cleanup(ladder.close)
        try:
            stash[_CLUSTER] = ladder.enter_context(climb())
        except NoClusterError as error:
            _give_up(request.config, f"NO TEST CLUSTER: {error}")
    return stash[_CLUSTER]


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest, control_plane: Cluster) -> TestNode:
    """The same cluster with a real node that runs pods."""
    stash = request.config.stash
    if _NODE not in stash:
        try:
            stash[_NODE] = TestNode(control_plane, control_plane.pods())
        except NoNodeError as error:
            _give_up(request.config, str(error))
    return stash[_NODE]


def _give_up(config: pytest.Config, message: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        print(f"\n*** {message} ***", file=sys.stderr, flush=True)
    pytest.skip(message)


@pytest.fixture
def namespace(control_plane: Cluster) -> Iterator[str]:
    """A namespace of the test's own, removed afterwards."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    control_plane.kubectl.create_namespace(name)
    yield name
    control_plane.kubectl.delete("namespace", name, wait=False)
