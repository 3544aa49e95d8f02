"""The source `rest` in bad weather: waits, retries, limits, redirects, broken and stalled responses, error rules."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from millstream_pipelines.errors import ConfigurationError, DataError, RetriableError
from millstream_pipelines.sources._rest.config import RateLimit, Retry
from millstream_pipelines.sources._rest.pace import TokenBucket, backoff_s, retry_after_s
from rest_reading import rows
from scripted_api import Answer, ScriptedApi, serving

COLUMNS = {"columns": {"id": "bigint"}}
GOOD = [{"id": 1}]


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    """Return an API on loopback without routes."""
    with serving() as running:
        yield running


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_a_server_in_trouble_is_asked_again(api: ScriptedApi, status: int) -> None:
    api.in_turn("/items", Answer("oops", status), Answer("oops", status), GOOD)
    assert rows(api) == GOOD
    api.in_turn("/items", Answer("oops", status))
    with pytest.raises(RetriableError, match=rf"GET {api.url}/items: status {status}.*3 attempts"):
        rows(api)


def test_retry_after_is_obeyed(api: ScriptedApi) -> None:
    api.in_turn("/items", Answer("", 429, {"Retry-After": "0.3"}), GOOD)
    started = datetime.now(UTC)
    assert rows(api) == GOOD
    assert datetime.now(UTC) - started >= timedelta(seconds=0.3)


def test_retry_after_longer_than_the_run_may_wait_is_handed_on_in_full(api: ScriptedApi) -> None:
    api.in_turn("/items", Answer("", 429, {"Retry-After": "86400"}))
    with pytest.raises(RetriableError, match="wait 86400 s, maxWaitSeconds is 900") as caught:
        rows(api)
    assert caught.value.delay_s == 86400
    assert api.times("/items") == 1


def test_retry_after_can_be_a_date_on_the_servers_clock() -> None:
    server = datetime(2030, 1, 1, tzinfo=UTC)  # hours away from ours: its Date says so
    headers = {"retry-after": format_datetime(server + timedelta(seconds=90), usegmt=True)}
    assert retry_after_s({**headers, "date": format_datetime(server, usegmt=True)}) == 90
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 30 <= (retry_after_s({"retry-after": soon}) or 0) <= 60
    assert retry_after_s({"retry-after": format_datetime(datetime(2020, 1, 1, tzinfo=UTC))}) == 0
    assert retry_after_s({"retry-after": "nonsense"}) is None
    assert retry_after_s({}) is None


def test_pauses_grow_up_to_their_limit_and_differ() -> None:
    retry = Retry(backoff_seconds=1, max_backoff_seconds=10)
    pauses = [[backoff_s(retry, attempt) for _ in range(50)] for attempt in (0, 1, 2, 3, 4, 500)]
    for longest, seen in zip((1, 2, 4, 8, 10, 10), pauses, strict=True):
        assert longest / 2 <= min(seen) < max(seen) <= longest


def test_the_bucket_lets_a_burst_go_and_then_keeps_the_rate() -> None:
    now = 0.0
    sent: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    bucket = TokenBucket(RateLimit(requests_per_second=2, burst=3), lambda: now, sleep)
    for _ in range(9):
        bucket.take()
        sent.append(now)
    assert sent == pytest.approx([0, 0, 0, 0.5, 1, 1.5, 2, 2.5, 3])
    now += 100
    for _ in range(4):
        bucket.take()
    assert now == pytest.approx(103.5)


def test_every_request_takes_a_token(api: ScriptedApi) -> None:
    api.in_turn("/items", Answer("", 500), GOOD)
    started = datetime.now(UTC)
    assert rows(api, rateLimit={"requestsPerSecond": 20}) == GOOD
    assert api.times("/items") == 3  # a failed one, the sample, the read
    assert datetime.now(UTC) - started >= timedelta(seconds=2 / 20)


def test_a_truncated_response_is_asked_for_again(api: ScriptedApi) -> None:
    broken = [Answer(GOOD, cut=10), Answer(b'[{"id": 1}, {"id"'), Answer(b"<html>")]
    for answer in broken:
        api.in_turn("/items", answer, GOOD)
        assert rows(api) == GOOD
        api.in_turn("/items", answer)
        with pytest.raises(RetriableError, match="3 attempts"):
            rows(api)


def test_a_stalled_server_is_given_up(api: ScriptedApi) -> None:
    stall = threading.Event()
    api.in_turn("/items", Answer(GOOD, stall=stall))
    try:
        with pytest.raises(RetriableError, match=r"no answer in time, timeoutSeconds is 0\.2"):
            rows(api, timeoutSeconds=0.2, retry={"limit": 1, "backoffSeconds": 0})
    finally:
        stall.set()


def test_nobody_there_is_retriable() -> None:
    with serving() as gone:
        pass
    with pytest.raises(RetriableError, match="ConnectError"):
        rows(gone)


def test_redirects_are_followed_and_bounded(api: ScriptedApi) -> None:
    api.routes["/items"] = lambda _: Answer("", 302, {"Location": "/moved?x=1"})
    api.routes["/moved"] = lambda _: GOOD
    assert rows(api, {"token": "t0ken"}, auth={"type": "bearer"}) == GOOD
    assert api.asked[-1].query == {"x": "1"}
    assert api.asked[-1].headers["authorization"] == "Bearer t0ken"
    api.routes["/items"] = lambda _: Answer("", 307, {"Location": "/items"})
    api.asked.clear()
    with pytest.raises(ConfigurationError, match=r"more than 3 redirects \(maxRedirects\)"):
        rows(api, maxRedirects=3)
    assert api.times("/items") == 4


def test_a_redirect_elsewhere_carries_no_credentials(api: ScriptedApi) -> None:
    with serving() as other:
        other.routes["/items"] = lambda _: GOOD
        api.routes["/items"] = lambda _: Answer("", 302, {"Location": f"{other.url}/items"})
        config = {"auth": {"type": "apiKey", "name": "X-Key"}, "headers": {"X-Tenant": "acme"}}
        assert rows(api, {"apiKey": "k3y"}, **config) == GOOD
        assert api.asked[-1].headers["x-key"] == "k3y"
        assert not {"x-key", "x-tenant", "authorization"} & set(other.asked[-1].headers)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "not there, status 404: 'the body'; check baseUrl and the stream's path"),
        (422, "request refused, status 422: 'the body'"),
        (401, "access refused, status 401: 'the body'; check key 'token' of the Secret"),
        (403, "access refused, status 403: 'the body'; check key 'token' of the Secret"),
    ],
)
def test_a_refusal_is_configuration_and_says_what_to_check(api: ScriptedApi, status: int, message: str) -> None:
    api.routes["/items"] = lambda _: Answer(b"the\nbody", status)
    with pytest.raises(ConfigurationError, match=message) as caught:
        rows(api, {"token": "t0ken-73"}, auth={"type": "bearer"})
    assert "t0ken-73" not in str(caught.value)
    assert api.times("/items") == 1


def test_a_body_in_a_message_is_short_and_without_secrets(api: ScriptedApi) -> None:
    api.routes["/items"] = lambda asked: Answer(asked.headers["authorization"].encode() + b"x" * 10_000, 400)
    with pytest.raises(ConfigurationError) as caught:
        rows(api, {"token": "t0ken-73"}, auth={"type": "bearer"})
    assert "t0ken-73" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_rules_decide_about_responses(api: ScriptedApi) -> None:
    rules = [
        {"status": "400-499", "bodyContains": "slow down", "action": "retry"},
        {"status": [404], "action": "ignore"},
        {"bodyContains": "partial", "action": "fail"},
    ]
    api.in_turn("/items", Answer("slow down", 403), GOOD)
    assert rows(api, errors=rules) == GOOD
    api.in_turn("/items", Answer("", 404))
    assert rows(api, errors=rules, stream=COLUMNS) == []
    api.in_turn("/items", Answer({"warning": "partial result"}))
    with pytest.raises(DataError, match="status 200, which errors says to fail on"):
        rows(api, errors=rules)


def test_a_rule_can_end_the_pages(api: ScriptedApi) -> None:
    api.routes["/items"] = lambda asked: [{"id": 1}] if asked.query["page"] == "1" else Answer("no such page", 400)
    rules = [{"status": 400, "bodyContains": "no such page", "action": "ignore"}]
    assert rows(api, errors=rules, stream={"pagination": {"type": "page"}}) == GOOD


def test_an_error_in_a_good_response_is_an_error(api: ScriptedApi) -> None:
    stream: dict[str, Any] = {"recordPath": "items", "errorPath": "status"}
    api.in_turn("/items", {"status": 0, "items": GOOD})
    assert rows(api, stream=stream) == GOOD
    api.in_turn("/items", {"status": 401, "items": []})
    with pytest.raises(DataError, match="reports an error at 'status': 401"):
        rows(api, stream=stream)
    api.in_turn("/items", {"result": []})
    with pytest.raises(DataError, match="recordPath 'items' is not in the response, which has: result"):
        rows(api, stream=stream)


def test_a_response_too_large_is_refused(api: ScriptedApi) -> None:
    api.routes["/items"] = lambda _: Answer([{"id": "x" * 5000}])
    with pytest.raises(ConfigurationError, match="larger than maxResponseBytes"):
        rows(api, maxResponseBytes=4096)
