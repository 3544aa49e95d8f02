"""Least rights, from both sides: the server is asked for every verb on every resource; the operator runs on them."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest

from api.live import Cluster, eventually, loaded
from api.manifests import manifest, retention_spec
from chart.conftest import Places
from chart.rendering import Helm, of_kind

pytestmark = pytest.mark.cluster

VERBS = ("create", "delete", "deletecollection", "get", "impersonate", "list", "patch", "update", "watch")

# Where it serves. What is not here is denied: Secrets are never listed, pods never made, roles never touched.
SERVED = {
    "configmaps": {"create", "delete", "list", "patch", "watch"},
    "cronjobs.batch": {"create", "delete", "list", "patch", "watch"},
    "datasources.millstream.dev": {"list", "watch"},
    "datasources.millstream.dev/status": {"patch"},
    "events": {"create", "patch"},
    "jobs.batch": {"create", "delete", "list", "patch", "watch"},
    "pipelineruns.millstream.dev": {"create", "delete", "list", "patch", "watch"},
    "pipelineruns.millstream.dev/status": {"patch"},
    "pipelines.millstream.dev": {"get", "list", "watch"},
    "pipelines.millstream.dev/status": {"patch"},
    "pods": {"list", "watch"},
    "retentionpolicies.millstream.dev": {"list", "watch"},
    "retentionpolicies.millstream.dev/status": {"patch"},
    "secrets": {"get"},
    "warehouses.millstream.dev": {"list", "watch"},
    "warehouses.millstream.dev/status": {"patch"},
}
# Where it is installed: its own Lease; a right to create cannot be bound to a name.
LEASE = {"leases.coordination.k8s.io/millstream-operator": {"create", "get", "update"}}
ANY_LEASE = {"leases.coordination.k8s.io": {"create"}}
# What an intruder would like.
DENIED = (
    "clusterroles.rbac.authorization.k8s.io",
    "customresourcedefinitions.apiextensions.k8s.io",
    "daemonsets.apps",
    "deployments.apps",
    "namespaces",
    "networkpolicies.networking.k8s.io",
    "nodes",
    "persistentvolumeclaims",
    "pods/ephemeralcontainers",
    "pods/exec",
    "pods/log",
    "replicationcontrollers",
    "rolebindings.rbac.authorization.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "serviceaccounts",
    "serviceaccounts/token",
    "services",
    "statefulsets.apps",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
)
# A plan is deleted five minutes after its last use, an event patched when it repeats.
WAITING = {("delete", "configmaps"), ("patch", "events"), ("patch", "configmaps")}
RESOURCES = (*SERVED, *LEASE, *ANY_LEASE, *DENIED)


def _review(user: str, namespace: str, resource: str, verb: str) -> dict[str, object]:
    """Return the question of `kubectl auth can-i`; only a Lease is asked for by name."""
    kind, _, part = resource.partition("/")
    plural, _, group = kind.partition(".")
    about = {"namespace": namespace, "verb": verb, "group": group, "resource": plural}
    about["name" if plural == "leases" else "subresource"] = part
    spec = {"user": user, "groups": ["system:serviceaccounts", "system:authenticated"], "resourceAttributes": about}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}


def _rights(places: Places, namespace: str) -> dict[str, set[str]]:
    """Ask the server for every verb on every resource."""
    questions = list(product(RESOURCES, VERBS))
    answers = _ask(places, [_review(places.user, namespace, resource, verb) for resource, verb in questions])
    found: dict[str, set[str]] = {}
    for (resource, verb), allowed in zip(questions, answers, strict=True):
        if allowed:
            found.setdefault(resource, set()).add(verb)
    return found


def _ask(places: Places, reviews: list[dict[str, object]]) -> list[bool]:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews})
    said = places.kubectl("create", '--output=jsonpath={.status.allowed}{"\\n"}', "--filename=-", stdin=text)
    return [answer == "true" for answer in said.split()]


def _install_rights(helm: Helm, places: Places, *sets: str) -> None:
    kinds = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    made = helm.render("crds.enabled=false", *sets, release=places.release, namespace=places.home)
    places.kubectl.apply(*(item for kind in kinds for item in of_kind(made, kind)))


def test_namespaced_rights_end_at_the_borders_of_the_namespaces(helm: Helm, places: Places) -> None:
    _install_rights(helm, places, f"watchNamespaces={{{places.served}}}")
    eventually(lambda: _rights(places, places.served) == SERVED, "the server to know the roles", 10)
    assert _rights(places, places.home) == {**LEASE, **ANY_LEASE}
    assert _rights(places, places.elsewhere) == {}
    assert _rights(places, "") == {}


def test_cluster_rights_are_the_same_everywhere_but_for_the_lease(helm: Helm, places: Places) -> None:
    _install_rights(helm, places)
    eventually(lambda: _rights(places, places.elsewhere) == SERVED, "the server to know the roles", 10)
    assert _rights(places, "") == SERVED
    assert _rights(places, places.home) == {**SERVED, **LEASE, **ANY_LEASE}


@pytest.mark.parametrize("mode", ["namespaced", "cluster"])
def test_the_operator_works_with_its_rights_and_needs_each(
    helm: Helm, places: Places, tmp_path: Path, mode: str
) -> None:
    served = places.served if mode == "namespaced" else ""
    _install_rights(helm, places, *([f"watchNamespaces={{{served}}}"] if served else []))
    kubeconfig = tmp_path / "operator.kubeconfig"
    places.kubectl.as_service_account(places.home, places.release, kubeconfig)
    cluster = Cluster(places.plane, places.served, tmp_path)
    mark = places.plane.audit.mark() if places.plane.audit else 0
    settings = {"KUBECONFIG": str(kubeconfig), "POD_NAMESPACE": places.home, "MILLSTREAM_NAMESPACES": served}
    operator = cluster.operator(**settings, MILLSTREAM_RESYNC_SECONDS="10")
    try:
        _live(cluster)
    finally:
        operator.kill()
    # A namespace of an earlier test may be on its way out, and then refuses what is new to everybody.
    refused = [line for line in operator.log.lower().splitlines() if "forbidden" in line]
    assert [line for line in refused if "is being terminated" not in line] == []
    if places.plane.audit:
        requests = places.plane.audit.requests(mark, user=places.user)
        ours = {places.served, places.home, places.elsewhere, ""}
        assert [request for request in requests if request.code == 403 and request.namespace in ours] == []
        eventually(lambda: _unused(places, mark) <= WAITING, "the log to show every right in use")


def _unused(places: Places, mark: int) -> set[tuple[str, str]]:
    """Return what was granted and not used. A watch is written into the log when the server sees that it has ended."""
    used = {
        (_verb(item.verb, item.code), item.resource) for item in places.plane.audit.requests(mark, user=places.user)
    }
    return {(verb, _plain(resource)) for resource, verbs in SERVED.items() for verb in verbs} - used


def _verb(verb: str, code: int) -> str:
    """A server-side apply that makes an object is a patch in the log, but needs the right to create too."""
    return "create" if (verb, code) == ("patch", 201) else verb


def _plain(resource: str) -> str:
    kind, slash, part = resource.partition("/")
    return f"{kind.partition('.')[0]}{slash}{part}"


def _live(cluster: Cluster) -> None:
    """Lead a Pipeline through all that the operator writes: probes, schedule, runs, history, policy, the end."""
    cluster.ready_endpoints()
    cluster.apply(manifest("RetentionPolicy", "keep", retention_spec()))
    history = {"history": {"successful": 1, "failed": 1}}
    cluster.pipeline(schedule={"cron": "0 0 1 1 *"}, **history)
    cluster.becomes("pipeline", "flights", "Scheduled")
    cluster.pipeline(schedule={"cron": "0 0 2 1 *"}, **history)
    cluster.fire(cluster.status("pipeline", "flights")["cronJob"], "flights-1")
    cluster.phase("flights-1", "Running")
    cluster.finish("flights-1", **loaded(1))
    cluster.phase("flights-1", "Succeeded")
    cluster.run("second")
    job = cluster.phase("second", "Running")["job"]
    cluster.finish(job, **loaded(1))
    cluster.phase("second", "Succeeded")
    cluster.plane.kubectl.wait("pipelinerun", "flights-1", "delete", cluster.namespace)
    cluster.becomes("retentionpolicy", "keep", "Planning")
    cluster.delete("retentionpolicy", "keep")
    cluster.pipeline(**history)
    cluster.none_left("cronjob")


@pytest.mark.parametrize(
    ("role", "verbs"), [("view", {"get", "list", "watch"}), ("edit", set(VERBS) - {"impersonate"})]
)
def test_people_with_a_role_in_a_namespace_have_it_for_our_kinds(
    helm: Helm, places: Places, role: str, verbs: set[str]
) -> None:
    _install_rights(helm, places)
    person = f"{role}er-of-{places.served}"
    places.kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={person}", "-n", places.served)

    def may() -> set[str]:
        reviews = [_review(person, places.served, "pipelines.millstream.dev", verb) for verb in VERBS]
        return {verb for verb, allowed in zip(VERBS, _ask(places, reviews), strict=True) if allowed}

    eventually(lambda: may() == verbs, f"{role} to know our kinds", 30)
