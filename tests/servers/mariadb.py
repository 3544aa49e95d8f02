"""A real MariaDB over TCP with a password: Debian's server, in a folder of its own."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pymysql

from cluster import debian
from cluster.processes import free_port, run, start, stop, wait_until
from servers.folders import server_folder

_PACKAGES = {
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
    "my_print_defaults": "mariadb-client-core",  # called by mariadb-install-db, not needed by its package
}
_USER = "millstream"


@dataclass(frozen=True)
class MariaDB:
    """One database of a running server."""

    host: str
    port: int
    user: str
    password: str
    database: str

    @property
    def config(self) -> dict[str, Any]:
        """The fields of a `sql` source that reach this database."""
        return {
            "url": f"mariadb+pymysql://{self.host}:{self.port}/{self.database}",
            "user": self.user,
            "password": self.password,
        }

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements, each committed, and return the rows of the last."""
        connection = pymysql.connect(
            host=self.host, port=self.port, user=self.user, password=self.password, database=self.database,
            autocommit=True, charset="utf8mb4",
        )  # fmt: skip
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    @contextmanager
    def fresh_database(self) -> Iterator["MariaDB"]:
        """Yield an empty database, dropped afterwards."""
        name = f"test_{secrets.token_hex(4)}"
        self.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        try:
            yield replace(self, database=name)
        finally:
            self.execute(f"DROP DATABASE {name}")


@contextmanager
def serving(listen: str = "0.0.0.0") -> Iterator[MariaDB]:
    """Start a server with a data folder of its own and end it with the block, or with this process."""
    debian.ensure(_PACKAGES)
    with server_folder("mariadb") as folder:
        data, password = folder / "data", secrets.token_hex(8)
        user = ["--user=root"] if os.getuid() == 0 else []
        run(
            [
                "mariadb-install-db",
                f"--datadir={data}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                *user,
            ],
            "preparing MariaDB",
        )
        first = folder / "first.sql"
        first.write_text(f"CREATE USER '{_USER}'@'%' IDENTIFIED BY '{password}';\nGRANT ALL ON *.* TO '{_USER}'@'%';\n")
        server = MariaDB("127.0.0.1", free_port(), _USER, password, "mysql")
        command = [
            "mariadbd", "--no-defaults", f"--datadir={data}", f"--port={server.port}", f"--bind-address={listen}",
            f"--socket={folder / 'socket'}", f"--init-file={first}", "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=64M", "--skip-name-resolve", *user,
        ]  # fmt: skip
        process = start("mariadb", command, folder / "mariadb.log", tied=True, cwd=folder)
        try:
            wait_until(lambda: _answers(server), "the MariaDB server", 120, needs=[process], logs=folder)
            yield server
        finally:
            stop([process], grace_s=2)


def _answers(server: MariaDB) -> bool:
    try:
        return server.execute("SELECT 1") == [(1,)]
    except pymysql.Error:
        return False
