"""One folder per running cluster: who owns it, which processes belong to it, which addresses it took.

The record is written before anything starts, so the next run can clear away what a crashed one left behind.
"""

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cluster import cgroups
from cluster.paths import locked, run_root
from cluster.processes import ClusterError, Started, start_ticks, stop

_RECORD = "run.json"


@dataclass(frozen=True)
class Addresses:
    """IPv4 addresses of one cluster; `index` (0 to 255) keeps clusters on one machine apart."""

    index: int

    @property
    def host(self) -> str:
        """This machine, as pods see it: test servers that pods shall reach listen here (or everywhere)."""
        return f"10.213.{self.index}.1"

    @property
    def node(self) -> str:
        return f"10.213.{self.index}.2"

    @property
    def pods(self) -> str:
        return f"10.214.{self.index}.0/24"

    @property
    def services(self) -> str:
        return f"10.215.{self.index}.0/24"

    @property
    def kubernetes_service(self) -> str:
        return f"10.215.{self.index}.1"


@dataclass
class Run:
    """A cluster's folder and what must end with it.

    `tied`: it lives as long as `owner`, the process that started it. Otherwise (`up`) as long as its own processes.
    """

    folder: Path
    index: int
    tied: bool
    owner: Started
    api_port: int = 0
    processes: list[Started] = field(default_factory=list)

    @property
    def addresses(self) -> Addresses:
        return Addresses(self.index)

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def cgroup(self) -> str:
        return f"millstream-{self.index}"

    def record(self, *started: Started) -> None:
        """Note processes as ours and write the record; the rename keeps a reader from seeing half of it."""
        self.processes.extend(started)
        values = {**asdict(self), "folder": str(self.folder)}
        unfinished = self.folder / f".{_RECORD}"
        unfinished.write_text(json.dumps(values, indent=1))
        unfinished.rename(self.folder / _RECORD)

    def alive(self) -> bool:
        return self.owner.alive() or (not self.tied and any(process.alive() for process in self.processes))

    def end(self) -> None:
        """End every process of this cluster and remove its folder; safe to call twice."""
        # Nothing here is worth a graceful end: the data go with the folder.
        stop(self.processes, grace_s=0.0)
        cgroups.remove(self.cgroup)
        # The kernel takes a namespace's mounts down a moment after its last process, and files may be busy till then.
        for _ in range(50):
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                return
            time.sleep(0.1)
        raise ClusterError(f"could not remove {self.folder}: a process may still use it; see `fuser -vm {self.folder}`")


def begin(*, tied: bool) -> Run:
    """Clear away dead clusters and open a folder for a new one; see `Run` for `tied`."""
    with locked("runs"):
        living = sweep()
        index = _free_index({run.index for run in living})
        folder = run_root() / f"run-{index}"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "logs").mkdir(parents=True)
        me = Started("owner", os.getpid(), start_ticks(os.getpid()))
        run = Run(folder, index, tied, me)
        run.record()
    return run


def load(folder: Path) -> Run | None:
    """Return the run recorded in `folder`, or None when there is none."""
    try:
        values = json.loads((folder / _RECORD).read_text())
    except (OSError, ValueError):
        return None
    processes = [Started(**process) for process in values["processes"]]
    owner = Started(**values["owner"])
    return Run(folder, values["index"], values["tied"], owner, values["api_port"], processes)


def sweep() -> list[Run]:
    """End what crashed clusters left behind; return those that live."""
    living = []
    for folder in sorted(run_root().glob("run-*")):
        run = load(folder)
        if run is None:
            shutil.rmtree(folder, ignore_errors=True)
        elif run.alive():
            living.append(run)
        else:
            run.end()
    return living


def _free_index(taken: set[int]) -> int:
    in_use = Path("/proc/net/fib_trie").read_text()
    for index in range(256):
        if index not in taken and Addresses(index).host not in in_use:
            return index
    raise ClusterError("no address left in 10.213.0.0/16; `python tests/cluster down` ends forgotten clusters")
