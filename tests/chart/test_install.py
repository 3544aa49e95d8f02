"""The chart on a real API server: admitted in both modes without a warning, installed, upgraded, removed."""

from __future__ import annotations

import json

import pytest
import yaml

from chart.conftest import Places
from chart.rendering import CHART, CHARTS, Helm, Manifest, of_kind, one
from cluster.processes import ClusterError

pytestmark = pytest.mark.cluster

EVERYTHING = (
    "replicas=2",
    "podDisruptionBudget.enabled=true",
    "networkPolicy.enabled=true",
    "networkPolicy.apiServerCidrs={10.0.0.1/32}",
)


def _admit(places: Places, manifests: list[Manifest]) -> str:
    """Have the server admit objects without storing them; a warning is an error."""
    text = "\n---\n".join(json.dumps(item) for item in manifests)
    flags = ("--server-side", "--force-conflicts", "--dry-run=server", "--warnings-as-errors", "--filename=-")
    return places.kubectl("apply", *flags, stdin=text)


@pytest.mark.parametrize("mode", ["cluster", "namespaced"])
def test_everything_is_admitted_without_a_warning(helm: Helm, places: Places, mode: str) -> None:
    served = (f"watchNamespaces={{{places.home},{places.served}}}",) if mode == "namespaced" else ()
    made = helm.render(*EVERYTHING, *served, release=places.release, namespace=places.home)
    said = _admit(places, made)
    assert said.count("serverside-applied (server dry run)") == len(made)
    assert said.count("customresourcedefinition") == 5


def _pod(helm: Helm, places: Places) -> Manifest:
    """Return the operator's pod as its Deployment would make it; the service account it names is made."""
    made = helm.render(release=places.release, namespace=places.home)
    places.kubectl.apply(*of_kind(made, "ServiceAccount"))
    template = one(made, "Deployment")["spec"]["template"]
    meta = {**template["metadata"], "name": "operator", "namespace": places.home}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}


def test_the_pod_is_admitted_under_the_restricted_standard(helm: Helm, places: Places) -> None:
    pod = _pod(helm, places)
    _admit(places, [pod])
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(ClusterError, match='violates PodSecurity "restricted'):
        _admit(places, [pod])


def test_only_the_operators_pod_gets_a_token(helm: Helm, places: Places) -> None:
    pod = _pod(helm, places)
    places.kubectl.apply(pod)
    account = pod["spec"]["serviceAccountName"]
    borrower = {"serviceAccountName": account, **{key: pod["spec"][key] for key in ("containers", "securityContext")}}
    borrower["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    places.kubectl.apply({**pod, "metadata": {"name": "borrower", "namespace": places.home}, "spec": borrower})
    mounted = {
        name: [volume for volume in places.kubectl.get("pod", name, places.home)["spec"]["volumes"] if _token(volume)]
        for name in ("operator", "borrower")
    }
    assert (len(mounted["operator"]), len(mounted["borrower"])) == (1, 0)


def _token(volume: Manifest) -> bool:
    return any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", []))


def test_install_upgrade_uninstall(helm: Helm, places: Places) -> None:
    # Other tests have applied the CRDs; a release that owned them would take them from those.
    sets = ("--set=crds.enabled=false", f"--set=watchNamespaces={{{places.served}}}")
    said = places.helm(helm, "install", places.release, str(CHART), *sets)
    assert f"kubectl -n {places.home} rollout status deployment/{places.release}" in said
    assert f"serves {places.served}." in said
    assert "the operator waits until someone has applied the CRDs" in said
    kubectl = places.kubectl
    assert kubectl.exists("serviceaccount", f"{places.release}-runner", places.served)
    places.helm(helm, "upgrade", places.release, str(CHART), "--reuse-values", "--set=replicas=2")
    assert kubectl.get("deployment", places.release, places.home)["spec"]["replicas"] == 2
    places.helm(helm, "uninstall", places.release)
    for kind, namespace in (("deployment", places.home), ("role", places.served), ("serviceaccount", places.served)):
        selector = f"app.kubernetes.io/instance={places.release}"
        assert kubectl.list(kind, namespace, selector) == []
    assert kubectl.exists("crd", "pipelines.millstream.dev")


def test_plain_manifests_are_admitted(places: Places) -> None:
    rendered = list(yaml.safe_load_all(places.kubectl("kustomize", str(CHARTS / "kustomize"))))
    assert len(of_kind(rendered, "CustomResourceDefinition")) == 5
    namespace = one(rendered, "Namespace")
    # A dry run makes no namespace, so this one's objects are asked for where there is one.
    for item in rendered:
        if item["metadata"].get("namespace") == namespace["metadata"]["name"]:
            item["metadata"]["namespace"] = places.home
    said = _admit(places, rendered)
    assert said.count("serverside-applied (server dry run)") == len(rendered)
