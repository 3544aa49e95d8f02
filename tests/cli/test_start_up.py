"""Start-up is part of the product: what may not be imported before it is needed."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

HEAVY = ("pydantic", "yaml", "pyarrow", "psycopg2", "duckdb", "httpx", "rich", "sqlglot", "obstore", "pgpq")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from millstream_pipelines.cli import main\n"
        f"try: main({words!r})\n"
        "except SystemExit as error: assert not error.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr.strip() == "[]"


def test_help_answers_at_once() -> None:
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "millstream_pipelines.cli", "--help"], capture_output=True, check=True)
    assert time.monotonic() - started < 2  # measured 0.07 s; the rest is for a machine that does other things


def test_a_run_without_files_or_http_imports_neither() -> None:
    code = (
        "import sys, pathlib\n"
        "from millstream_pipelines.cli import run\n"
        "from millstream_pipelines import runner\n"
        "print([name for name in ('httpx', 'obstore', 'duckdb', 'rich', 'adbc_driver_postgresql') "
        "if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
