"""The node tests run on: pods run, finish, speak through their termination message, and find Services by name."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cluster.plugin import TestNode

pytestmark = pytest.mark.node


def _job(image: str, script: str) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", script],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    spec = {"backoffLimit": 0, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "probe"}, "spec": spec}


def _run(node: TestNode, namespace: str, script: str) -> tuple[str, str]:
    """Run the script in the runner image; return what it printed and its termination message."""
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    node.kubectl.create_namespace(namespace, label)
    node.kubectl.apply(_job(node.image("runner"), script), namespace=namespace)
    node.kubectl.wait("job", "probe", "condition=Complete", namespace)
    pod = node.kubectl.list("pods", namespace, "job-name=probe")[0]
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    return node.kubectl.logs(pod["metadata"]["name"], namespace), state.get("message", "")


def test_a_job_prints_and_leaves_its_termination_message(node: TestNode, namespace: str) -> None:
    printed, message = _run(
        node, namespace, "import os; print('hello', os.getuid()); open('/dev/termination-log', 'w').write('done')"
    )
    assert (printed, message) == ("hello 65532\n", "done")


def test_the_runner_image_holds_the_engine_and_not_the_operator(node: TestNode, namespace: str) -> None:
    script = """
import importlib.util, json, importlib.metadata
import duckdb, millstream_api, millstream_pipelines, pgpq, psycopg2, pyarrow, pyarrow.dataset, pyarrow.parquet
sources = sorted(e.name for e in importlib.metadata.entry_points(group="millstream.sources"))
print(json.dumps([sources, importlib.util.find_spec("millstream_operator"), importlib.util.find_spec("kopf")]))
"""
    sources, operator, kopf = json.loads(_run(node, namespace, script)[0])
    assert "postgres" in sources
    assert (operator, kopf) == (None, None)


class _Answer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"from the host")


@contextmanager
def _server() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("0.0.0.0", 0), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()


def test_pods_reach_services_and_this_machine_by_name(node: TestNode, namespace: str) -> None:
    script = """
import socket
print(socket.gethostbyname("kubernetes.default") != "")
print(socket.create_connection(("greeter", 7), timeout=5).recv(99).decode())
try:
    socket.gethostbyname("no.such.host.example")
except socket.gaierror as error:
    print(error.errno == socket.EAI_NONAME)
"""
    with _server() as port:
        node.kubectl.create_namespace(namespace)
        node.publish(namespace, "greeter", 7, target_port=port)
        printed, _ = _run(node, namespace, script)
    assert printed == "True\nfrom the host\nTrue\n"
