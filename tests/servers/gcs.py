"""A server that speaks Google Cloud Storage: fake-gcs-server, built from its Go module, behind `gcs_front`.

No Google server can be had here. What the emulator does not know of the API that clients use, the front says.
"""

import http.client
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cluster import build, debian
from cluster.processes import free_port, run, start, stop, wait_until
from servers.folders import server_folder
from servers.gcs_front import Front


@dataclass(frozen=True)
class GCS:
    """A running server, and a service account that may do everything there."""

    port: int
    emulator: int
    service_account: str
    front: Front

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def metadata_host(self) -> str:
        """What GCE_METADATA_HOST says to find this server's metadata service."""
        return f"127.0.0.1:{self.port}"

    @property
    def other_account(self) -> str:
        """The key of a service account that the server does not know: of the same name, made anew."""
        return account(_new_key())

    def create_bucket(self, name: str = "", *, public: bool = False) -> str:
        """Make an empty bucket and return its name."""
        name = name or f"test-{secrets.token_hex(4)}"
        status = _asked(self.emulator, "POST", "/storage/v1/b", json.dumps({"name": name}))
        assert status == 200, f"creating bucket {name}: {status}"
        self.front.buckets.add(name)
        if public:
            self.front.public.add(name)
        return name


@contextmanager
def serving() -> Iterator[GCS]:
    """Start a server and end it with the block, or with this process."""
    program = build.ensure("fake-gcs-server")["fake-gcs-server"]
    debian.ensure({"openssl": "openssl"})
    with server_folder("gcs") as folder:
        port, emulator, key = free_port(), free_port(), _new_key()
        (folder / "key.pem").write_text(key)
        run(["openssl", "pkey", "-in", folder / "key.pem", "-pubout", "-out", folder / "public.pem"], "the public key")
        command: list[Any] = [program, "-scheme", "http", "-backend", "memory", "-log-level", "error"]
        command += ["-host", "127.0.0.1", "-port", str(emulator), "-public-host", f"127.0.0.1:{port}"]
        process = start("gcs", command, folder / "gcs.log", tied=True, cwd=folder)
        front = Front(port, emulator, folder / "public.pem")
        thread = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        try:
            wait_until(lambda: _answers(emulator), "the GCS server", 120, needs=[process], logs=folder)
            thread.start()
            yield GCS(port, emulator, account(key), front)
            front.shutdown()
        finally:
            front.server_close()
            stop([process], grace_s=0.5)


def account(key: str) -> str:
    """Return a service account's file, as Google hands it out, around a private key."""
    return json.dumps({
        "type": "service_account", "project_id": "test", "private_key_id": secrets.token_hex(8), "private_key": key,
        "client_email": "millstream@test.iam.gserviceaccount.com", "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    })  # fmt: skip


def _new_key() -> str:
    return run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "a service account")


def _answers(port: int) -> bool:
    try:
        return _asked(port, "GET", "/_internal/healthcheck") == 200
    except OSError:
        return False


def _asked(port: int, method: str, path: str, body: str | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()
