"""A real S3 server over a folder: versitygw, built from its Go module into the cluster's cache."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster import build
from cluster.processes import free_port, start, stop, wait_until
from servers.folders import server_folder


@dataclass(frozen=True)
class S3:
    """A running server. `folder` holds a folder per bucket, so a test may look at, or spoil, what is stored."""

    host: str
    port: int
    access_key: str
    secret_key: str
    folder: Path
    region: str = "us-east-1"

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}:{self.port}"

    def create_bucket(self, name: str = "") -> str:
        """Make an empty bucket and return its name."""
        name = name or f"test-{secrets.token_hex(4)}"
        (self.folder / name).mkdir()
        return name


@contextmanager
def serving(listen: str = "0.0.0.0") -> Iterator[S3]:
    """Start a server with a folder of its own and end it with the block, or with this process."""
    program = build.ensure("versitygw")["versitygw"]
    with server_folder("s3") as folder:
        buckets = folder / "buckets"
        buckets.mkdir()
        server = S3("127.0.0.1", free_port(), f"key{secrets.token_hex(6)}", secrets.token_hex(16), buckets)
        credentials = ["--access", server.access_key, "--secret", server.secret_key]
        command = [program, *credentials, "--port", f"{listen}:{server.port}", "--quiet", "posix", buckets]
        process = start("s3", [str(word) for word in command], folder / "s3.log", tied=True, cwd=folder)
        try:
            wait_until(lambda: _answers(server), "the S3 server", 120, needs=[process], logs=folder)
            yield server
        finally:
            stop([process], grace_s=0.5)


def _answers(server: S3) -> bool:
    try:
        socket.create_connection((server.host, server.port), timeout=1).close()
    except OSError:
        return False
    return True
