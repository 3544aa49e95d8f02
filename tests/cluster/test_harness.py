"""The harness itself: nothing outlives its owner, nothing is built twice, and a missing cluster is said loudly."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import archive, build, images, ladder, paths, runs
from cluster.processes import ClusterError, Started, start, start_ticks, stop, wait_until


@pytest.fixture
def own_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cache and run folders of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_reused_process_id_is_not_mistaken_for_ours() -> None:
    me = os.getpid()
    assert Started("me", me, start_ticks(me)).alive()
    assert not Started("me", me, start_ticks(me) - 1).alive()


def test_a_daemon_that_dies_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    daemon = start("teller", ["sh", "-c", "echo no disk left; exit 1"], tmp_path / "teller.log", tied=True)
    with pytest.raises(ClusterError, match=r"(?s)the teller: teller ended.*no disk left"):
        wait_until(lambda: False, "the teller", 5, needs=[daemon], logs=tmp_path)


def test_a_cluster_dies_with_the_process_that_owns_it(own_roots: Path) -> None:
    script = (
        "import sys, time; from cluster import processes; from pathlib import Path\n"
        "p = processes.start('sleep', ['sleep', '60'], Path(sys.argv[1]), tied=True)\n"
        "print(p.pid, p.ticks, flush=True)\n"
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(own_roots / "log")]
    environment = {**os.environ, "PYTHONPATH": str(paths.REPOSITORY / "tests")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, ticks = (int(word) for word in owner.stdout.readline().split())
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: not Started("sleep", pid, ticks).alive(), "the daemon's end", 5)


def test_what_a_crashed_run_left_is_cleared_by_the_next(own_roots: Path) -> None:
    crashed = runs.begin(tied=True)
    left = start("left", ["sleep", "60"], crashed.logs / "left.log", tied=False)
    crashed.owner = Started("owner", os.getpid(), 1)
    crashed.record(left)
    following = runs.begin(tied=True)
    assert not left.alive()
    assert following.index == crashed.index
    following.end()
    assert not following.folder.exists()


def test_stopping_ends_a_process_that_ignores_requests(tmp_path: Path) -> None:
    stubborn = start("stubborn", ["sh", "-c", "trap '' TERM; sleep 60"], tmp_path / "log", tied=True)
    time.sleep(0.2)
    stop([stubborn], grace_s=0.2)
    assert not stubborn.alive()


def test_a_build_that_is_in_the_cache_costs_nothing(own_roots: Path) -> None:
    for tool in build.TOOLS.values():
        tool.path.parent.mkdir(parents=True, exist_ok=True)
        tool.path.touch()
    began = time.monotonic()
    assert set(build.ensure()) == set(build.TOOLS)
    assert time.monotonic() - began < 1


def test_an_interrupted_build_is_not_trusted(own_roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(own_roots))
    with pytest.raises(ClusterError, match="Go is not installed"):
        build.ensure("kubeconform")
    assert not build.built("kubeconform")


def test_an_images_name_follows_its_content(tmp_path: Path) -> None:
    for name in ("Dockerfile", "pyproject.toml"):
        (tmp_path / name).write_text(name)
    before = images.content_hash(tmp_path)
    assert images.content_hash(tmp_path) == before
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    assert images.content_hash(tmp_path) != before


def test_the_image_hash_covers_what_the_build_can_see() -> None:
    lines = (paths.REPOSITORY / ".dockerignore").read_text().splitlines()
    visible = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert set(images.INPUTS) == visible | {"Dockerfile", ".dockerignore"}


def test_an_archive_is_complete_or_absent(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("x")
    archive.write(tmp_path / "image.tar", "localhost/x:1", {"/program": program}, ["/program"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tar", "program"]


def test_without_any_cluster_every_rung_is_named(own_roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILLSTREAM_TEST_KUBECONFIG", raising=False)
    monkeypatch.setenv("PATH", str(own_roots))
    with pytest.raises(ladder.NoClusterError, match=r"KUBECONFIG is not set; docker .*; Go is not installed"):
        ladder.climb().__enter__()
