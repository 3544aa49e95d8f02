"""`make bench`: each path as a ratio to a limit measured in the same run, in interleaved rounds.

What the machine does besides slows both, so the ratio stands where seconds do not. `wall` is the command as a user
calls it, from the start of the process to its end; `run` is what the run itself reports. After the first round the
result is compared with what was sent: count and content of every column.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks import dataset, peers
from tests.benchmarks.copying import Checked, Copy
from tests.benchmarks.delimited import Csv
from tests.benchmarks.line import Bench, Line, measure
from tests.benchmarks.merging import Merge
from tests.benchmarks.ndjson import Ndjson, Nested
from tests.benchmarks.parquet import Parquet
from tests.benchmarks.retention import ArchiveLine, LatencyLine, PlanLine, RestoreLine
from tests.benchmarks.rules import Rules
from tests.benchmarks.server import serving
from tests.benchmarks.smallest import SmallestCopy, SmallestCsv
from tests.benchmarks.table import rendered

_LINES: tuple[type[Line], ...] = (
    Copy, Checked, Csv, Ndjson, Nested, Parquet, Merge, Rules, SmallestCopy, SmallestCsv, ArchiveLine, RestoreLine,
    PlanLine, LatencyLine,
)  # fmt: skip
LINES = {line.name: line for line in _LINES}


def main() -> int:
    """Measure, print a table, and write JSON where asked."""
    options = _arguments()
    with _folder() as folder, serving(folder / "postgres") as server:
        settings = server.settings()
        bench = Bench(server, folder, options.rows, _say)
        _say(f"making {options.rows:,} rows × {len(dataset.COLUMNS)} columns")
        server.sql(dataset.source("source", options.rows), dataset.source("source_tenth", bench.tenth), "ANALYZE")
        deadline = time.monotonic() + options.minutes * 60
        found = [_measured(LINES[name](bench), options.rounds, deadline) for name in options.only]
        works = [name for name in peers.WORKS if name in options.only]
        others = (
            peers.compared(bench, options.peers, works, options.peer_rows, options.patience) if options.peers else []
        )
    print(f"{options.rows:,} rows × {len(dataset.COLUMNS)} columns, medians; goal for memory: {Line.goal_rss_mib} MiB")
    print(f"server: {settings}\n")
    print(rendered(found))
    if others:
        print(f"\n{peers.rendered(others, options.peer_rows)}")
    if options.json:
        document = {"rows": options.rows, "rounds": options.rounds, "server": settings, "lines": found, "peers": others}
        options.json.write_text(json.dumps(document, indent=2))
    return 1 if any("failed" in item for item in found) else 0


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="millstream-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000, help="rows (default 3,000,000)")
    parser.add_argument("--quick", action="store_true", help="300,000 rows")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--only", default=",".join(LINES), help=f"lines, separated by commas: {', '.join(LINES)}")
    parser.add_argument("--minutes", type=float, default=30, help="begin nothing new after that long (default 30)")
    parser.add_argument("--peers", default="", help=f"install and measure these too: {', '.join(peers.PEERS)}")
    parser.add_argument("--peer-rows", type=int, default=300_000, help="rows for the peers (default 300,000)")
    parser.add_argument("--patience", type=float, default=60, help="cut a peer off after that many limits (default 60)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    options.rows = 300_000 if options.quick else options.rows
    options.only = [name for name in options.only.split(",") if name]
    options.peers = [name for name in options.peers.split(",") if name]
    for name in options.peers:
        if name not in peers.PEERS:
            parser.error(f"no peer {name}; known: {', '.join(peers.PEERS)}")
    unknown = set(options.only) - set(LINES)
    if unknown:
        parser.error(f"no line {', '.join(sorted(unknown))}; known: {', '.join(LINES)}")
    return options


def _measured(line: Line, rounds: int, deadline: float) -> dict[str, Any]:
    if time.monotonic() > deadline:
        return {"line": line.name, "failed": "time was up before it began; give --minutes"}
    try:
        return measure(line, rounds, deadline)
    except (SystemExit, subprocess.CalledProcessError) as error:  # one line's failure leaves the others their figures
        _say(str(error))
        return {"line": line.name, "failed": str(error)}
    finally:
        line.clear()


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
