"""Where the test cluster keeps things, and which versions it pins.

Two roots, both the user's own: the cache (binaries, base image, image archives; safe to delete at any time) and the
run root (one folder per running cluster, deleted with it). Nothing else on the machine is written, except missing
Debian packages (`debian.py`).
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Kubelets from 1.35 refuse cgroup v1, which is what the machines that run these tests have.
KUBERNETES = "1.34.4"
HELM = "3.19.5"
KUBECONFORM = "0.7.0"
VERSITYGW = "1.8.0"
FAKE_GCS = "1.56.1"
COREDNS = "1.14.7"

REPOSITORY = Path(__file__).resolve().parents[2]


def cache_root() -> Path:
    """Return `$XDG_CACHE_HOME/millstream` (default `~/.cache/millstream`), made when missing."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "millstream"
    root.mkdir(parents=True, exist_ok=True)
    return root


def run_root() -> Path:
    """Return the folder that holds one folder per running cluster.

    Short on purpose: containerd's sockets lie below it, and a socket's path may not exceed 108 bytes.
    """
    root = Path(tempfile.gettempdir()) / f"millstream-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    return root


def bin_dir(tool: str, version: str) -> Path:
    """Return the cache folder of one tool at one version, so a new version never meets an old binary."""
    return cache_root() / f"bin-{tool}-{version}"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the machine-wide lock `name`; the kernel frees it when this process dies, however it dies."""
    with (cache_root() / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
