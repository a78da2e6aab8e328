"""Secrets in any place of any request are in no answer, no message and no line of the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import graph
from tests.fuzz.serving import Served, send, served
from tests.fuzz.strategies import TOKEN, around

SECRET = around(TOKEN)
ANY: st.SearchStrategy[object] = st.one_of(st.none(), st.integers(), st.just("x"), st.just([]))
PLACES = st.sampled_from(
    ["http://127.0.0.1:1", "https://10.0.0.1", "ftp://host", "http://no.such.invalid"]
)
URLS = st.one_of(
    st.builds("http://u:{}@{}/x.png".format, st.just(TOKEN), st.sampled_from(["127.0.0.1:1", "[::1]"])),
    st.builds("{}/x.png?sig={}".format, PLACES, SECRET),
    st.builds("{}/x?a=@{}#{}".format, PLACES, st.just(TOKEN), st.just(TOKEN)),
    st.builds("https://u:a/{}@10.0.0.1/x?b=@".format, st.just(TOKEN)),
)  # fmt: skip
AUTHS = st.one_of(
    st.fixed_dictionaries({"type": st.just("bearer"), "token": SECRET}),
    st.fixed_dictionaries({"type": st.just("basic"), "username": st.just("u"), "password": SECRET}),
    st.fixed_dictionaries(
        {"type": st.just("header"), "header_name": st.sampled_from(["X-A", "a b", ""]), "header_value": SECRET}
    ),
    st.fixed_dictionaries(
        {"type": st.just("query"), "query_param": st.sampled_from(["sig", ""]), "query_value": SECRET}
    ),
    st.fixed_dictionaries(
        {"type": st.just("s3"), "access_key_id": ANY, "secret_access_key": SECRET, "session_token": SECRET}
    ),
    st.fixed_dictionaries({"type": st.sampled_from(["bearer", "basic", "x"]), "password": SECRET}),
)  # fmt: skip
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "credentials": st.lists(
        st.fixed_dictionaries({"url_pattern": st.sampled_from(["**", "", "http://*"]), "auth": AUTHS}),
        max_size=2,
    ),
    "extra_data": st.dictionaries(
        st.sampled_from(["api_key_comfy_org", "auth_token_comfy_org", "my_secret", "password"]),
        st.one_of(SECRET, st.dictionaries(st.just("token"), SECRET)),
    ),
    "webhook": URLS,
    "webhook_v2": URLS,
    "http_upload": st.fixed_dictionaries({"url_prefix": URLS}, optional={"async": st.booleans()}),
    "priority": st.sampled_from([0, "x", None]),
    "timeout_s": st.sampled_from([5, 0, "x"]),
}  # fmt: skip
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Authorization": st.just(f"Bearer {TOKEN}"),
        "X-API-Key": st.just(TOKEN),
        "Cookie": st.just(f"session={TOKEN}"),
        "Idempotency-Key": st.just(TOKEN),
        "Last-Event-ID": st.just(TOKEN),
    },
)


class Lines(logging.Handler):
    """Keeps what is logged, exceptions included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(logging.Formatter().format(record))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("secret")) as site:
        yield site


@pytest.fixture(scope="module")
def lines() -> Iterator[Lines]:
    handler, root = Lines(), logging.getLogger()
    before = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    root.setLevel(before)


def _require_silence(lines: Lines, answer: bytes) -> None:
    said = "\n".join(lines.said)
    lines.said.clear()
    assert TOKEN not in said, said
    assert TOKEN.encode() not in answer, answer


@given(more=st.fixed_dictionaries({}, optional=FIELDS), headers=HEADERS)
@pytest.mark.parametrize("route", ["/prompt", "/validate"])
def test_no_secret_beside_a_graph_is_told(
    site: Served, lines: Lines, route: str, more: dict[str, Any], headers: dict[str, str]
) -> None:
    body = json.dumps({"prompt": graph(), **more}).encode()
    status, answer = send(site, "POST", route, body, headers)
    is_not_delivered = status == 502 and "http_upload" in more
    assert status < 500 or is_not_delivered
    _require_silence(lines, answer)


@given(url=URLS, headers=HEADERS)
def test_no_secret_in_an_address_that_is_refused_is_told(
    site: Served, lines: Lines, url: str, headers: dict[str, str]
) -> None:
    loading = {**graph(), "3": {"class_type": "LoadImage", "inputs": {"image": url}}}
    status, answer = send(
        site, "POST", "/prompt", json.dumps({"prompt": loading}).encode(), headers
    )
    assert status in (400, 422)
    _require_silence(lines, answer)


@given(
    url=URLS,
    more=st.fixed_dictionaries(
        {}, optional={"auth": AUTHS, "filename": st.sampled_from(["a", "../a"]), "sha256": ANY}
    ),
)
def test_no_secret_of_a_download_is_told(
    site: Served, lines: Lines, url: str, more: dict[str, Any]
) -> None:
    body = {"url": url, "model_type": "loras", "wait": True, **more}
    status, answer = send(site, "POST", "/download", json.dumps(body).encode(), {})
    assert 400 <= status < 500
    _require_silence(lines, answer)
    _require_silence(lines, send(site, "GET", "/download", None, {})[1])


@pytest.mark.parametrize("route", ["/jobs", "/status", "/metrics", "/openapi.json"])
def test_no_secret_is_told_later(site: Served, lines: Lines, route: str) -> None:
    fields = {
        "webhook_v2": f"http://u:{TOKEN}@10.0.0.1/?t={TOKEN}",
        "extra_data": {"api_key": TOKEN},
    }
    body = json.dumps({"prompt": graph(), **fields}).encode()
    send(site, "POST", "/prompt", body, {"Idempotency-Key": TOKEN})
    _require_silence(lines, send(site, "GET", route, None, {})[1])
