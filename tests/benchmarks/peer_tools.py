"""The other tools: what is installed of them, and one sensible command per line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import dataset
from tests.benchmarks.peer_works import CHANGED, CHANGED_TEXTS, SOURCE, TEXTS
from tests.benchmarks.server import DATABASE, Server

_DLT = Path(__file__).with_name("peer_dlt.py")
_NO_UUID = "it fails on uuid, so it was given the column as text"


@dataclass(frozen=True)
class Job:
    """What a command is made of. `first`: load all rows by the tool itself, so that it has a table to merge into."""

    work: str
    programs: Path
    server: Server
    file: Path
    first: bool = False

    @property
    def url(self) -> str:
        """The server's socket; the password is for tools that insist, nobody asks for it."""
        return f"postgresql://{self.server.user}:unused@localhost:5432/{DATABASE}?host={self.server.host}"

    def table(self, all_rows: str, changed: str) -> str:
        """Return the table to read."""
        return changed if self.work == "merge" and not self.first else all_rows


class NotBuiltError(Exception):
    """The tool does not do this line."""


@dataclass(frozen=True)
class Peer:
    """A tool: what pip (or apt) installs, its command, and the table that it fills, by line."""

    name: str
    packages: tuple[str, ...]
    command: Callable[[Job], list[str]]
    where: str
    debian: bool = False
    note: str = ""

    def target(self, work: str) -> str:
        """Return the table that it fills."""
        return f"peer_pgloader.{SOURCE}" if (self.name, work) == ("pgloader", "copy") else self.where.format(work=work)

    def installed(self) -> Path:
        """Return the folder of its programs; RuntimeError says why there is none."""
        version = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(self.packages))
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "millstream" / "peers" / version
        if (home / ".complete").exists():
            return _programs(home)
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        for words in self._steps(home):
            done = subprocess.run(words, cwd=home, capture_output=True, text=True, check=False)
            if done.returncode:
                lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
                raise RuntimeError(f"cannot be installed: {' '.join(words[:3])}: {lines[-1] if lines else '?'}")
        (home / ".complete").touch()
        return _programs(home)

    def _steps(self, home: Path) -> list[list[str]]:
        if self.debian:
            fetch = ["apt-get", "download", "-o", "APT::Sandbox::User=root", *self.packages]
            return [fetch, ["sh", "-c", "for deb in *.deb; do dpkg -x $deb . || exit 1; done"]]
        pip = [str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *self.packages]
        return [[sys.executable, "-m", "venv", str(home)], pip]


def _programs(home: Path) -> Path:
    return home / "usr" / "bin" if (home / "usr" / "bin").exists() else home / "bin"


def _dlt(job: Job) -> list[str]:
    origin = str(job.file) if job.work == "csv" else job.table(SOURCE, CHANGED)
    return [str(job.programs / "python"), str(_DLT), job.url, job.work, origin, "first" if job.first else "last"]


def _sling(job: Job) -> list[str]:
    url = job.url.replace("localhost:5432", "") + "&sslmode=disable"
    target = ["--tgt-conn", url, "--tgt-object", f"raw.sling_{job.work}"]
    table = ["--src-conn", url, "--src-stream", f"public.{job.table(SOURCE, CHANGED)}"]
    source = ["--src-stream", f"file://{job.file}"] if job.work == "csv" else table
    merging = job.work == "merge" and not job.first
    mode = ["--mode", "incremental", "--primary-key", "id"] if merging else ["--mode", "full-refresh"]
    binary = next(
        job.programs.parent.glob("lib/python*/site-packages/sling_linux_amd64/bin/sling-linux-amd64"),
        job.programs / "sling",
    )
    return [str(binary), "run", *source, *target, *mode]


def _ingestr(job: Job) -> list[str]:
    table = ["--source-uri", job.url, "--source-table", f"public.{job.table(TEXTS, CHANGED_TEXTS)}"]
    source = ["--source-uri", f"csv://{job.file}", "--source-table", "rows"] if job.work == "csv" else table
    target = ["--dest-uri", job.url, "--dest-table", f"raw.ingestr_{job.work}"]
    merge = ["--incremental-strategy", "merge", "--primary-key", "id"] if job.work == "merge" else []
    return [str(job.programs / "ingestr"), "ingest", "--yes", *source, *target, *merge]


def _pgloader(job: Job) -> list[str]:
    if job.work == "merge":
        raise NotBuiltError("it has no merge by key")
    place = f"postgresql://{job.server.user}@unix:{job.server.host}:5432/{DATABASE}"
    words = (
        f"LOAD DATABASE FROM {place} INTO {place} INCLUDING ONLY TABLE NAMES MATCHING '{SOURCE}' IN SCHEMA 'public' "
        "ALTER SCHEMA 'public' RENAME TO 'peer_pgloader';"
    )
    if job.work == "csv":
        job.server.sql(f"CREATE TABLE raw.pgloader_csv (LIKE {SOURCE})")
        columns = ", ".join(f"{name} [null if blanks]" if name == "note" else name for name in dataset.COLUMNS)
        words = (
            f"LOAD CSV FROM '{job.file}' ({columns}) INTO {place} TARGET TABLE raw.pgloader_csv "
            f"({', '.join(dataset.COLUMNS)}) WITH skip header = 1, fields optionally enclosed by '\"', "
            "fields escaped by double-quote, fields terminated by ',';"
        )
    script = Path(job.server.host) / "peer.load"
    script.write_text(words)
    return [str(job.programs / "pgloader"), str(script)]


PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            "dlt",
            (
                "dlt[postgres,sql_database,filesystem]==1.31.0",
                "sqlalchemy==2.1.9",
                "pyarrow==26.0.1",
                "psycopg2-binary==2.9.13",
                "duckdb==2.0.0",
            ),
            _dlt,
            "raw.dlt_{work}",
        ),
        Peer("sling", ("sling==1.4.11", "sling-linux-amd64==1.4.11"), _sling, "raw.sling_{work}"),
        Peer("ingestr", ("ingestr==0.15.9",), _ingestr, "raw.ingestr_{work}", note=_NO_UUID),
        Peer("pgloader", ("pgloader", "libsybdb5"), _pgloader, "raw.pgloader_{work}", debian=True),
    )
}
