"""Process 1 of a test node: prepares its mounts, then reaps orphans until it is killed.

The node has network, mount and process namespaces of its own. When this process dies the kernel ends every process
of the node and takes its mounts, bridge and firewall rules down: nothing can stay behind, however the tests end.
Run as a script inside the new namespaces; knows nothing of the rest of the package.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

# Images unpack into memory where there is plenty: half the time to load, none to remove. Ours take about 1.5 GiB.
_ENOUGH_BYTES = 8 * 2**30


def main(folder: Path) -> None:
    """Mount, raise loopback, say ready by a file, reap."""
    _mount("--make-rshared", "/")
    _mount("-t", "tmpfs", "tmpfs", "/run")
    # The kubelet and CNI plugins write below these whatever their flags say: keep that in our folder.
    for name in ("lib", "log"):
        upper, work = folder / "var" / name / "upper", folder / "var" / name / "work"
        upper.mkdir(parents=True)
        work.mkdir()
        target = f"/var/{name}"
        _mount("-t", "overlay", "-o", f"lowerdir={target},upperdir={upper},workdir={work}", "overlay", target)
    if _memory_available_bytes() > _ENOUGH_BYTES:
        (folder / "containerd").mkdir()
        _mount("-t", "tmpfs", "tmpfs", str(folder / "containerd"))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    (folder / "node.ready").touch()
    _reap()


def _memory_available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _reap() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(0.5)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
