"""One file over http, from servers that behave badly."""

from __future__ import annotations

import gzip
import http.server
import io
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from email.utils import formatdate

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from files_reading import OWNER, batches, opened, rows
from millstream_pipelines.errors import ConfigurationError, RetriableError
from millstream_pipelines.sources.base import ReadRequest

CSV = b"x\n" + b"1\n" * 50_000

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


def whole(body: bytes, **headers: str) -> Answer:
    """Answer with a body and its length."""

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        for name, value in {"ETag": '"1"', **headers}.items():
            if value:
                request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def status(code: int, **headers: str) -> Answer:
    """Answer without a body."""

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def cut_short(request: http.server.BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("ETag", '"1"')
    request.send_header("Content-Length", str(len(CSV)))
    request.end_headers()
    request.wfile.write(CSV[: len(CSV) // 2])
    request.close_connection = True


def chunks_cut_short(request: http.server.BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("ETag", '"1"')
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    request.wfile.write(b"4\r\nx\n1\n\r\n")
    request.close_connection = True


def stalled(request: http.server.BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("ETag", '"1"')
    request.send_header("Content-Length", str(len(CSV)))
    request.end_headers()
    request.wfile.write(CSV[:100])
    request.wfile.flush()
    time.sleep(2)
    request.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    """Answers every path as `answers` says."""

    daemon_threads = True
    answers: dict[str, Answer]

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: clients that give up are what is tested."""


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.server.answers[self.path.partition("?")[0]](self)  # type: ignore[attr-defined]

        def log_message(self, *_: object) -> None:
            pass

    made = Server(("127.0.0.1", 0), Handler)
    made.answers = {}
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def url(server: Server, path: str, login: str = "") -> str:
    return f"http://{login}127.0.0.1:{server.server_port}{path}"


def test_a_file_is_read_once_and_again_when_it_changes(server: Server) -> None:
    server.answers["/a.csv"] = whole(CSV)
    found = batches(url(server, "/a.csv"))
    assert len(rows(found)) == 50_000
    assert batches(url(server, "/a.csv"), found[-1].position) == []
    server.answers["/a.csv"] = whole(CSV, ETag='"2"')
    assert len(rows(batches(url(server, "/a.csv"), found[-1].position))) == 50_000


def test_packed_and_seeking_formats_are_read_from_a_stream(server: Server) -> None:
    archive, table = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.csv", CSV)
    pq.write_table(pa.table({"x": ["1"] * 50_000}), table)
    server.answers["/a.zip"] = whole(archive.getvalue())
    server.answers["/a.parquet"] = whole(table.getvalue())
    server.answers["/a.csv"] = whole(gzip.compress(CSV), Content_Encoding="gzip")
    for path in server.answers:
        assert rows(batches(url(server, path))) == [{"x": "1"}] * 50_000, path


@pytest.mark.parametrize("answer", [cut_short, chunks_cut_short])
def test_a_response_cut_short_is_retriable(server: Server, answer: Answer) -> None:
    server.answers["/a.csv"] = answer
    with pytest.raises(RetriableError, match=r"cut short|incomplete"):
        batches(url(server, "/a.csv"))


def test_a_stall_times_out_and_is_retriable(server: Server) -> None:
    server.answers["/a.csv"] = stalled
    with (
        opened(url(server, "/a.csv"), timeoutSeconds=0.3) as source,
        pytest.raises(RetriableError, match="no answer within timeoutSeconds"),
    ):
        list(source.read(ReadRequest("a")))


def test_endless_redirects_end(server: Server) -> None:
    server.answers["/a.csv"] = status(302, Location="/a.csv")
    with pytest.raises(ConfigurationError, match="redirects more than 5 times"):
        batches(url(server, "/a.csv"))


def test_a_redirect_is_followed(server: Server) -> None:
    server.answers["/a.csv"] = status(302, Location="/elsewhere")
    server.answers["/elsewhere"] = whole(b"x\n1\n")
    assert rows(batches(url(server, "/a.csv"))) == [{"x": "1"}]


@pytest.mark.parametrize("code", [500, 502, 503, 429, 408])
def test_a_server_in_trouble_is_retriable(server: Server, code: int) -> None:
    server.answers["/a.csv"] = status(code, Retry_After="7")
    with pytest.raises(RetriableError, match=str(code)) as caught:
        batches(url(server, "/a.csv"))
    assert caught.value.delay_s == 7


def test_retry_after_may_be_a_date(server: Server) -> None:
    server.answers["/a.csv"] = status(503, Retry_After=formatdate(time.time() + 60, usegmt=True))
    with pytest.raises(RetriableError) as caught:
        batches(url(server, "/a.csv"))
    assert 30 <= caught.value.delay_s <= 60


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_refusal_is_configuration_and_shows_no_login(server: Server, code: int) -> None:
    server.answers["/a.csv"] = status(code)
    with pytest.raises(ConfigurationError, match=str(code)) as caught:
        batches(url(server, "/a.csv?sig=hidden", login="me:hidden@"))
    assert "hidden" not in str(caught.value)
    assert OWNER in str(caught.value)


def test_a_server_that_is_away_is_retriable(server: Server) -> None:
    address = url(server, "/a.csv")
    server.shutdown()
    server.server_close()
    with pytest.raises(RetriableError, match="Connection refused"):
        batches(address)


def test_without_etag_the_modification_time_counts(server: Server) -> None:
    server.answers["/a.csv"] = whole(b"x\n1\n", ETag="", Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT")
    found = batches(url(server, "/a.csv"))
    assert batches(url(server, "/a.csv"), found[-1].position) == []


def test_without_any_tag_incremental_is_refused(server: Server) -> None:
    server.answers["/a.csv"] = whole(b"x\n1\n", ETag="")
    assert len(rows(batches(url(server, "/a.csv"), mode="full"))) == 1
    with pytest.raises(ConfigurationError, match="use mode full"):
        batches(url(server, "/a.csv"))
