"""Random requests over HTTP: answered in the one shape, with nothing left and nothing broken."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import graph
from tests.fuzz.serving import Served, send, served

TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "", "..", "../../etc/passwd", "/etc/passwd", "a/../b", "a\\..\\b", "C:\\x", "\0", "\r\nX: y",
            "%2e%2e%2f", "\ud800", "a" * 300, "%width%/%batch_num%", "…", "nul", "http://127.0.0.1/",
            "http://[::1]:1/", "http://a\ud800/", "data:image/png;base64,@", "iVBORw0KGgo=", "upload://a",
            "file:///etc/passwd", "s3://b/k", "s3:///", "https://user:pass@127.0.0.1/x.png", "../" * 50,
        ]
    ),
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-(10**30), 10**30), st.floats(), st.sampled_from([0, -1, 1e308, 2**63, 2**64])
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)
NODES = st.fixed_dictionaries(
    {
        "class_type": st.sampled_from(["SaveImage", "EmptyImage", "LoadImage", "PreviewAny"]),
        "inputs": st.dictionaries(
            st.sampled_from(["images", "filename_prefix", "image", "text"]),
            st.one_of(VALUES, st.tuples(st.sampled_from(["1", "2", "x"]), st.integers(-1, 2))),
            max_size=3,
        ),
    },
    optional={"_meta": VALUES},
)
GRAPHS = st.one_of(
    st.dictionaries(st.sampled_from(["1", "2", "é", "../1", "\ud800"]), NODES, max_size=3),
    TEXTS.map(lambda prefix: graph(prefix)),
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "id": TEXTS,
    "priority": NUMBERS,
    "timeout_s": NUMBERS,
    "webhook_v2": TEXTS,
    "webhook": TEXTS,
    "extra_data": VALUES,
    "convert_output": st.one_of(
        VALUES,
        st.fixed_dictionaries(
            {"format": st.sampled_from(["png", "jpeg", "webp", "avif"])},
            optional={"options": st.dictionaries(st.sampled_from(["quality", "x"]), VALUES)},
        ),
    ),
    "credentials": st.one_of(
        VALUES,
        st.lists(
            st.fixed_dictionaries(
                {
                    "url_pattern": TEXTS,
                    "auth": st.fixed_dictionaries({"type": st.just("bearer"), "token": TEXTS}),
                }
            ),
            max_size=2,
        ),
    ),
    "http_upload": st.one_of(VALUES, st.fixed_dictionaries({"url_prefix": TEXTS})),
    "s3": st.one_of(VALUES, st.fixed_dictionaries({"bucket": TEXTS, "prefix": TEXTS})),
    "hf_upload": st.one_of(VALUES, st.fixed_dictionaries({"repo": TEXTS, "directory": TEXTS})),
}
HEADER = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"))
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Accept", "Idempotency-Key", "Last-Event-ID", "Origin", "X-API-Key", "Content-Type", "Range"]
    ),
    st.one_of(
        HEADER,
        st.sampled_from(
            ["image/*", "text/event-stream", "application/zip", "multipart/mixed", "multipart/form-data"]
        ),
    ),
    max_size=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("fuzzed")) as site:
        yield site
        assert not site.errors


@pytest.fixture(autouse=True)
def _nothing_is_left(site: Served) -> Iterator[None]:
    threads = threading.active_count()
    yield
    site.until_idle()
    assert not site.engine.inputs
    known = {"cache", "state"}
    assert {path.name for path in site.folder.iterdir()} <= known
    assert not [path for path in (site.folder / "cache").rglob("*") if path.is_file()]
    assert threading.active_count() <= threads + 40


def _is_an_answer(status: int, body: bytes) -> None:
    """Say that an answer is no failure of the server, and an error in the one shape."""
    assert status < 500, body
    if status >= 400:
        error = json.loads(body)
        assert error.keys() >= {"error", "code", "details"} or error.keys() == {"id", "interrupted"}
        assert "Traceback" not in body.decode()


@given(prompt=GRAPHS, more=st.fixed_dictionaries({}, optional=FIELDS), headers=HEADERS)
def test_any_prompt_is_run_or_refused(
    site: Served, prompt: Any, more: dict[str, Any], headers: dict[str, str]
) -> None:
    body = json.dumps({"prompt": prompt, **more}).encode()
    _is_an_answer(*send(site, "POST", "/prompt", body, headers))


@given(more=st.fixed_dictionaries({}, optional=FIELDS))
def test_any_field_beside_a_graph_is_taken_or_refused(site: Served, more: dict[str, Any]) -> None:
    body = json.dumps({"prompt": graph(), **more}).encode()
    status, answer = send(site, "POST", "/prompt", body, {})
    _is_an_answer(status, answer)
    if status == 200 and "id" in more:
        assert json.loads(answer)["id"] == more["id"]


@pytest.mark.parametrize("route", ["/validate", "/interrupt", "/download", "/workflow/a"])
@given(body=st.one_of(VALUES.map(lambda v: json.dumps(v).encode()), st.binary(max_size=40)))
def test_any_body_is_taken_or_refused(site: Served, route: str, body: bytes) -> None:
    _is_an_answer(*send(site, "POST", route, body, {}))


@given(url=TEXTS, folder=TEXTS, name=TEXTS)
def test_any_download_is_refused_that_leads_nowhere(
    site: Served, url: str, folder: str, name: str
) -> None:
    body = json.dumps({"url": url, "model_type": folder, "filename": name, "wait": True}).encode()
    status, answer = send(site, "POST", "/download", body, {})
    _is_an_answer(status, answer)
    assert status >= 400


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
@given(
    place=st.sampled_from(
        ["/prompt/{}", "/prompt/{}/events", "/workflow/{}", "/jobs/{}/thumbnail", "/docs/{}",
         "/jobs/{}/interrupt", "/jobs?limit={}", "/prompt/a/events?previews={}", "/{}"]
    ),
    text=TEXTS,
    headers=HEADERS,
)  # fmt: skip
def test_any_path_has_an_answer(
    site: Served, method: str, place: str, text: str, headers: dict[str, str]
) -> None:
    path = place.format(quote(text.encode("utf-8", "surrogatepass"), safe="."))
    _is_an_answer(*send(site, method, path, None, headers))


@given(
    parts=st.lists(st.tuples(HEADER, HEADER, st.binary(max_size=30)), max_size=3),
    boundary=st.sampled_from(["b", "", "a" * 80, '"b"', "é"]),
    ending=st.sampled_from([b"--b--\r\n", b"--b--", b"--b", b""]),
)
def test_any_form_is_run_or_refused(
    site: Served, parts: list[tuple[str, str, bytes]], boundary: str, ending: bytes
) -> None:
    fields = [("request", "", json.dumps({"prompt": graph()}).encode()), *parts]
    body = b"".join(_part(*field) for field in fields) + ending
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    _is_an_answer(*send(site, "POST", "/prompt", body, headers))


def _part(name: str, filename: str, content: bytes) -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
    return head.encode("latin-1") + content + b"\r\n"


def test_what_is_served_is_in_this_folder(tmp_path: Path) -> None:
    with served(tmp_path / "inside") as site:
        for text in ("../out", "/../out", "..%2fout", "%2e%2e/out"):
            body = json.dumps({"prompt": graph(text), "id": text}).encode()
            _is_an_answer(*send(site, "POST", "/prompt", body, {}))
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
