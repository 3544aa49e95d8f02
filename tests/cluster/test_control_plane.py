"""The API server tests run on: real versions, real admission, real RBAC, and a log of who asked for what."""

import json
from pathlib import Path

import pytest

from cluster.kubectl import Kubectl
from cluster.processes import ClusterError
from cluster.rungs import Cluster

pytestmark = pytest.mark.cluster


def test_the_server_reports_its_version(control_plane: Cluster) -> None:
    version = json.loads(control_plane.kubectl("get", "--raw", "/version"))
    assert (version["major"], int(version["minor"].rstrip("+")) >= 31) == ("1", True)


def test_a_restricted_namespace_refuses_a_privileged_pod(control_plane: Cluster, namespace: str) -> None:
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    control_plane.kubectl.create_namespace(namespace, label)
    container = {"name": "c", "image": "none", "securityContext": {"privileged": True}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}}
    with pytest.raises(ClusterError, match="violates PodSecurity"):
        control_plane.kubectl.apply(pod, namespace=namespace)


def test_a_service_account_may_do_nothing_until_a_role_says_so(
    control_plane: Cluster, namespace: str, tmp_path: Path
) -> None:
    alone = control_plane.kubectl.as_service_account(namespace, "default", tmp_path / "kubeconfig")
    with pytest.raises(ClusterError, match="Forbidden"):
        alone("get", "pods")


def test_the_audit_log_counts_each_write_once(control_plane: Cluster, namespace: str, tmp_path: Path) -> None:
    if control_plane.audit is None:
        pytest.skip("this cluster's audit log is not ours to read")
    kubectl: Kubectl = control_plane.kubectl
    mark = control_plane.audit.mark()
    kubectl("create", "configmap", "seen", f"--namespace={namespace}")
    kubectl.get("configmap", "seen", namespace)
    requests = [r for r in control_plane.audit.requests(mark, agent="kubectl") if r.namespace == namespace]
    assert [(r.verb, r.resource, r.code) for r in requests] == [
        ("create", "configmaps", 201),
        ("get", "configmaps", 200),
    ]
    assert len(control_plane.audit.writes(mark, user="admin")) == 1
