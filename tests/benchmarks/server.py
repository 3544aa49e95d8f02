"""The server that everything is measured on: an embedded PostgreSQL, and psql."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from millstream_pipelines import embedded

DATABASE = "bench"
# What is measured is the way through the client and the server, not the disk under it.
SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}
_CONNECTIONS = 300
_SHOWN = ("server_version", "shared_buffers", "max_wal_size", "work_mem", *SETTINGS)


@dataclass(frozen=True)
class Server:
    """A running server and psql's command line."""

    host: str
    user: str
    program: Path

    @property
    def config(self) -> dict[str, object]:
        """The fields of a `postgres` source or warehouse."""
        return {"host": self.host, "port": embedded.PORT, "user": self.user, "database": DATABASE}

    @property
    def dsn(self) -> str:
        return f"host={self.host} port={embedded.PORT} user={self.user} dbname={DATABASE}"

    def psql(self, *statements: str, flags: str = "-qX") -> list[str]:
        """Return psql's command line; each statement is sent by itself."""
        where = ["-h", self.host, "-p", str(embedded.PORT), "-U", self.user, "-d", DATABASE]
        words = [word for statement in statements for word in ("-c", statement)]
        return [str(self.program), flags, "-v", "ON_ERROR_STOP=1", *where, *words]

    def sql(self, *statements: str) -> None:
        """Run statements; a failure ends the benchmark."""
        subprocess.run(self.psql("SET client_min_messages = error", *statements), check=True, stdout=subprocess.DEVNULL)

    def rows(self, query: str) -> list[list[str]]:
        """Return a query's rows as text."""
        done = subprocess.run(self.psql(query, flags="-qXAt"), check=True, capture_output=True, text=True)
        return [line.split("|") for line in done.stdout.splitlines()]

    def scalar(self, query: str) -> str:
        """Return a query's one value as text."""
        return self.rows(query)[0][0]

    def timed(self, *statements: str, flags: str = "-qX") -> float:
        """Run statements and return the seconds, psql's start included."""
        started = time.monotonic()
        subprocess.run(self.psql(*statements, flags=flags), check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - started

    def piped(self, out: str, *into: str, flags: str = "-qX") -> float:
        """Pipe a COPY out of one psql into another and return the seconds."""
        started = time.monotonic()
        with subprocess.Popen(self.psql(out), stdout=subprocess.PIPE) as reader:
            subprocess.run(self.psql(*into, flags=flags), stdin=reader.stdout, stdout=subprocess.DEVNULL, check=True)
        if reader.returncode:
            raise SystemExit(f"psql ended with {reader.returncode}: {out}")
        return time.monotonic() - started

    def settings(self) -> str:
        """Return what a reader needs to judge the figures."""
        return ", ".join(f"{name}={self.scalar(f'SHOW {name}')}" for name in _SHOWN)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Start a server of the benchmark's own and stop it in the end."""
    with embedded.serving(folder) as server:
        embedded.ensure_database(server, DATABASE)
        found = Server(server.host, server.user, embedded.programs(folder / "data") / "psql")
        found.sql(f"ALTER SYSTEM SET max_connections = {_CONNECTIONS}")  # counts from the next start
    with embedded.serving(folder) as server:
        found = Server(server.host, server.user, embedded.programs(folder / "data") / "psql")
        found.sql(
            *(f"ALTER SYSTEM SET {name} = {value}" for name, value in SETTINGS.items()), "SELECT pg_reload_conf()"
        )
        yield found
