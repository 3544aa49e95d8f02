"""The base image where no registry can be reached: Debian with Python, put together by debootstrap and cached.

It stands in for the Dockerfile's default `python:3.11-slim`.
"""

import hashlib
import os
import shutil
import time
from pathlib import Path

from cluster import debian, paths
from cluster.processes import ClusterError, run

SUITE = "bookworm"
_PACKAGES = ("ca-certificates", "python3", "python3-venv")
_NEEDLESS = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
)
_KEY = hashlib.sha256("\n".join([SUITE, *_PACKAGES, *_NEEDLESS]).encode()).hexdigest()[:12]
NAME = f"localhost/millstream-base:{SUITE}-{_KEY}"


def ensure() -> Path:
    """Return the root file system as a tar; making it takes about a minute, once."""
    archive = paths.cache_root() / "images" / f"base-{SUITE}-{_KEY}.tar"
    if archive.exists():
        return archive
    debian.ensure(debian.IMAGES)
    archive.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    print(f"building the base image from Debian {SUITE} ...", flush=True)
    root = paths.run_root() / f"debootstrap-{os.getpid()}"
    unfinished = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        _debootstrap(root)
        run(
            ["tar", "--create", "--numeric-owner", f"--directory={root}", f"--file={unfinished}", "."],
            "packing the base",
        )
        unfinished.rename(archive)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        unfinished.unlink(missing_ok=True)
    print(f"built the base image  {time.monotonic() - began:.1f} s", flush=True)
    return archive


def _debootstrap(root: Path) -> None:
    if os.getuid() != 0:
        raise ClusterError("the base image needs root to be built; run once as root, or use Docker")
    options = ["--variant=minbase", f"--include={','.join(_PACKAGES)}"]
    run(["debootstrap", *options, SUITE, str(root), *_mirror()], "debootstrap of the base image", timeout_s=900)
    for name in _NEEDLESS:
        shutil.rmtree(root / name, ignore_errors=True)
    for log in (root / "var/log").glob("*.log"):
        log.unlink()


def _mirror() -> list[str]:
    """Return the Debian mirror this machine itself uses, if it says so; debootstrap knows the public one."""
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    lines = sources.read_text().splitlines() if sources.exists() else []
    uris = [line.split()[1] for line in lines if line.startswith("URIs:") and "security" not in line]
    return uris[:1]
