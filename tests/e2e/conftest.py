"""Millstream as a user installs it: our images, the chart by helm, real servers that pods reach by name."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import build
from cluster.kubectl import Kubectl, Manifest
from cluster.plugin import TestNode
from servers.plugin import postgres_server, s3_server
from servers.postgres import Postgres
from servers.s3 import S3

__all__ = ["postgres_server", "s3_server"]

ROOT = Path(__file__).resolve().parents[2]
SYSTEM, NAMESPACE = "millstream-system", "data"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
TAKES_S = 150  # an image pull, a probe or a run of a few hundred rows, on a busy machine


def run_of(pipeline: str, name: str, **spec: Any) -> Manifest:
    """A PipelineRun."""
    reference = {"apiVersion": "millstream.dev/v1alpha1", "kind": "PipelineRun", "metadata": {"name": name}}
    return {**reference, "spec": {"pipelineRef": {"name": pipeline}, **spec}}


class Place:
    """A namespace on a cluster with Millstream installed, and what is outside of it."""

    def __init__(self, kubectl: Kubectl, warehouse: Postgres, s3: S3) -> None:
        self.kubectl, self.warehouse, self.s3 = kubectl, warehouse, s3

    def apply(self, *manifests: Manifest | str) -> None:
        """Apply objects into the namespace."""
        self.kubectl.apply(*manifests, namespace=NAMESPACE)

    def get(self, kind: str, name: str) -> Manifest:
        """Return one object."""
        return self.kubectl.get(kind, name, NAMESPACE)

    def wait(self, kind: str, name: str, condition: str = "condition=Ready", timeout_s: float = TAKES_S) -> None:
        """Wait as users do, with `kubectl wait`; a failure shows the object as it was left."""
        try:
            self.kubectl.wait(kind, name, condition, NAMESPACE, timeout_s)
        except Exception as error:
            seen = json.dumps(self.get(kind, name).get("status"), indent=1)
            raise AssertionError(f"{kind}/{name} did not reach {condition}: {seen}") from error

    def run(self, pipeline: str, name: str, **spec: Any) -> Manifest:
        """Ask for a run with a PipelineRun, wait for its end, and return its status."""
        self.apply(run_of(pipeline, name, **spec))
        self.wait("pipelinerun", name, "jsonpath={.status.finishedAt}", 2 * TAKES_S)
        status: Manifest = self.get("pipelinerun", name)["status"]
        return status

    def secret(self, name: str, **values: str) -> None:
        """Make a Secret."""
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values})

    def example(self, folder: str) -> list[Manifest]:
        """Return an example's objects, as they stand, with the cluster's own files, servers and Secrets behind them."""
        found: list[Manifest] = []
        for path in sorted((ROOT / "examples" / folder).glob("*.yaml")):
            found += [_moved(document, folder) for document in yaml.safe_load_all(path.read_text()) if document]
        for path in (ROOT / "examples" / folder / "data").glob("*"):
            self.upload(f"{folder}/{path.name}", path.read_bytes())
        return found

    def upload(self, key: str, content: bytes) -> None:
        """Put an object into the bucket `landing`."""
        path = self.s3.folder / "landing" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the warehouse."""
        return self.warehouse.execute(sql)


def _moved(document: Manifest, folder: str) -> Manifest:
    """A path on a laptop becomes a prefix in the bucket, the embedded server the cluster's: all else stays."""
    spec = document.get("spec", {})
    config = spec.get("config", {})
    if config.pop("embedded", False):
        config["host"] = "postgres"
        spec["secretRef"] = {"name": "dw-login"}
    if str(config.get("url", "")).startswith("."):
        config |= {"url": f"s3://landing/{folder}", "endpoint": "http://s3:9000"}
        spec["secretRef"] = {"name": "landing-s3"}
    archive = spec.get("archive", {})
    if str(archive.get("url", "")).startswith("."):
        archive |= {"url": f"s3://landing/{folder}-archive", "endpoint": "http://s3:9000"}
        archive["secretRef"] = {"name": "landing-s3"}
    if "127.0.0.1" in str(config.get("baseUrl", "")):
        config["baseUrl"] = "http://api"
    return document


@pytest.fixture(scope="module")
def installed(node: TestNode) -> Iterator[TestNode]:
    """The chart, installed by helm from our images into a namespace that enforces `restricted`."""
    kubectl = node.kubectl
    kubectl.create_namespace(SYSTEM, RESTRICTED)
    values = {
        part: dict(zip(("repository", "tag"), node.image(target).rsplit(":", 1), strict=True))
        for part, target in (("image", "operator"), ("runner.image", "runner"))
    }
    sets = [f"--set={part}.{key}={value}" for part, pair in values.items() for key, value in pair.items()]
    # Other tests of the session may have applied the CRDs before.
    flags = ["--wait", "--timeout=180s", "--take-ownership"]
    _helm(kubectl, "install", "millstream", str(ROOT / "charts/millstream"), *flags, *sets)
    yield node
    _helm(kubectl, "uninstall", "millstream", "--wait", "--timeout=120s")


def _helm(kubectl: Kubectl, *words: str) -> None:
    helm = build.ensure("helm")["helm"]
    line = [str(helm), f"--kubeconfig={kubectl.kubeconfig}", f"--namespace={SYSTEM}", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout + _state(kubectl)


def _state(kubectl: Kubectl) -> str:
    return "\n" + kubectl("describe", "pods", f"--namespace={SYSTEM}")[-4000:]


@pytest.fixture(scope="module")
def place(installed: TestNode, postgres_server: Postgres, s3_server: S3) -> Iterator[Place]:
    """A restricted namespace with the Services `postgres` and `s3` and the Secrets that the examples name."""
    installed.kubectl.create_namespace(NAMESPACE, RESTRICTED)
    installed.publish(NAMESPACE, "postgres", 5432, postgres_server.port)
    installed.publish(NAMESPACE, "s3", 9000, s3_server.port)
    postgres_server.execute("CREATE DATABASE dw")
    postgres_server.execute("CREATE DATABASE shop")
    s3_server.create_bucket("landing")
    place = Place(installed.kubectl, replace(postgres_server, database="dw"), s3_server)
    place.secret("dw-login", user=postgres_server.user, password=postgres_server.password)
    place.secret("landing-s3", accessKeyId=s3_server.access_key, secretAccessKey=s3_server.secret_key)
    yield place
    installed.kubectl.delete("namespace", NAMESPACE)  # while the operator is there; later tests start their own
    for database in ("dw", "shop"):  # the servers are the session's, and the next file begins anew
        postgres_server.execute(f"DROP DATABASE {database} WITH (FORCE)")
    shutil.rmtree(s3_server.folder / "landing")
