"""JSON of odd shapes and headers of odd values, byte for byte: answered or refused, never broken."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fakes import graph
from tests.fuzz.serving import Served, send, served
from tests.fuzz.strategies import IDS

GRAPH = json.dumps(graph())

NUMERALS = st.one_of(
    st.sampled_from(
        ["0", "-0", "-0.0", "1e308", "1e309", "-1e309", "1e-400", "5e-324", "1E+2", "1.0", "9" * 400, "-1",
         "9" * 5000, "1" + "0" * 4300, "9007199254740993", "1e1000000000", "0.1e1", "NaN", "Infinity",
         "-Infinity", "01", "+1", "1.", ".5", "0x1", "1_0", "true", "null", '"1"', "[1]"]
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**70), 2**70).map(str),
)  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("documents")) as site:
        yield site
        site.until_idle()
        assert not site.errors


def _answer(site: Served, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Post a prompt; return the status, and what the answer says where it is JSON."""
    status, content = send(site, "POST", "/prompt", body, headers or {})
    assert status < 500, content
    said: Any = json.loads(content) if content.startswith(b"{") else content
    if status >= 400:
        assert said.keys() <= {"error", "code", "location", "details"}, said
        assert said.keys() >= {"error", "code"}, said
    return status, said


@given(numeral=NUMERALS, field=st.sampled_from(["priority", "timeout_s", "unknown"]))
def test_any_numeral_is_a_number_or_refused(site: Served, numeral: str, field: str) -> None:
    status, said = _answer(site, f'{{"prompt": {GRAPH}, "{field}": {numeral}}}'.encode())
    if status == 400:
        assert field in said["error"] or "JSON" in said["error"]


@given(
    depth=st.integers(0, 300),
    brackets=st.sampled_from(["[]", "{}", '{"a":}', '[{"a":}]']),
    field=st.sampled_from(["unknown", "extra_data", "prompt", "convert_output", "credentials"]),
)
def test_any_depth_is_taken_or_refused(site: Served, depth: int, brackets: str, field: str) -> None:
    head, colon, _ = brackets.partition(":")
    opening = head + colon if colon else brackets[0]
    closing = brackets[len(opening) :]
    value = opening * depth + "1" + closing * depth
    first = "" if field == "prompt" else f'"prompt": {GRAPH}, '
    status, _ = _answer(site, f'{{{first}"{field}": {value}}}'.encode())
    assert status == 400 or field in ("unknown", "extra_data")


@given(width=st.integers(1000, 20_000), where=st.sampled_from(["top", "extra", "inputs", "nodes"]))
def test_any_width_is_taken_or_refused(site: Served, width: int, where: str) -> None:
    wide = {f"k{number}": number for number in range(width)}
    body: dict[str, Any] = {"prompt": graph()}
    if where == "top":
        body = {**wide, **body}
    elif where == "extra":
        body["extra_data"] = {"wide": wide}
    elif where == "inputs":
        body["prompt"]["2"]["inputs"] |= wide
    else:
        body["prompt"] |= wide
    status, _ = _answer(site, json.dumps(body).encode())
    assert status == (400 if where == "nodes" else 200)


@given(first=IDS, second=IDS.filter(lambda text: 0 < len(text) < 256))
def test_of_a_name_that_comes_twice_the_last_counts(site: Served, first: str, second: str) -> None:
    twice = f'"id": {json.dumps(first)}, "id": {json.dumps(second)}'
    status, said = _answer(site, f'{{{twice}, "prompt": {{}}, "prompt": {GRAPH}}}'.encode())
    assert status == (200 if _is_whole(second) else 400)
    assert said.get("id", second) == second


@given(ids=st.lists(IDS, min_size=2, max_size=6), nodes=st.lists(IDS, min_size=2, max_size=6))
def test_ids_and_node_ids_come_back_as_they_were_sent(
    site: Served, ids: list[str], nodes: list[str]
) -> None:
    more = [unicodedata.normalize(form, ids[0]) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    wanted = [text[:255] for text in [*ids, *more]]
    made = {node_id: graph()["1"] for node_id in nodes} | {nodes[-1]: graph(None)["2"]}
    made[nodes[-1]]["inputs"]["images"] = [nodes[0], 0]
    for text in wanted:
        status, said = _answer(site, json.dumps({"prompt": made, "id": text}).encode())
        if status == 200:
            assert said["id"] == text
            assert list(said["prompt"]) == list(made)
            assert {output["node_id"] for output in said["outputs"]} <= set(made)
            assert not any(name.startswith(("/", "..")) for name in said["filenames"])
            _is_known(site, text)


def _is_known(site: Served, caller_id: str) -> None:
    path = quote(caller_id.encode("utf-8", "surrogatepass"), safe="")
    assert send(site, "GET", f"/prompt/{path}", None, {})[0] in (200, 404)


def _is_whole(text: str) -> bool:
    """Say whether a text has no half characters, which UTF-8 cannot say."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


MIMES = st.sampled_from(
    ["*/*", "image/*", "image/png", "application/json", "application/zip", "multipart/mixed",
     "text/event-stream", "text/html", "a/b", "*", "*/png", "image", "/", ""]
)  # fmt: skip
WEIGHTS = st.sampled_from(
    [
        "",
        ";q=0",
        ";q=1",
        ";q=0.5",
        ";q=1.5",
        ";q=-1",
        ";q=",
        ";q=nan",
        ";q=1e9",
        "; Q=0.1",
        ";;",
        ";q=.",
        ";a=b",
    ]
)
ACCEPTS = st.lists(st.tuples(MIMES, WEIGHTS).map("".join), max_size=5).map(", ".join)
HEADERS: dict[str, st.SearchStrategy[str]] = {
    "Accept": ACCEPTS,
    "Accept-Encoding": st.sampled_from(["gzip", "br;q=1, *;q=0", "identity;q=0", "é"]),
    "Range": st.sampled_from(["bytes=0-0", "bytes=5-1", "bytes=-1", "bytes=0-,1-", "x=1-2", "bytes=" + "9" * 99]),
    "If-Range": st.sampled_from(['"a"', "W/", "x"]),
    "If-None-Match": st.sampled_from(["*", '"a"', 'W/"a", "b"', "é"]),
    "If-Match": st.sampled_from(["*", '"a"']),
    "If-Modified-Since": st.sampled_from(["Wed, 21 Oct 2015 07:28:00 GMT", "0", "9" * 40, "é"]),
    "Prefer": st.sampled_from(["respond-async", "respond-async, wait=0", "wait=-1", "return=minimal", "é=;"]),
    "Last-Event-ID": st.sampled_from(["", "a", "-", "x-1", "x-" + "9" * 30, "x-end", "é", "-0", "1" * 2000]),
    "Idempotency-Key": st.sampled_from(["k", " ", "é", "x" * 255, "x" * 256, "../k", '"k"', "k,k"]),
    "Content-Encoding": st.sampled_from(["identity", "gzip", "deflate", "x", ""]),
    "Content-Type": st.sampled_from(["application/json; charset=utf-16", "text/plain", "x", "", "a/b;;"]),
    "Expect": st.sampled_from(["100-continue", "100-Continue", "x"]),
    "X-Forwarded-For": st.just("a, b"),
    "Upgrade": st.sampled_from(["websocket", "h2c"]),
    "Connection": st.sampled_from(["close", "Upgrade", "keep-alive, x"]),
}  # fmt: skip


# aiohttp before 3.14 took the body for the first bytes of a WebSocket.
@example(headers={"Upgrade": "websocket", "Connection": "Upgrade"})
@given(headers=st.fixed_dictionaries({}, optional=HEADERS))
def test_any_header_is_heeded_or_refused(site: Served, headers: dict[str, str]) -> None:
    headers["Content-Type"] = headers.get("Content-Type", "application/json")
    _answer(site, f'{{"prompt": {GRAPH}}}'.encode(), headers)


@given(headers=st.fixed_dictionaries({}, optional=HEADERS), place=st.sampled_from(["", "/events"]))
def test_any_header_of_a_reader_is_heeded_or_refused(
    site: Served, headers: dict[str, str], place: str
) -> None:
    body = {"prompt": graph(), "id": "read", "s3": None}
    assert _answer(site, json.dumps(body).encode(), {"Idempotency-Key": "of the reader"})[0] == 200
    status, content = send(site, "GET", f"/prompt/read{place}", None, headers)
    assert status in (200, 204, 400, 404, 406, 417), content
    if status == 200 and place:
        assert b"event: succeeded" in content
