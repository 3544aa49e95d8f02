"""The control group under which a node's pods live, on cgroup v1 (one tree per controller) and v2 (one tree)."""

import os
import time
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def create(name: str) -> None:
    """Make the group in every tree; the kubelet refuses to start when one lacks it."""
    for tree in _trees():
        (tree / name).mkdir(exist_ok=True)


def remove(name: str) -> None:
    """Remove the group and all below it; its processes must have ended (the kernel may lag a moment behind)."""
    for tree in _trees():
        top = tree / name
        for _ in range(50):
            if not top.exists() or _remove_below(top):
                break
            time.sleep(0.1)


def _trees() -> list[Path]:
    if (_ROOT / "cgroup.controllers").exists():
        return [_ROOT]
    found: dict[Path, None] = {}
    for child in sorted(_ROOT.iterdir()):
        # `cpu` and `cpuacct` are often links to one tree, and the folder lists both.
        if child.is_dir() and (child / "cgroup.procs").exists():
            found[child.resolve()] = None
    return list(found)


def _remove_below(top: Path) -> bool:
    try:
        for folder, _, _ in os.walk(top, topdown=False):
            os.rmdir(folder)
    except OSError:
        return False
    return True
