"""Other tools on the same work, on demand: `--peers dlt,sling,ingestr,pgloader`. Never part of the tests.

Each is installed apart, in the user's cache, at the version named in `peer_tools`, and has one sensible configuration:
better ones may exist. What cannot be installed, fails or takes too long is said, and so is every value that came out
changed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import dataset, peer_works
from tests.benchmarks.line import Bench
from tests.benchmarks.peer_tools import PEERS, Job, NotBuiltError, Peer
from tests.benchmarks.peer_works import WORKS, Work
from tests.benchmarks.server import Server
from tests.measuring import measured

_LEAST_S = 60
"""What a tool has at least: some need ten seconds to start."""
_EQUAL = "is written otherwise, values equal"


def compared(
    bench: Bench, names: Sequence[str], works: Sequence[str], rows: int, patience: float
) -> list[dict[str, Any]]:
    """Let each peer do each line that it can, next to the limit, and say what became of the values.

    A peer is cut off after `patience` times the limit, or a minute.
    """
    file = bench.folder / "peer.csv"
    peer_works.prepare(bench.server, rows, file)
    found = []
    for work in (WORKS[name] for name in works):
        for peer in (PEERS[name] for name in names):
            bench.say(f"{work.name}: {peer.name}")
            try:
                figures = _measured(bench, peer, work, file, patience)
            except (RuntimeError, NotBuiltError) as error:
                figures = {"failed": str(error)}
            found.append({"line": work.name, "peer": peer.name, **figures})
            bench.say(f"{work.name}: {peer.name}: {figures.get('failed') or figures['result']}")
    peer_works.clear(bench.server)
    return found


def _measured(bench: Bench, peer: Peer, work: Work, file: Path, patience: float) -> dict[str, Any]:
    server, target = bench.server, peer.target(work.name)
    folder = bench.folder / f"peer-{peer.name}-{work.name}"
    folder.mkdir(exist_ok=True)
    job = Job(work.name, peer.installed(), server, file)
    server.sql(f"DROP TABLE IF EXISTS {target}", "CHECKPOINT")
    commands = [peer.command(Job(**{**vars(job), "first": True}))] if work.name == "merge" else []
    commands.append(peer.command(job))
    limit_s = work.limit(server, file)
    timeout_s = round(max(_LEAST_S, patience * limit_s))
    environment = {
        **os.environ,
        "HOME": str(folder),
        "PATH": f"{job.programs}:{os.environ['PATH']}",
        "PGPASSWORD": "unused",
    }
    for words in commands:  # of two the first is what the other merges into
        done = measured(words, folder, env=environment, timeout_s=timeout_s)
        if done.code == -9 and done.wall_s >= timeout_s:
            raise RuntimeError(f"cut off after {timeout_s} s, {timeout_s / limit_s:.0f} times the limit")
        if done.code:
            lines = [line for line in (done.out + done.err).splitlines() if line.strip()]
            raise RuntimeError(f"ended with {done.code}: {' '.join(lines[-3:])[-400:]}")
    return {
        "packages": list(peer.packages),
        "limit_s": limit_s,
        "wall_s": done.wall_s,
        "ratio": done.wall_s / limit_s,
        "rss_mib": done.rss_mib,
        "result": "; ".join(filter(None, (_result(server, target, work.expected), peer.note))),
    }


def _result(server: Server, table: str, expected: str) -> str:
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
    if (rows := server.scalar(f"SELECT count(*) FROM {table}")) != server.scalar(f"SELECT count(*) FROM {expected}"):
        wrong.append(f"{rows} rows")
    for column, kind in dataset.TYPES.items():
        if column not in types:
            wrong.append(f"{column} is absent")
            continue
        sent = dataset.Content(expected, [column]).query()
        if server.rows(sent) != server.rows(dataset.Content(table, [f"{column}::{kind}"]).query()):
            wrong.append(_difference(server, table, expected, column, kind))
    spelled = {"timestamptz": "timestamp with time zone"}
    changed = [
        f"{c} {types[c]}" for c, kind in dataset.TYPES.items() if c in types and types[c] != spelled.get(kind, kind)
    ]
    same = [item for item in wrong if item.endswith(_EQUAL)]
    parts = [f"WRONG: {', '.join(item for item in wrong if item not in same)}" if len(wrong) > len(same) else "equal"]
    return "; ".join([*parts, *same, *([f"types: {', '.join(changed)}"] if changed else [])])


def _difference(server: Server, table: str, expected: str, column: str, kind: str) -> str:
    """Say how a column differs whose content is not that of the source."""
    rows = expected if expected.endswith(") w") else f"(SELECT * FROM {expected})"
    pairs = f"FROM {rows.removesuffix(' w')} s JOIN {table} t ON t.id::bigint = s.id WHERE"
    other = f"{pairs} s.{column} IS DISTINCT FROM t.{column}::{kind}"
    found = int(server.scalar(f"SELECT count(*) {other}"))
    if not found:
        return f"{column} {_EQUAL}"
    filled = int(server.scalar(f"SELECT count(*) {pairs} s.{column} IS NULL AND t.{column}::text = ''"))
    if filled == found:
        return f"{column}: NULL became '' ({filled} rows)"
    lost = int(server.scalar(f"SELECT count(*) {pairs} s.{column}::text = '' AND t.{column} IS NULL"))
    return f"{column}: '' became NULL ({lost} rows)" if lost == found else f"{column}: {found} other values"


def rendered(found: list[dict[str, Any]], rows: int) -> str:
    """Return the peers' lines as text."""
    lines = [f"peers, {rows:,} rows (merge: a tenth of them changed), one run each next to the limit by hand"]
    for item in found:
        head = f"{item['line']:<6} {item['peer']:<9}"
        if "failed" in item:
            lines.append(f"{head} not measured: {item['failed']}")
        else:
            lines.append(
                f"{head} limit {item['limit_s']:.2f} s  wall {item['wall_s']:.2f} s  ratio {item['ratio']:.1f}  "
                f"RSS {item['rss_mib']:.0f} MiB  {item['result']}  ({' '.join(item['packages'])})"
            )
    return "\n".join(lines)
