"""What Google's XML API asks and answers, in front of fake-gcs-server, which knows only the JSON API for writing.

The emulator alone takes no XML upload, no upload in parts, no precondition in a header, no `If-Match` and no login, so
a test against it alone would prove nothing of them. Here each is translated (a precondition, to the emulator's own,
which decides), or checked: a bearer is a JWT that the service account's key has signed, or what the metadata service
handed out.
"""

import base64
import http.client
import itertools
import json
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

WORKLOAD_TOKEN = "token-of-the-workload"
_TOKEN = "/computeMetadata/v1/instance/service-accounts/default/token"
_KEPT = ("Content-Type", "Content-Length", "Content-Range", "ETag", "Last-Modified")


class Front(ThreadingHTTPServer):
    """Serves until `shutdown`. `buckets` are there; `public`: those that are read without a login."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, emulator: int, public_key: Path) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.emulator, self.public_key = emulator, public_key
        self.buckets: set[str] = set()
        self.public: set[str] = set()
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.numbers = itertools.count(1)
        self.known: dict[str, bool] = {}
        self.lock = threading.Lock()

    def trusts(self, bearer: str) -> bool:
        """Say whether a bearer's signature is the service account's."""
        with self.lock:
            if bearer not in self.known:
                self.known[bearer] = bearer == WORKLOAD_TOKEN or self._signed(bearer)
            return self.known[bearer]

    def _signed(self, bearer: str) -> bool:
        said, _, signature = bearer.rpartition(".")
        if said.count(".") != 1:
            return False
        files = [self.public_key.with_name(f"{name}-{next(self.numbers)}") for name in ("said", "signature")]
        files[0].write_text(said)
        files[1].write_bytes(base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)))
        command = ["openssl", "dgst", "-sha256", "-verify", self.public_key, "-signature", files[1], files[0]]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet: two would wait for the client's acknowledgement in between
    server: Front

    def setup(self) -> None:
        super().setup()
        self.emulator = http.client.HTTPConnection("127.0.0.1", self.server.emulator, timeout=30)

    def finish(self) -> None:
        self.emulator.close()
        super().finish()

    def handle_one_request(self) -> None:
        """A client that goes away in the midst of an answer is no news."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str, message: str = "") -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>".encode())

    def _ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, dict[str, str]]:
        front = f"127.0.0.1:{self.server.server_address[1]}"
        self.emulator.request(method, path, body, {"Host": front, "Content-Length": str(len(body)), **headers})
        found = self.emulator.getresponse()
        return found.status, found.read(), {name: found.headers[name] for name in _KEPT if found.headers[name]}

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        if url.path == _TOKEN:
            token = {"access_token": WORKLOAD_TOKEN, "expires_in": 3600, "token_type": "Bearer"}
            return self._answer(200, json.dumps(token).encode(), {"Content-Type": "application/json"})
        bucket, _, name = unquote(url.path).lstrip("/").partition("/")
        if bucket not in self.server.buckets:
            return self._refuse(404, "NoSuchBucket", "The specified bucket does not exist.")
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if bearer and not self.server.trusts(bearer):
            return self._refuse(401, "AuthenticationRequired", "Authentication required.")
        if not bearer and not (bucket in self.server.public and self.command in ("GET", "HEAD")):
            return self._refuse(403, "AccessDenied", "Anonymous caller does not have storage access.")
        if not name:
            return self._list(url.path.rstrip("/"), asked)
        if "uploads" in asked or "uploadId" in asked:
            return self._in_parts(bucket, name, asked, body)
        if self.command == "PUT":
            return self._put(bucket, name, body)
        return self._pass(url.path)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - names of the base class

    def _list(self, path: str, asked: dict[str, str]) -> None:
        given = "&".join(f"{name}={quote(value, safe='')}" for name, value in asked.items())
        status, body, _ = self._ask("GET", f"{path}?{given}")
        text = body.decode()
        after = asked.get("start-after", "")
        for entry in re.findall(r"<Contents>.*?</Contents>", text, re.DOTALL):
            if unquote(re.findall(r"<Key>(.*?)</Key>", entry, re.DOTALL)[0]) <= after:
                text = text.replace(entry, "")
        self._answer(status, text.encode(), {"Content-Type": "application/xml"})

    def _put(self, bucket: str, name: str, body: bytes) -> None:
        wanted = self.headers.get("x-goog-if-generation-match")
        only = f"&ifGenerationMatch={wanted}" if wanted is not None else ""
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}{only}"
        status, answer, _ = self._ask("POST", path, body)
        if status == 412:
            return self._refuse(412, "PreconditionFailed", "At least one of the pre-conditions did not hold.")
        if status != 200:
            return self._refuse(status, "InternalError", answer.decode())
        made = json.loads(answer)
        return self._answer(200, headers={"ETag": f'"{made["etag"]}"', "x-goog-generation": str(made["generation"])})

    def _in_parts(self, bucket: str, name: str, asked: dict[str, str], body: bytes) -> None:
        uploads = self.server.uploads
        if "uploads" in asked:
            made = f"upload-{next(self.server.numbers)}"
            uploads[made] = {}
            text = f"<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key><UploadId>{made}</UploadId>"
            return self._answer(200, f"<InitiateMultipartUploadResult>{text}</InitiateMultipartUploadResult>".encode())
        if asked["uploadId"] not in uploads:
            return self._refuse(404, "NoSuchUpload")
        if self.command == "PUT":
            uploads[asked["uploadId"]][int(asked["partNumber"])] = body
            return self._answer(200, headers={"ETag": f'"part-{asked["partNumber"]}"'})
        parts = uploads.pop(asked["uploadId"])
        if self.command == "DELETE":
            return self._answer(204)
        named = [int(number) for number in re.findall(r"<PartNumber>(\d+)</PartNumber>", body.decode())]
        if named != sorted(parts):
            return self._refuse(400, "InvalidPart", f"named {named}, uploaded {sorted(parts)}")
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}"
        status, answer, _ = self._ask("POST", path, b"".join(parts[number] for number in named))
        tag = json.loads(answer).get("etag", "")
        text = f"<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key><ETag>&quot;{tag}&quot;</ETag>"
        return self._answer(status, f"<CompleteMultipartUploadResult>{text}</CompleteMultipartUploadResult>".encode())

    def _pass(self, path: str) -> None:
        wanted = self.headers.get("If-Match")
        if wanted and self._ask("HEAD", path)[2].get("ETag", "").strip('"') != wanted.strip('"'):
            return self._refuse(412, "PreconditionFailed")
        ranged = {"Range": self.headers["Range"]} if self.headers["Range"] else {}
        status, body, headers = self._ask(self.command, path, **ranged)
        if status == 404:
            return self._refuse(404, "NoSuchKey", "The specified key does not exist.")
        if status == 200 and self.command == "DELETE":
            status, body = 204, b""
        if self.command != "HEAD":
            headers["Content-Length"] = str(len(body))
        return self._answer(status, body, headers)
