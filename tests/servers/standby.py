"""A read replica of a running server: pg_basebackup, streaming, hot standby."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from cluster.processes import free_port, run, start, stop, wait_until
from servers.folders import server_folder
from servers.postgres import SETTINGS, Postgres, answers, own_folder, programs, unprivileged


@contextmanager
def following(primary: Postgres, **settings: str) -> Iterator[Postgres]:
    """Yield a replica of a server that `serving` has started with the machine's programs."""
    with server_folder("standby") as folder:
        own_folder(folder)
        data, replica = folder / "data", replace(primary, port=free_port())
        given = [programs() / "pg_basebackup", "-d", primary.dsn, "-D", data, "-R", "-c", "fast", "-X", "stream"]
        run([*unprivileged(), *given, "--no-sync"], "copying a server")
        own = {"port": str(replica.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder)}
        flags = [word for name, value in (SETTINGS | own | settings).items() for word in ("-c", f"{name}={value}")]
        command = [*unprivileged(), programs() / "postgres", "-D", data, *flags]
        process = start("standby", command, folder / "standby.log", tied=True, cwd=folder)
        try:
            wait_until(lambda: answers(replica), "the replica", 120, needs=[process], logs=folder)
            yield replica
        finally:
            stop([process], grace_s=1.0)
            shutil.rmtree(data, ignore_errors=True)


def replayed(primary: Postgres, replica: Postgres) -> bool:
    """Say whether the replica has everything that the primary has committed."""
    return bool(_of(replica).execute(f"SELECT pg_last_wal_replay_lsn() >= '{_written(primary)}'")[0][0])


def is_held_up(primary: Postgres, replica: Postgres) -> bool:
    """Say whether the replica has got everything and does not get on: a read that takes no rows meanwhile holds it."""
    written, seen = _written(primary), []
    for _ in range(3):
        seen += _of(replica).execute(
            f"SELECT pg_last_wal_receive_lsn() >= '{written}', pg_last_wal_replay_lsn() < '{written}', "
            "pg_last_wal_replay_lsn()::text"
        )
        time.sleep(0.2)
    return len(set(seen)) == 1 and seen[0][:2] == (True, True)


def _of(replica: Postgres) -> Postgres:
    """Return the database that each server has: the one that is asked about may not be there yet."""
    return replace(replica, database="postgres")


def _written(primary: Postgres) -> str:
    """Return where the log ends, all before it being on disk: commits of the tests' servers do not wait for that."""
    primary.execute(
        "DO $$ BEGIN PERFORM set_config('synchronous_commit', 'on', true), "
        "pg_logical_emit_message(true, 'millstream', ''); END $$"
    )
    return str(primary.execute("SELECT pg_current_wal_flush_lsn()::text")[0][0])
