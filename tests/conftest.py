"""What all tests share: the checkout, and the command as a user calls it. Nothing starts before a test asks for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.plugin import control_plane, namespace, node
from millstream_pipelines import embedded

__all__ = ["control_plane", "namespace", "node"]  # here and nowhere else: one cluster serves the whole session


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, Any]:
    """With CI=true a test that did not run is a failure: nothing may be green because it was left out."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", f"skipped, which CI counts as a failure: {report.longrepr}"
    return report


_ON_A_CLUSTER = tuple(f"tests/{name}/" for name in ("api", "chart", "cluster", "e2e", "operator"))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the work of several processes (`make test`): what needs the cluster is one piece, so there is one cluster.

    Its tests mostly wait; every other file is a piece of its own and fills the time. Pieces begin in the order in
    which they were collected.
    """
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False

    class Pieces(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return "cluster" if nodeid.startswith(_ON_A_CLUSTER) else nodeid.partition("::")[0]

    return Pieces(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the many quick tests beside those that wait for a cluster, then what is long; the end is of small pieces."""
    places = (_ON_A_CLUSTER, ("tests/pipelines/",), ("tests/chaos/",), ("",))
    items.sort(key=lambda item: next(place for place, starts in enumerate(places) if item.nodeid.startswith(starts)))


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own MILLSTREAM_… variables change no test, except those that choose a test server."""
    for name in list(os.environ):
        if name.startswith("MILLSTREAM_") and not name.startswith("MILLSTREAM_TEST_"):
            monkeypatch.delenv(name)


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return standard output as one JSON document."""
        return json.loads(self.out)


Millstream = Callable[..., Result]


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder outside pytest's own, which each start of pytest closes to all but its user.

    Run as root, the embedded PostgreSQL is another user and would lose its files in mid-run.
    """
    with tempfile.TemporaryDirectory(prefix="millstream-test-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder for an embedded PostgreSQL of this test's own."""
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A home whose server stays up for all tests: each command joins it and leaves it running."""
    with open_folder() as folder, embedded.serving(folder / "postgres"):
        yield folder


@pytest.fixture
def millstream(home: Path, tmp_path: Path) -> Millstream:
    """Call the command in `tmp_path`."""

    def call(*words: object, env: Mapping[str, str] | None = None) -> Result:
        environment = {**os.environ, "MILLSTREAM_HOME": str(home), "COLUMNS": "100", **(env or {})}
        line = [sys.executable, "-m", "millstream_pipelines.cli", *map(str, words)]
        done = subprocess.run(
            line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return call
