"""Credentials of the source `rest`: each kind, tokens that expire, and messages that name keys, never values."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from millstream_pipelines.errors import ConfigurationError, RetriableError
from rest_reading import rows, source
from scripted_api import Answer, Asked, ScriptedApi, serving

GOOD = [{"id": 1}]
CLIENT = {"clientId": "me", "clientSecret": "s3cret-73"}


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    """Return an API whose path /items holds a record."""
    with serving() as running:
        running.routes["/items"] = lambda _: GOOD
        yield running


def oauth2(api: ScriptedApi, **auth: Any) -> dict[str, Any]:
    return {"type": "oauth2", "tokenUrl": f"{api.url}/token", **auth}


def test_none(api: ScriptedApi) -> None:
    assert rows(api, {"token": "unused"}) == GOOD
    assert "authorization" not in api.asked[-1].headers


def test_bearer_from_the_secret_or_in_place(api: ScriptedApi) -> None:
    rows(api, {"token": "abc"}, auth={"type": "bearer"})
    assert api.asked[-1].headers["authorization"] == "Bearer abc"
    rows(api, auth={"type": "bearer", "token": "def"})
    assert api.asked[-1].headers["authorization"] == "Bearer def"


def test_basic(api: ScriptedApi) -> None:
    rows(api, {"user": "ann", "password": "pä:ss"}, auth={"type": "basic"})
    expected = base64.b64encode("ann:pä:ss".encode()).decode()
    assert api.asked[-1].headers["authorization"] == f"Basic {expected}"


@pytest.mark.parametrize("place", ["header", "query"])
def test_api_key(api: ScriptedApi, place: str) -> None:
    rows(api, {"apiKey": "k3y"}, auth={"type": "apiKey", "name": "X-Key", "in": place}, stream={"params": {"a": True}})
    asked = api.asked[-1]
    assert (asked.headers.get("x-key") if place == "header" else asked.query.get("X-Key")) == "k3y"
    assert asked.query["a"] == "true"


@pytest.mark.parametrize(
    ("auth", "key"),
    [
        ({"type": "bearer"}, "token"),
        ({"type": "basic"}, "user"),
        ({"type": "apiKey"}, "apiKey"),
        ({"type": "oauth2", "tokenUrl": "http://127.0.0.1/token"}, "clientId"),
        ({"type": "oauth2", "tokenUrl": "http://127.0.0.1/token", "clientId": "x"}, "clientSecret"),
        (
            {"type": "oauth2", "tokenUrl": "http://127.0.0.1/t", "grant": "refreshToken", "clientId": "x"},
            "refreshToken",
        ),
    ],
)
def test_a_missing_secret_is_named_before_anything_is_sent(api: ScriptedApi, auth: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError, match=f"needs key '{key}' in the Secret"):
        source(api, auth=auth)
    assert api.asked == []


@pytest.mark.parametrize("client_auth", ["body", "basic"])
def test_client_credentials_fetch_one_token_for_many_requests(api: ScriptedApi, client_auth: str) -> None:
    api.routes["/token"] = lambda _: {"access_token": "at1", "expires_in": 3600, "token_type": "Bearer"}
    auth = oauth2(api, scopes=["read", "more"], clientAuth=client_auth, params={"audience": "x"})
    assert rows(api, CLIENT, auth=auth, headers={"X-Tenant": "acme"}) == GOOD
    (token,) = [asked for asked in api.asked if asked.path == "/token"]
    form = token.form
    assert (form["grant_type"], form["scope"], form["audience"]) == ("client_credentials", "read more", "x")
    if client_auth == "body":
        assert (form["client_id"], form["client_secret"]) == ("me", "s3cret-73")
    else:
        assert base64.b64decode(token.headers["authorization"][6:]) == b"me:s3cret-73"
        assert "client_secret" not in form
    assert api.asked[-1].headers["authorization"] == "Bearer at1"


def test_a_token_is_renewed_before_it_expires(api: ScriptedApi) -> None:
    tokens = iter(range(100))
    api.routes["/token"] = lambda _: {"access_token": f"at{next(tokens)}", "expires_in": 0}
    rows(api, CLIENT, auth=oauth2(api))
    assert api.times("/token") == 2


def test_a_refresh_token_that_rotates_is_followed(api: ScriptedApi) -> None:
    def route(asked: Asked) -> Any:
        used = asked.form["refresh_token"]
        return {"access_token": f"for-{used}", "refresh_token": f"{used}+", "expires_in": 0}

    api.routes["/token"] = route
    rows(api, {**CLIENT, "refreshToken": "r0"}, auth=oauth2(api, grant="refreshToken"))
    assert [asked.form["refresh_token"] for asked in api.asked if asked.path == "/token"] == ["r0", "r0+"]
    assert api.asked[-1].headers["authorization"] == "Bearer for-r0+"


def test_a_refused_token_is_renewed_once(api: ScriptedApi) -> None:
    tokens = iter(range(100))
    api.routes["/token"] = lambda _: {"access_token": f"at{next(tokens)}"}
    api.routes["/items"] = lambda asked: (
        GOOD if asked.headers["authorization"] == "Bearer at1" else Answer("expired", 401)
    )
    assert rows(api, CLIENT, auth=oauth2(api)) == GOOD
    assert api.times("/token") == 2
    api.routes["/items"] = lambda _: Answer("never", 401)
    with pytest.raises(ConfigurationError, match="check key 'clientId', 'clientSecret'"):
        rows(api, CLIENT, auth=oauth2(api))
    assert api.times("/token") == 4


@pytest.mark.parametrize("status", [400, 401, 403])
def test_wrong_client_credentials_name_their_keys(api: ScriptedApi, status: int) -> None:
    api.routes["/token"] = lambda asked: Answer({"error": "invalid_client", "echo": asked.form}, status)
    with pytest.raises(ConfigurationError, match=r"token server refused.*'clientId', 'clientSecret' of the") as caught:
        rows(api, CLIENT, auth=oauth2(api))
    assert "s3cret-73" not in str(caught.value)
    assert api.times("/token") == 1


def test_a_token_server_in_trouble_is_retried(api: ScriptedApi) -> None:
    api.in_turn("/token", Answer("", 503), Answer(b'{"access'), {"access_token": "at"})
    assert rows(api, CLIENT, auth=oauth2(api)) == GOOD
    api.in_turn("/token", Answer("", 503))
    with pytest.raises(RetriableError, match="/token: status 503"):
        rows(api, CLIENT, auth=oauth2(api))
