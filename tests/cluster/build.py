"""Build the cluster's programs from Go modules, once per version, into the user's cache.

A binary is written under a temporary name and renamed when complete, so an interrupted build is never trusted.
"""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from cluster import paths
from cluster.processes import ClusterError

_KUBERNETES = ("kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
_MODULES = Path(__file__).parent


@dataclass(frozen=True)
class Tool:
    """One program: the cache folder it lives in and the package it is built from."""

    name: str
    family: str
    version: str
    package: str

    @property
    def path(self) -> Path:
        return paths.bin_dir(self.family, self.version) / self.name


def _tool(name: str, version: str, package: str) -> Tool:
    return Tool(name, name, version, f"{package}@v{version}")


TOOLS = {
    tool.name: tool
    for tool in (
        *(Tool(name, "k8s", paths.KUBERNETES, f"k8s.io/kubernetes/cmd/{name}") for name in _KUBERNETES),
        _tool("helm", paths.HELM, "helm.sh/helm/v3/cmd/helm"),
        _tool("kubeconform", paths.KUBECONFORM, "github.com/yannh/kubeconform/cmd/kubeconform"),
        _tool("versitygw", paths.VERSITYGW, "github.com/versity/versitygw/cmd/versitygw"),
        _tool("fake-gcs-server", paths.FAKE_GCS, "github.com/fsouza/fake-gcs-server"),
        _tool("coredns", paths.COREDNS, "github.com/coredns/coredns"),
        Tool("pause", "pause", "1", "pause.go"),
    )
}
CONTROL_PLANE = ("kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler")
NODE = ("kubelet", "kube-proxy", "coredns", "pause")


def go_available() -> bool:
    """Say whether a missing program could be built here."""
    return shutil.which("go") is not None


def built(*names: str) -> bool:
    """Say whether all the named programs are in the cache."""
    return all(TOOLS[name].path.exists() for name in names)


def ensure(*names: str) -> dict[str, Path]:
    """Return the programs' paths; build those not in the cache yet (all of them: about 12 minutes on 2 cores)."""
    wanted = [TOOLS[name] for name in names or TOOLS]
    if not all(tool.path.exists() for tool in wanted):
        with paths.locked("build"):
            for tool in wanted:
                if not tool.path.exists():
                    _build(tool)
    return {tool.name: tool.path for tool in wanted}


def _build(tool: Tool) -> None:
    if not go_available():
        raise ClusterError(f"{tool.name} {tool.version} is not in the cache and Go is not installed to build it")
    print(f"building {tool.name} {tool.version} ...", flush=True)
    began = time.monotonic()
    unfinished = tool.path.with_name(f".{tool.name}.{os.getpid()}")
    unfinished.mkdir(parents=True, exist_ok=True)
    try:
        _compile(tool, unfinished)
        (unfinished / tool.name).rename(tool.path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(f"built {tool.name} {tool.version}  {time.monotonic() - began:.1f} s", flush=True)


def _compile(tool: Tool, into: Path) -> None:
    if "@" in tool.package:
        command = ["go", "install", "-ldflags", "-s -w", tool.package]
    elif tool.package.endswith(".go"):
        command = ["go", "build", "-ldflags", "-s -w", "-o", str(into / tool.name), str(_MODULES / tool.package)]
    else:
        # Go may not touch our own go.mod: the build works on copies.
        for name in ("go.mod", "go.sum"):
            shutil.copy(_MODULES / name, into)
        command = ["go", "build", "-ldflags", _version_flags(), "-o", str(into / tool.name), tool.package]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOBIN": str(into), "GOFLAGS": "-buildvcs=false"}
    done = subprocess.run(command, cwd=into, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"building {tool.name} {tool.version} failed:\n{done.stderr.strip()[-3000:]}")


def _version_flags() -> str:
    """Return the linker flags without which the server reports version 0 and clients misjudge it."""
    package = "k8s.io/component-base/version"
    major, minor, _ = paths.KUBERNETES.split(".")
    values = {"gitVersion": f"v{paths.KUBERNETES}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(["-s", "-w", *(f"-X {package}.{key}={value}" for key, value in values.items())])
