"""A namespace for each test of the operator on a real API server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.live import Cluster, install_crds


@pytest.fixture(scope="session")
def millstream_plane(control_plane: Any) -> Any:
    install_crds(control_plane)
    return control_plane


@pytest.fixture
def cluster(millstream_plane: Any, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-")
    millstream_plane.kubectl.create_namespace(name)
    cluster = Cluster(millstream_plane, name, tmp_path)
    yield cluster
    for process in cluster.processes:
        if process.alive:
            process.kill()
    millstream_plane.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def flights(cluster: Cluster) -> Cluster:
    """A running operator, ready endpoints and a scheduled Pipeline."""
    cluster.operator()
    cluster.ready_endpoints()
    cluster.pipeline(schedule={"cron": "0 0 1 1 *"}, retries={"limit": 0}, history={"successful": 1, "failed": 1})
    cluster.becomes("pipeline", "flights", "Scheduled")
    return cluster
