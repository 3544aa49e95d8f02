"""Other tools on the same work, on demand: `--peers dlt,sling,ingestr,pgloader`. Never part of the tests.

Each is installed apart, in the user's cache, at the version named here, and has one sensible configuration: better ones
may exist. What cannot be installed or fails is said, and so is every value that came out changed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import dataset
from tests.benchmarks.line import Bench
from tests.benchmarks.server import DATABASE, Server
from tests.measuring import measured

SOURCE = "peer_source"
TEXTS = "peer_source_texts"
_NO_UUID = "it fails on uuid, so it was given the column as text"
_TIMEOUT_S = 900
_EQUAL = "is written otherwise, values equal"
_SCRIPT = Path(__file__).with_name("peer_dlt.py")


@dataclass(frozen=True)
class Peer:
    """A tool: what pip (or apt) installs, and the command that copies the table; `where` is its target."""

    name: str
    packages: tuple[str, ...]
    command: Callable[[Path, Server], list[str]]
    where: str
    debian: bool = False
    note: str = ""

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


def _url(server: Server, scheme: str = "postgresql") -> str:
    """Return a URL over the server's socket; the password is for tools that insist, nobody asks for it."""
    return f"{scheme}://{server.user}:unused@localhost:5432/{DATABASE}?host={server.host}"


def _dlt(programs: Path, server: Server) -> list[str]:
    return [str(programs / "python"), str(_SCRIPT), _url(server), SOURCE]


def _sling(programs: Path, server: Server) -> list[str]:
    url = _url(server).replace("localhost:5432", "") + "&sslmode=disable"
    source, target = ["--src-conn", url, "--src-stream", f"public.{SOURCE}"], ["--tgt-conn", url]
    binary = next(
        programs.parent.glob("lib/python*/site-packages/sling_linux_amd64/bin/sling-linux-amd64"), programs / "sling"
    )
    return [str(binary), "run", *source, *target, "--tgt-object", "raw.peer_sling", "--mode", "full-refresh"]


def _ingestr(programs: Path, server: Server) -> list[str]:
    source, target = ["--source-uri", _url(server), "--source-table", f"public.{TEXTS}"], ["--dest-uri", _url(server)]
    return [str(programs / "ingestr"), "ingest", "--yes", *source, *target, "--dest-table", "raw.peer_ingestr"]


def _pgloader(programs: Path, server: Server) -> list[str]:
    place = f"{server.user}@unix:{server.host}:5432"
    words = (
        f"LOAD DATABASE FROM postgresql://{place}/{DATABASE} INTO postgresql://{place}/{DATABASE} "
        f"INCLUDING ONLY TABLE NAMES MATCHING '{SOURCE}' IN SCHEMA 'public' "
        f"ALTER SCHEMA 'public' RENAME TO 'peer_pgloader';"
    )
    script = Path(server.host) / "peer.load"
    script.write_text(words)
    return [str(programs / "pgloader"), str(script)]


PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            "dlt",
            ("dlt[postgres,sql_database]==1.31.0", "sqlalchemy>=2,<3", "pyarrow", "psycopg2-binary"),
            _dlt,
            f"raw.{SOURCE}",
        ),
        Peer("sling", ("sling==1.4.11", "sling-linux-amd64==1.4.11"), _sling, "raw.peer_sling"),
        Peer("ingestr", ("ingestr==0.15.9",), _ingestr, "raw.peer_ingestr", note=_NO_UUID),
        Peer("pgloader", ("pgloader", "libsybdb5"), _pgloader, f"peer_pgloader.{SOURCE}", debian=True),
    )
}


def compared(bench: Bench, names: list[str], rows: int) -> list[dict[str, Any]]:
    """Copy a table of `rows` rows with each peer, next to the limit, and say what became of the values."""
    server = bench.server
    columns = ", ".join(f"{c}::text AS {c}" if kind == "uuid" else c for c, kind in dataset.TYPES.items())
    server.sql(
        f"DROP TABLE IF EXISTS {SOURCE}, raw.limit_peer CASCADE",
        "CREATE SCHEMA IF NOT EXISTS raw",
        "CREATE SCHEMA IF NOT EXISTS peer_pgloader",
        dataset.source(SOURCE, rows),
        f"CREATE TABLE raw.limit_peer (LIKE {SOURCE})",
        f"CREATE VIEW {TEXTS} AS SELECT {columns} FROM {SOURCE}",
        "ANALYZE",
    )
    found = []
    for name in names:
        bench.say(f"peer {name}: installing")
        try:
            found.append({"peer": name, **_measured(bench, PEERS[name])})
        except RuntimeError as error:
            found.append({"peer": name, "failed": str(error)})
        bench.say(f"peer {name}: {found[-1].get('failed') or found[-1]['result']}")
    return found


def _measured(bench: Bench, peer: Peer) -> dict[str, Any]:
    server = bench.server
    programs = peer.installed()
    folder = bench.folder / f"peer-{peer.name}"
    folder.mkdir(exist_ok=True)
    server.sql(f"DROP TABLE IF EXISTS {peer.where}", "TRUNCATE raw.limit_peer", "CHECKPOINT")
    limit_s = server.piped(f"COPY {SOURCE} TO STDOUT (FORMAT binary)", "COPY raw.limit_peer FROM STDIN (FORMAT binary)")
    environment = {
        **os.environ,
        "HOME": str(folder),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PGPASSWORD": "unused",
    }
    done = measured(peer.command(programs, server), folder, env=environment, timeout_s=_TIMEOUT_S)
    if done.code:
        lines = [line for line in (done.out + done.err).splitlines() if line.strip()]
        raise RuntimeError(f"ended with {done.code}: {' '.join(lines[-3:])[-400:]}")
    return {
        "packages": list(peer.packages),
        "limit_s": limit_s,
        "wall_s": done.wall_s,
        "ratio": done.wall_s / limit_s,
        "rss_mib": done.rss_mib,
        "result": "; ".join(filter(None, (_result(server, peer.where), peer.note))),
    }


def _result(server: Server, table: str) -> str:
    """Say what differs from the source: rows, values as the source's types, and types."""
    schema, name = table.split(".")
    listed = server.rows(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid "
        f"JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = '{schema}' AND relname = '{name}' "
        "AND attnum > 0 AND NOT attisdropped"
    )
    types = {row[0]: row[1] for row in listed}
    if not types:
        return f"no table {table}"
    wrong = []
    if (rows := server.scalar(f"SELECT count(*) FROM {table}")) != server.scalar(f"SELECT count(*) FROM {SOURCE}"):
        wrong.append(f"{rows} rows")
    for column, kind in dataset.TYPES.items():
        if column not in types:
            wrong.append(f"{column} is absent")
            continue
        sent = dataset.Content(SOURCE, [column]).query()
        if server.rows(sent) != server.rows(dataset.Content(table, [f"{column}::{kind}"]).query()):
            wrong.append(_difference(server, table, column, kind))
    spelled = {"timestamptz": "timestamp with time zone"}
    changed = [
        f"{c} {types[c]}" for c, kind in dataset.TYPES.items() if c in types and types[c] != spelled.get(kind, kind)
    ]
    same = [item for item in wrong if item.endswith(_EQUAL)]
    parts = [f"WRONG: {', '.join(item for item in wrong if item not in same)}" if len(wrong) > len(same) else "equal"]
    return "; ".join([*parts, *same, *([f"types: {', '.join(changed)}"] if changed else [])])


def _difference(server: Server, table: str, column: str, kind: str) -> str:
    """Say how a column differs whose content is not that of the source."""
    pairs = f"FROM {SOURCE} s JOIN {table} t ON t.id::bigint = s.id WHERE"
    other = f"{pairs} s.{column} IS DISTINCT FROM t.{column}::{kind}"
    found = int(server.scalar(f"SELECT count(*) {other}"))
    if not found:
        return f"{column} {_EQUAL}"
    lost = int(server.scalar(f"SELECT count(*) {pairs} s.{column}::text = '' AND t.{column} IS NULL"))
    return f"{column}: '' became NULL ({lost} rows)" if lost == found else f"{column}: {found} other values"


def rendered(found: list[dict[str, Any]], rows: int) -> str:
    """Return the peers' lines as text."""
    lines = [f"peers, line copy, {rows:,} rows, one run each next to the limit"]
    for item in found:
        if "failed" in item:
            lines.append(f"{item['peer']:<9} not measured: {item['failed']}")
        else:
            lines.append(
                f"{item['peer']:<9} limit {item['limit_s']:.2f} s  wall {item['wall_s']:.2f} s  "
                f"ratio {item['ratio']:.1f}  RSS {item['rss_mib']:.0f} MiB  {item['result']}  "
                f"({' '.join(item['packages'])})"
            )
    return "\n".join(lines)
