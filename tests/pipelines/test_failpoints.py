"""Failpoints: armed by a text, reached at the nth time, nothing otherwise. What a kill does is in tests/chaos."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.failpoints import FailpointError, arm, reached


@pytest.fixture(autouse=True)
def unarmed() -> Iterator[None]:
    yield
    arm(None)


def test_an_error_is_raised_at_the_nth_time_and_only_then() -> None:
    arm("written:3:error")
    reached("written")
    reached("committed")
    reached("written")
    with pytest.raises(FailpointError, match="'written'"):
        reached("written")
    reached("written")


@pytest.mark.parametrize("text", [None, ""])
def test_unarmed_nothing_happens(text: str | None) -> None:
    arm("written:1:error")
    arm(text)
    assert reached("written") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("writen:1:kill", "unknown place 'writen'.*did you mean 'written'"),
        ("written", "is 'written'; write place:nth:action, nth from 1, action one of kill, stop, error"),
        ("written:0:kill", "nth from 1"),
        ("written:x:kill", "nth from 1"),
        ("written:1:explode", "action one of kill, stop, error"),
    ],
)
def test_a_text_that_says_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"MILLSTREAM_FAILPOINT.*{message}"):
        arm(text)


def run(code: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *code]
    return subprocess.run(line, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=60)


def test_the_pod_refuses_a_wrong_text_as_configuration() -> None:
    ended = run(
        ["-m", "millstream_pipelines"], MILLSTREAM_FAILPOINT="nowhere:1:kill", MILLSTREAM_TERMINATION_LOG="/dev/null"
    )
    assert ended.returncode == 78
    assert "unknown place 'nowhere'" in ended.stdout


@pytest.mark.parametrize("rows", ["0", "-1", "many", "100001"])
def test_a_wrong_batch_size_is_refused(rows: str) -> None:
    ended = run(["-c", "import millstream_pipelines.batch"], MILLSTREAM_BATCH_ROWS=rows)
    assert f"MILLSTREAM_BATCH_ROWS is '{rows}'; write a whole number from 1 to 100000" in ended.stderr


def test_a_batch_size_is_taken() -> None:
    code = "from millstream_pipelines import batch, seen; print(batch.MAX_BATCH_ROWS, seen._COMMIT_ROWS)"
    assert run(["-c", code], MILLSTREAM_BATCH_ROWS="250").stdout == "250 250\n"
    assert run(["-c", code], MILLSTREAM_BATCH_ROWS="").stdout == "100000 250000\n"
