"""A real PgBouncer in front of a server: Debian's package, one program per pool mode."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from cluster import debian
from cluster.processes import free_port, start, stop, wait_until
from servers.folders import server_folder
from servers.postgres import Postgres, answers, own_folder, unprivileged

_PACKAGES = {"pgbouncer": "pgbouncer"}


@contextmanager
def pooling(server: Postgres, mode: str, **settings: str) -> Iterator[Postgres]:
    """Yield the server as clients meet it behind a PgBouncer that has its defaults beside the mode and `settings`."""
    debian.ensure(_PACKAGES)
    with server_folder("pgbouncer") as folder:
        port = free_port()
        (folder / "users").write_text(f'"{server.user}" "{server.password}"\n')
        given = {
            "listen_addr": "127.0.0.1", "listen_port": str(port), "unix_socket_dir": "", "auth_type": "scram-sha-256",
            "auth_file": str(folder / "users"), "pool_mode": mode, **settings,
        }  # fmt: skip
        lines = [f"{name} = {value}" for name, value in given.items()]
        text = "\n".join(["[databases]", f"* = host={server.host} port={server.port}", "[pgbouncer]", *lines, ""])
        (folder / "pgbouncer.ini").write_text(text)
        for path in (folder, folder / "users", folder / "pgbouncer.ini"):
            own_folder(path)
        command = [*unprivileged(), shutil.which("pgbouncer", path=_PATH) or "pgbouncer", folder / "pgbouncer.ini"]
        process = start("pgbouncer", command, folder / "pgbouncer.log", tied=True, cwd=folder)
        front = replace(server, port=port)
        try:
            wait_until(lambda: answers(front), "PgBouncer", 120, needs=[process], logs=folder)
            yield front
        finally:
            stop([process], grace_s=0.2)


_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
