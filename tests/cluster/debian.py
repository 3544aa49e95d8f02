"""Debian packages the test cluster needs: found by their commands, installed only where missing."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.paths import locked
from cluster.processes import ClusterError

CONTROL_PLANE = {"etcd": "etcd-server", "openssl": "openssl", "setpriv": "util-linux"}
NODE = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
IMAGES = {"buildah": "buildah", "debootstrap": "debootstrap", "wget": "wget"}

_POLICY = Path("/usr/sbin/policy-rc.d")


def ensure(commands: dict[str, str]) -> None:
    """Install the packages of those commands that this machine lacks; cost nothing when all are there."""
    if not missing(commands):
        return
    with locked("apt"):
        packages = missing(commands)
        if packages:
            _install(packages)
    still = missing(commands)
    if still:
        raise ClusterError(f"apt-get said it installed {', '.join(still)}, but the commands are not there")


def missing(commands: dict[str, str]) -> list[str]:
    """Return the packages, sorted, whose command is not found."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    return sorted({package for command, package in commands.items() if shutil.which(command, path=path) is None})


def _install(packages: list[str]) -> None:
    if os.getuid() != 0:
        raise ClusterError(f"packages are missing: run `sudo apt-get install {' '.join(packages)}` once")
    began = time.monotonic()
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            command = ["apt-get", "-qq", "-o", "Acquire::Retries=5", *arguments]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise ClusterError(f"`{' '.join(command)}` failed: {done.stderr.strip()[-1000:]}")
    print(f"installed {' '.join(packages)}  {time.monotonic() - began:.1f} s", flush=True)


@contextmanager
def _no_services() -> Iterator[None]:
    """Keep a fresh package (etcd, redis, containerd) from starting its own service beside ours."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
