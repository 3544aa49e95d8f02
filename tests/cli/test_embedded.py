"""The embedded PostgreSQL: shared by processes, stopped by the last, unharmed by a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg2

from millstream_pipelines import embedded

HOLD = (
    "import sys, time; from pathlib import Path; from millstream_pipelines import embedded\n"
    "with embedded.serving(Path(sys.argv[1])) as server:\n"
    "    embedded.ensure_database(server, 'dw'); print(server.host, flush=True); sys.stdin.readline()\n"
)


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that uses the server until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip()
    return process


def answers(server: embedded.Server) -> bool:
    try:
        psycopg2.connect(host=server.host, port=server.port, user=server.user, dbname="postgres").close()
    except psycopg2.OperationalError:
        return False
    return True


def test_processes_share_it_and_the_last_one_stops_it(server_folder: Path) -> None:
    other = holder(server_folder)
    with embedded.serving(server_folder) as server:
        assert answers(server)
    assert answers(server), "another process still uses it"
    other.communicate("done\n", timeout=30)
    assert not answers(server)


def test_a_killed_user_is_not_counted(server_folder: Path) -> None:
    other = holder(server_folder)
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    with embedded.serving(server_folder) as server:
        assert answers(server)
    assert not answers(server)


def test_rows_are_there_after_a_restart(server_folder: Path) -> None:
    for expected in (1, 2):
        with embedded.serving(server_folder) as server:
            connection = psycopg2.connect(host=server.host, user=server.user, dbname="postgres")
            with connection, connection.cursor() as cursor:
                cursor.execute("CREATE TABLE IF NOT EXISTS t (n int); INSERT INTO t VALUES (1); SELECT count(*) FROM t")
                assert cursor.fetchone() == (expected,)
            connection.close()


def test_a_long_path_gets_a_short_socket(server_folder: Path) -> None:
    with embedded.serving(server_folder / ("long" * 25)) as server:
        assert answers(server)
        assert len(server.host) < 90


def test_a_lost_server_is_started_again(server_folder: Path) -> None:
    with embedded.serving(server_folder) as server:
        pid = int((server_folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)  # immediate shutdown: as after a crash, the pid file may stay
        deadline = time.monotonic() + 20
        while answers(server) and time.monotonic() < deadline:
            time.sleep(0.05)
        with embedded.serving(server_folder) as again:
            assert answers(again)
