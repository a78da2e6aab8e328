from __future__ import annotations

import hashlib
import json
import logging
import os
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import huggingface_hub.constants
import pytest
from pydantic import SecretStr, ValidationError

from comfyui_stateless.config import HttpAccess, HuggingFaceAccess
from comfyui_stateless.errors import (
    AccessDenied,
    ObjectNotFound,
    StorageError,
    TransferFailed,
    UnsupportedURL,
)
from comfyui_stateless.storage.auth import Auth, BasicAuth, BearerAuth, QueryAuth
from comfyui_stateless.storage.base import (
    Backend,
    Cancel,
    Cancelled,
    Digest,
    FetchesWhole,
    ObjectInfo,
    Put,
    PutsTogether,
    Source,
)
from comfyui_stateless.storage.connections import Client
from comfyui_stateless.storage.huggingface import HfTarget, HuggingFaceBackend
from comfyui_stateless.storage.policy import Policy
from tests.storage.answers import Call
from tests.storage.contract import (
    OCTETS,
    BackendContract,
    Store,
    attempts,
    read_all,
)
from tests.storage.hub import READER, WRITER, Hub, running

HUB = "https://huggingface.co"
REPO = "someone/things"

NOT_A_TOKEN = "hf_nobody_knows_this_one"
NEVER = 2**40
XET_BYTES = 9 * 1024 * 1024


@pytest.fixture(autouse=True)
def nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))


@pytest.fixture
def without_xet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with running(Hub()) as hub:
        (tmp_path / "xet").mkdir()
        hub.xet = tmp_path / "xet"
        hub.repo(REPO)
        yield hub


def backend_for(
    hub: Hub, token: str | None = WRITER, endpoint: str | None = None, trusts_cdn: bool = True
) -> HuggingFaceBackend:
    http = HttpAccess(trusted=frozenset({hub.cdn_url} if trusts_cdn else ()))
    access = HuggingFaceAccess(endpoint or hub.url, SecretStr(token) if token else None)
    return HuggingFaceBackend(access, Client(Policy(http)), http)


def at(path: str) -> str:
    return f"{HUB}/{path}"


def get(backend: HuggingFaceBackend, url: str, auth: Auth | None = None) -> bytes:
    with backend.open(url, auth, None, Cancel()) as download:
        return read_all(download)


def put(backend: HuggingFaceBackend, url: str, body: bytes | Path) -> None:
    size = len(body) if isinstance(body, bytes) else body.stat().st_size
    backend.put(url, Source(body, size, OCTETS), None, Cancel())


def bearer(token: str) -> BearerAuth:
    return BearerAuth(type="bearer", token=SecretStr(token))


@dataclass(frozen=True)
class HubStore:
    hub: Hub
    backend: HuggingFaceBackend
    auth: Auth | None = None
    secrets: tuple[str, ...] = (WRITER, NOT_A_TOKEN)

    @property
    def origin(self) -> str:
        return self.hub.url

    @property
    def refused(self) -> dict[str, tuple[Backend, Auth | None]]:
        return {
            "a wrong token": (backend_for(self.hub, NOT_A_TOKEN), None),
            "a wrong token of the request's": (self.backend, bearer(NOT_A_TOKEN)),
        }

    def url(self, name: str) -> str:
        return HfTarget(repo=REPO, directory="some where").url_for(name)

    def write(self, name: str, content: bytes, media_type: str = OCTETS) -> None:
        self.hub.add(REPO, f"some where/{name}", content)

    def read(self, name: str) -> bytes:
        return self.hub.content(REPO, f"some where/{name}")

    def at(self, origin: str) -> Store:
        return replace(self, backend=backend_for(self.hub, endpoint=origin))


class TestRegularFiles(BackendContract):
    keeps_media_type = False
    foreign_urls = (
        *BackendContract.foreign_urls,
        "https://huggingface.co/someone/things",
        "https://huggingface.co/someone/things/tree/main",
        "https://huggingface.co.evil.example/a/b/resolve/main/c",
        "https://huggingface.co@evil.example/a/b/resolve/main/c",
        "http://huggingface.co/a/b/resolve/main/c",
        "https://example.com/a/b/resolve/main/c",
    )

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        with running(Hub(lfs_from=NEVER)) as hub:
            hub.repo(REPO)
            yield HubStore(hub, backend_for(hub))


class TestLargeFiles(BackendContract):
    """The same, but all of it lies on the CDN, or in Xet where it was uploaded."""

    keeps_media_type = False
    can_move = False

    @pytest.fixture
    def store(self, hub: Hub) -> Store:
        hub.lfs_from = 1
        return HubStore(hub, backend_for(hub))


# Reading


@pytest.mark.parametrize(
    "url",
    [
        f"{HUB}/{REPO}/resolve/main/a/file.txt",
        f"{HUB}/{REPO}/blob/main/a/file.txt",
        f"{HUB}/{REPO}/resolve/main/a/file.txt?download=true#L1",
        f"https://hf.co/{REPO}/resolve/main/a/file.txt",
        f"{{mirror}}/{REPO}/resolve/main/a/file.txt",
    ],
)
def test_a_file_is_read_by_any_address_that_the_hub_shows(hub: Hub, url: str) -> None:
    hub.add(REPO, "a/file.txt", b"small")
    backend, url = backend_for(hub), url.format(mirror=hub.url)
    assert backend.matches(url)
    assert get(backend, url) == b"small"
    assert [call.path for call in hub.calls] == [f"/{REPO}/resolve/main/a/file.txt"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("gpt2", "gpt2/resolve/main/f"),
        ("datasets/someone/data", "datasets/someone/data/resolve/main/f"),
        ("datasets/squad", "datasets/squad/resolve/main/f"),
        ("spaces/someone/app", "spaces/someone/app/resolve/main/f"),
    ],
)
def test_repositories_of_every_kind_are_read(hub: Hub, name: str, path: str) -> None:
    hub.add(name, "f", name.encode())
    assert get(backend_for(hub), at(path)) == name.encode()


def test_a_large_file_comes_with_what_the_hub_says_it_hashes_to(hub: Hub) -> None:
    file = hub.add(REPO, "large", os.urandom(hub.lfs_from))
    hub.blobs[file.sha256] = os.urandom(file.size)
    small = hub.add(REPO, "small", b"small")
    backend = backend_for(hub)
    for path, said in (("large", Digest("sha256", file.sha256)), ("small", None)):
        url = at(f"{REPO}/resolve/main/{path}")
        with backend.open(url, None, None, Cancel()) as download:
            assert download.info.digest == said
    assert not small.is_lfs


@pytest.mark.parametrize("revision", ["refs%2Fpr%2F1", "refs/pr/1"])
def test_a_revision_may_have_slashes(hub: Hub, revision: str) -> None:
    hub.add(REPO, "f", b"of the branch", "refs/pr/1")
    hub.add(REPO, "f", b"of main")
    assert get(backend_for(hub), at(f"{REPO}/resolve/{revision}/f")) == b"of the branch"
    assert hub.calls[0].path == f"/{REPO}/resolve/refs%2Fpr%2F1/f"


def test_a_large_file_is_one_request_at_the_hub_and_one_without_the_token_at_the_cdn(
    hub: Hub,
) -> None:
    hub.add(REPO, "big.bin", content := os.urandom(5000))
    assert get(backend_for(hub), at(f"{REPO}/resolve/main/big.bin")) == content
    assert [call.authorization for call in hub.calls] == [f"Bearer {WRITER}"]
    assert [call.authorization for call in hub.cdn_calls] == [None]


def test_a_cdn_at_a_private_address_is_refused_though_the_hub_itself_is_trusted(hub: Hub) -> None:
    hub.add(REPO, "big.bin", os.urandom(5000))
    with pytest.raises(StorageError, match="not a public address"):
        get(backend_for(hub, trusts_cdn=False), at(f"{REPO}/resolve/main/big.bin"))
    assert hub.cdn_calls == []


# Credentials


@pytest.mark.parametrize(
    ("operators", "in_url", "own", "sent"),
    [
        (None, "", None, None),
        (WRITER, "", None, WRITER),
        (NOT_A_TOKEN, READER, None, READER),
        (NOT_A_TOKEN, f"someone:{READER}", None, READER),
        (NOT_A_TOKEN, NOT_A_TOKEN, bearer(READER), READER),
    ],
    ids=["none", "operator", "url", "url with a user", "request"],
)
def test_the_requests_token_counts_before_the_urls_and_that_before_the_operators(
    hub: Hub, operators: str | None, in_url: str, own: Auth | None, sent: str | None
) -> None:
    hub.add(REPO, "f", b"1")
    url = f"https://{in_url}@huggingface.co" if in_url else HUB
    get(backend_for(hub, operators), f"{url}/{REPO}/resolve/main/f", own)
    assert [c.authorization for c in hub.calls] == [f"Bearer {sent}" if sent else None]


def test_who_is_logged_in_on_the_machine_is_the_last_to_count(hub: Hub) -> None:
    Path(huggingface_hub.constants.HF_TOKEN_PATH).write_text(READER)
    hub.repo("someone/private", private=True)
    hub.add("someone/private", "f", b"1")
    assert get(backend_for(hub, None), at("someone/private/resolve/main/f")) == b"1"


@pytest.mark.parametrize(
    ("token", "path", "error", "text"),
    [
        (None, "someone/private/resolve/main/f", ObjectNotFound, "private and needs a token"),
        (WRITER, "someone/missing/resolve/main/f", ObjectNotFound, "no such repository"),
        (WRITER, f"{REPO}/resolve/nope/f", ObjectNotFound, "no such revision"),
        (WRITER, f"{REPO}/resolve/main/nope", ObjectNotFound, "no such file"),
        (None, "someone/gated/resolve/main/f", AccessDenied, "Accept its licence"),
        (READER, "someone/gated/resolve/main/f", AccessDenied, "Accept its licence"),
        (NOT_A_TOKEN, f"{REPO}/resolve/main/f", AccessDenied, "refuses the token"),
    ],
)
def test_what_is_wrong_is_said_in_words_that_help(
    hub: Hub, token: str | None, path: str, error: type[StorageError], text: str
) -> None:
    hub.repo("someone/private", private=True)
    hub.repo("someone/gated", gated=True)
    backend = backend_for(hub, token)
    for attempt in attempts(backend, None, at(path))[:2]:
        with pytest.raises(error, match=text) as caught:
            attempt()
        assert type(caught.value) is error


# Xet


def fetch(
    backend: HuggingFaceBackend, path: Path, name: str = "x.bin", auth: Auth | None = None
) -> tuple[ObjectInfo | None, list[tuple[int, int | None]]]:
    seen: list[tuple[int, int | None]] = []
    url = at(f"{REPO}/resolve/main/{name}")
    info = backend.fetch(url, auth, path, lambda *now: seen.append(now), Cancel())
    return info, seen


def test_a_large_file_in_xet_comes_from_there(hub: Hub, tmp_path: Path) -> None:
    hub.add_to_xet(REPO, "x.bin", content := os.urandom(XET_BYTES))
    backend = backend_for(hub)
    assert isinstance(backend, FetchesWhole)
    info, seen = fetch(backend, tmp_path / "whole")
    assert (tmp_path / "whole").read_bytes() == content
    assert info is not None
    assert info.size == XET_BYTES
    assert info.digest
    assert info.digest.hex == hashlib.sha256(content).hexdigest()
    assert seen[-1] == (XET_BYTES, XET_BYTES)
    assert hub.cdn_calls == []
    assert {call.authorization for call in hub.calls} == {f"Bearer {WRITER}"}


def test_what_is_small_or_not_in_xet_is_left_to_http(hub: Hub, tmp_path: Path) -> None:
    hub.add_to_xet(REPO, "x.bin", os.urandom(5000))
    hub.add(REPO, "big.bin", os.urandom(XET_BYTES))
    backend = backend_for(hub)
    assert fetch(backend, tmp_path / "f", "x.bin")[0] is None
    assert fetch(backend, tmp_path / "f", "big.bin")[0] is None
    assert fetch(backend, tmp_path / "f", "missing.bin")[0] is None
    assert fetch(backend_for(hub, NOT_A_TOKEN), tmp_path / "f", "big.bin")[0] is None
    assert not (tmp_path / "f").exists()


@pytest.mark.usefixtures("without_xet")
def test_xet_can_be_turned_off(hub: Hub, tmp_path: Path) -> None:
    hub.add_to_xet(REPO, "x.bin", os.urandom(XET_BYTES))
    assert fetch(backend_for(hub), tmp_path / "f")[0] is None
    assert hub.calls == []


def test_xet_that_fails_is_left_to_http(hub: Hub, tmp_path: Path) -> None:
    file = hub.add_to_xet(REPO, "x.bin", content := os.urandom(XET_BYTES))
    file.xet_hash = "0" * 64
    backend = backend_for(hub)
    assert fetch(backend, tmp_path / "f")[0] is None
    assert get(backend, at(f"{REPO}/resolve/main/x.bin")) == content


def test_a_fetch_that_is_cancelled_writes_nothing_more(hub: Hub, tmp_path: Path) -> None:
    hub.add_to_xet(REPO, "x.bin", os.urandom(XET_BYTES))
    (cancel := Cancel()).cancel()
    url = at(f"{REPO}/resolve/main/x.bin")
    with pytest.raises(Cancelled):
        backend_for(hub).fetch(url, None, tmp_path / "f", lambda *_: None, cancel)
    assert not (tmp_path / "f").exists()


# Writing


@pytest.mark.parametrize("kind", ["model", "dataset"])
@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_small_and_large_files_arrive_byte_by_byte_in_one_commit(
    hub: Hub,
    tmp_path: Path,
    kind: Literal["model", "dataset"],
    xet: bool,
    request: pytest.FixtureRequest,
) -> None:
    if not xet:
        request.getfixturevalue("without_xet")
        hub.xet = None
    name = f"datasets/{REPO}" if kind == "dataset" else REPO
    hub.repo(name)
    target = HfTarget(repo=REPO, repo_type=kind, directory="/out/")
    bodies = {"small.txt": b"small", "large.bin": os.urandom(50_000), "ü 1.bin": os.urandom(9_000)}
    (tmp_path / "large.bin").write_bytes(bodies["large.bin"])
    sources: dict[str, bytes | Path] = {**bodies, "large.bin": tmp_path / "large.bin"}
    puts = tuple(
        Put(target.url_for(name), Source(body, len(bodies[name]), OCTETS))
        for name, body in sources.items()
    )
    backend = backend_for(hub)
    assert isinstance(backend, PutsTogether)
    backend.put_together(puts, None, Cancel())
    assert {n: hub.content(name, f"out/{n}") for n in bodies} == bodies
    assert hub.repos[name].messages == ["Add 3 outputs"]
    assert hub.counted("xet-write-token") > 0 if xet else hub.counted("objects/batch") == 1


@pytest.mark.usefixtures("without_xet")
def test_a_very_large_file_is_sent_in_parts(hub: Hub) -> None:
    hub.chunk_size = 20_000
    put(backend_for(hub), at(f"{REPO}/resolve/main/large.bin"), content := os.urandom(50_000))
    assert hub.content(REPO, "large.bin") == content
    assert len([call for call in hub.cdn_calls if "part=" in call.query]) == 3


LARGE = hashlib.sha256(b"1" * 2000).hexdigest()
CHUNKS = {"href": f"{HUB}/complete", "header": {"chunk_size": "0"}}


@pytest.mark.usefixtures("without_xet")
@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("/preupload/main", []),
        ("/preupload/main", {"files": ["large.bin"]}),
        ("/objects/batch", None),
        ("/objects/batch", {"objects": []}),
        ("/objects/batch", {"objects": "none"}),
        ("/objects/batch", {"objects": [LARGE]}),
        ("/objects/batch", {"objects": [{"oid": "f" * 64}]}),
        ("/objects/batch", {"objects": [{"oid": LARGE, "actions": "upload"}]}),
        ("/objects/batch", {"objects": [{"oid": LARGE, "actions": {"upload": {"href": 7}}}]}),
        ("/objects/batch", {"objects": [{"oid": LARGE, "actions": {"upload": CHUNKS}}]}),
    ],
)
def test_what_no_hub_says_is_told_and_commits_nothing(hub: Hub, ending: str, said: Any) -> None:
    hub.repo(REPO)
    hub.says[ending] = said
    with pytest.raises(TransferFailed, match="as no Hub does"):
        put(backend_for(hub), at(f"{REPO}/resolve/main/large.bin"), b"1" * 2000)
    assert hub.counted("/commit/") == 0


def test_a_commit_goes_to_the_revision_of_its_url(hub: Hub) -> None:
    hub.repo(REPO).revisions["refs/pr/1"] = {}
    put(backend_for(hub), HfTarget(repo=REPO, revision="refs/pr/1").url_for("a.txt"), b"1")
    assert hub.content(REPO, "a.txt", "refs/pr/1") == b"1"
    assert hub.repos[REPO].messages == ["Add a.txt"]


def test_what_is_there_already_needs_no_commit(hub: Hub) -> None:
    hub.add(REPO, "a.txt", b"1")
    put(backend_for(hub), HfTarget(repo=REPO).url_for("a.txt"), b"1")
    assert hub.repos[REPO].messages == []


def test_one_commit_is_for_one_repository(hub: Hub) -> None:
    source = Source(b"1", 1, OCTETS)
    puts = tuple(Put(HfTarget(repo=name).url_for("a"), source) for name in (REPO, "someone/else"))
    with pytest.raises(UnsupportedURL, match="several repositories"):
        backend_for(hub).put_together(puts, None, Cancel())
    assert hub.calls == []


@pytest.mark.parametrize("status", [409, 412, 429, 500, 503])
def test_a_commit_that_meets_another_may_be_tried_again(hub: Hub, status: int) -> None:
    hub.refusals = [status]
    backend, url = backend_for(hub), at(f"{REPO}/resolve/main/a.txt")
    with pytest.raises(TransferFailed):
        put(backend, url, b"1")
    put(backend, url, b"1")
    assert hub.content(REPO, "a.txt") == b"1"


@pytest.mark.parametrize(
    ("token", "path", "error"),
    [
        (READER, f"{REPO}/resolve/main/f", AccessDenied),
        (NOT_A_TOKEN, f"{REPO}/resolve/main/f", AccessDenied),
        (WRITER, "someone/missing/resolve/main/f", ObjectNotFound),
        (WRITER, f"{REPO}/resolve/nope/f", ObjectNotFound),
        (WRITER, f"{REPO}/resolve/main/a/../f", UnsupportedURL),
    ],
)
def test_a_commit_that_the_hub_refuses_says_why(
    hub: Hub, token: str, path: str, error: type[StorageError]
) -> None:
    with pytest.raises(error) as caught:
        put(backend_for(hub, token), at(path), b"1")
    assert type(caught.value) is error
    assert token not in "".join(traceback.format_exception(caught.value))


def test_a_token_of_the_request_is_what_a_commit_is_made_with(hub: Hub) -> None:
    url, source = HfTarget(repo=REPO).url_for("a"), Source(b"1", 1, OCTETS)
    backend_for(hub, None).put(url, source, bearer(WRITER), Cancel())
    assert {call.authorization for call in hub.calls} == {f"Bearer {WRITER}"}
    own = BasicAuth(type="basic", username="someone", password=SecretStr(WRITER))
    backend_for(hub, None).put(url, source, own, Cancel())
    query = QueryAuth(type="query", query_param="a", query_value=SecretStr("b"))
    with pytest.raises(UnsupportedURL, match="takes a token"):
        backend_for(hub, None).put(url, source, query, Cancel())


@pytest.mark.usefixtures("without_xet")
def test_no_logger_writes_down_a_token_or_a_signed_url(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    url = at(f"{REPO}/resolve/main/large.bin")
    with caplog.at_level(logging.INFO):
        put(backend_for(hub), url, os.urandom(5000))
        get(backend_for(hub), url)
        hub.signature = "changed so that uploads are refused"
        hub.repos.pop(REPO)
        with pytest.raises(ObjectNotFound):
            put(backend_for(hub), url, os.urandom(5000))
    assert hub.cdn_calls
    assert not [secret for secret in (WRITER, "X-Amz-Signature") if secret in caplog.text]


@pytest.mark.usefixtures("without_xet")
def test_an_upload_that_the_cdn_refuses_shows_no_signed_url(hub: Hub) -> None:
    hub.refuses_uploads = True
    with pytest.raises(AccessDenied) as caught:
        put(backend_for(hub), at(f"{REPO}/resolve/main/large.bin"), os.urandom(5000))
    assert hub.signature not in "".join(traceback.format_exception(caught.value))
    assert hub.repos[REPO].messages == []


# What the Hub's own library says


def said(calls: list[Call], hub: Hub) -> list[tuple[str, str, str | None, list[str]]]:
    """Return what arrived; of JSON the lines count, and not their order."""
    return [(c.method, c.path, c.authorization, lines(c, hub)) for c in calls]


def lines(call: Call, hub: Hub) -> list[str]:
    if call.method == "PUT":
        return [hashlib.sha256(call.body).hexdigest()]
    found = (json.loads(line) for line in call.body.splitlines())
    return sorted(json.dumps(line, sort_keys=True).replace(hub.url, "hub") for line in found)


# Before 1.0 the library writes JSON otherwise, and cannot read the address of a Hub like this one
# in what it returns. We use neither.
@pytest.mark.skipif(huggingface_hub.__version__.startswith("0."), reason="an older library")
# The library sends files in a way that its own HTTP client frowns upon.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.usefixtures("without_xet")
@pytest.mark.parametrize("chunk_size", [None, 20_000], ids=["whole", "in parts"])
@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_the_hub_is_asked_what_its_own_library_asks(
    kind: Literal["model", "dataset"], chunk_size: int | None
) -> None:
    bodies = {"a b/ü.txt": b"small", "large.bin": os.urandom(50_000), "empty": b""}
    seen = []
    for writes in (write_with_the_library, write_ourselves):
        with running(Hub(chunk_size=chunk_size)) as hub:
            hub.repo(f"datasets/{REPO}" if kind == "dataset" else REPO)
            writes(hub, kind, bodies)
            seen.append((said(hub.calls, hub), said(hub.cdn_calls, hub)))
    assert seen[0] == seen[1]


def write_with_the_library(hub: Hub, kind: str, bodies: dict[str, bytes]) -> None:
    huggingface_hub.HfApi(endpoint=hub.url, token=WRITER).create_commit(
        REPO,
        [huggingface_hub.CommitOperationAdd(path, body) for path, body in bodies.items()],
        commit_message=f"Add {len(bodies)} outputs",
        repo_type=kind,
    )


def write_ourselves(hub: Hub, kind: Literal["model", "dataset"], bodies: dict[str, bytes]) -> None:
    target = HfTarget(repo=REPO, repo_type=kind)
    puts = (Put(target.url_for(n), Source(b, len(b), OCTETS)) for n, b in bodies.items())
    backend_for(hub).put_together(tuple(puts), None, Cancel())


# The upload's model


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ({}, f"{HUB}/{REPO}/resolve/main/a.png"),
        ({"directory": "x/y/"}, f"{HUB}/{REPO}/resolve/main/x/y/a.png"),
        ({"directory": "/x y"}, f"{HUB}/{REPO}/resolve/main/x%20y/a.png"),
        ({"repo_type": "dataset"}, f"{HUB}/datasets/{REPO}/resolve/main/a.png"),
        ({"revision": "refs/pr/1"}, f"{HUB}/{REPO}/resolve/refs%2Fpr%2F1/a.png"),
    ],
)
def test_an_output_gets_the_url_that_the_hub_will_show_it_under(
    target: dict[str, str], url: str
) -> None:
    assert HfTarget.model_validate({"repo": REPO, **target}).url_for("a.png") == url


@pytest.mark.parametrize(
    "wrong",
    [{"repo": ""}, {"repo": "a/b/c"}, {"repo": "a/../b"}, {"directory": "../x"},
     {"repo_type": "space"}, {"revision": ""}, {"async": "yes"}],
    ids=str,
)  # fmt: skip
def test_an_upload_that_leads_nowhere_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        HfTarget.model_validate({"repo": REPO, **wrong})
