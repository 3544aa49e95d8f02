"""Commands that look and change nothing: preview, explain, components; and `new`, which writes what it saw."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from millstream_pipelines.cli.recognition import _record_path, recognize
from millstream_pipelines.errors import ConfigurationError

CSV = "id,name,at\n1,Ada,2026-01-01T00:00:00Z\n2,Ben,2026-01-02T00:00:00Z\n"


def test_preview_shows_columns_and_rows(millstream: Callable, manifest: Callable) -> None:
    path = manifest([{"id": n, "name": f"n{n}"} for n in range(50)])
    result = millstream("preview", "-f", path, "--json")
    assert result.code == 0, result.err
    assert [(item["name"], item["type"]) for item in result.json()["columns"]] == [("id", "bigint"), ("name", "text")]
    assert len(result.json()["rows"]) == 20
    assert len(millstream("preview", "-f", path, "--rows", 3, "--json").json()["rows"]) == 3


def test_preview_of_an_unknown_stream_lists_the_known(millstream: Callable, manifest: Callable) -> None:
    result = millstream("preview", "-f", manifest([{"id": 1}]), "--stream", "rowz")
    assert result.code == 78
    assert "did you mean 'rows'" in result.err


def test_explain_changes_nothing(millstream: Callable, manifest: Callable) -> None:
    path = manifest([{"id": 1}], {"writeDisposition": "merge", "primaryKey": ["id"]})
    document = millstream("explain", "-f", path, "--json").json()
    stream = document["pipelines"][0]["streams"][0]
    assert stream["guarantee"] == "exactly-once"
    assert any(sql.startswith("COPY") for sql in stream["sql"])
    assert "never ran" in millstream("status", "-f", path).out


def test_explain_diff_foretells_what_a_run_reports(millstream: Callable, manifest: Callable) -> None:
    path = manifest([{"id": 1, "v": "a"}])
    first = millstream("explain", "--diff", "-f", path, "--json").json()["pipelines"][0]["streams"][0]
    assert (first["table"], [item["column"] for item in first["drift"]]) == ("is made", ["id", "v"])
    assert millstream("run", "-f", path).code == 0
    assert "nothing differs" in millstream("explain", "--diff", "-f", path).out
    path = manifest([{"id": 1, "w": 2}])
    text = millstream("explain", "--diff", "-f", path)
    assert (text.code, text.err) == (0, "")
    assert "w: added (bigint); added" in text.out
    assert "v: dropped (text); stays, NULL in new rows" in text.out
    (foretold,) = millstream("explain", "--diff", "-f", path, "--json").json()["pipelines"][0]["streams"]
    document = millstream("run", "-f", path, "--json").json()["runs"][0]["report"]
    assert document["drift"] == foretold["drift"]
    path = manifest([{"id": 2, "x": 3}])
    assert "rows.x: added (bigint); added" in millstream("run", "-f", path).out


def test_components_list_every_plugin_with_its_fields(millstream: Callable) -> None:
    found = millstream("components", "--json").json()["components"]
    names = {(item["family"], item["name"]) for item in found}
    assert {("sources", "files"), ("warehouses", "postgres"), ("checks", "not_null"), ("transforms", "sql")} <= names
    assert "glob" in millstream("components", "files").out
    assert "did you mean 'postgres'" in millstream("components", "postgress").err


def test_new_writes_what_runs(millstream: Callable, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "People List.csv").write_text(CSV, encoding="utf-8")
    result = millstream("new", "in", "-o", "out", "--name", "people-new")
    assert result.code == 0, result.err
    assert sorted(os.listdir(tmp_path / "out")) == ["pipeline.yaml", "source.yaml", "warehouse.yaml"]
    assert millstream("validate", "-f", "out").code == 0
    totals = [millstream("run", "-f", "out", "--json").json()["runs"][0]["report"]["totals"]["loaded"] for _ in "ab"]
    assert totals == [2, 0]


def test_new_does_not_overwrite(millstream: Callable, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV, encoding="utf-8")
    assert millstream("new", "a.csv", "-o", "out").code == 0
    result = millstream("new", "a.csv", "-o", "out")
    assert result.code == 78
    assert "--force" in result.err


def test_new_from_a_dsn_takes_keys_and_cursor_and_keeps_the_password_out(
    millstream: Callable, tmp_path: Path, home: Path
) -> None:
    import psycopg2

    from millstream_pipelines import embedded

    with embedded.serving(home / "postgres") as server:
        embedded.ensure_database(server, "shop_new")
        connection = psycopg2.connect(host=server.host, user=server.user, dbname="shop_new")
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE orders (id bigint PRIMARY KEY, updated_at timestamptz); CREATE TABLE log (n int)"
            )
        connection.close()
        dsn = f"postgresql://postgres:hush-hush@/shop_new?host={server.host}"
        result = millstream("new", dsn, "-o", "out")
    assert result.code == 0, result.err
    text = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir())
    assert "hush-hush" not in text + result.out + result.err
    assert "MILLSTREAM_SECRET_SHOP_NEW_LOGIN_PASSWORD" in result.err
    pipeline = yaml.safe_load((tmp_path / "out" / "pipeline.yaml").read_text(encoding="utf-8"))
    streams = {item["name"].rpartition(".")[2]: item for item in pipeline["spec"]["streams"]}
    assert streams["orders"]["writeDisposition"] == "merge"
    assert streams["orders"]["cursor"] == {"field": "updated_at", "lag": "10m"}
    assert streams["orders"]["primaryKey"] == ["id"]
    assert streams["log"]["writeDisposition"] == "replace"


class _Api(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"meta": {"tags": [{"a": 1}]}, "data": {"items": [{"id": 1}, {"id": 2}]}}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def api() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_new_finds_the_records_of_an_api(api: str) -> None:
    seen = recognize(f"{api}/v1/things?limit=5")
    assert seen.type == "rest"
    assert seen.config["baseUrl"] == api
    assert seen.config["streams"] == [
        {"name": "things", "path": "/v1/things", "params": {"limit": "5"}, "recordPath": "data.items"}
    ]


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ([{"a": 1}], ""),
        ({"data": [{"a": 1}]}, "data"),
        ({"a": [{"x": 1}], "b": {"c": [{"y": 1}, {}]}}, "b.c"),
        ({}, ""),
    ],
)
def test_the_longest_list_of_objects_holds_the_records(document: object, path: str) -> None:
    assert _record_path(document) == path


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("s3://bucket/Landing Zone/flights", "files", "flights"),
        ("https://example.org/data/Flights%202013.csv.gz", "files", "flights-2013"),
        ("postgresql://me@db.example.org:6543/shop", "postgres", "shop"),
    ],
)
def test_urls_are_recognized(text: str, kind: str, name: str) -> None:
    seen = recognize(text)
    assert (seen.type, seen.name) == (kind, name)


def test_an_unknown_scheme_lists_the_known() -> None:
    with pytest.raises(ConfigurationError, match="accepted: a path, file, http"):
        recognize("ftp://example.org/x")
