from __future__ import annotations

import hashlib
import os
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from comfyui_stateless.config import HttpAccess, Proxies
from comfyui_stateless.errors import (
    AccessDenied,
    HostRefused,
    MissingDependency,
    ObjectNotFound,
    StorageError,
    TransferFailed,
    UnsupportedURL,
    WrongContent,
)
from comfyui_stateless.repositories import RepositoryURL, large, parse
from comfyui_stateless.repositories.clone import clone
from comfyui_stateless.storage.auth import Auth, BasicAuth, BearerAuth, HeaderAuth, QueryAuth
from comfyui_stateless.storage.base import Cancel, Cancelled
from comfyui_stateless.storage.connections import Client
from comfyui_stateless.storage.policy import Policy
from tests.git_server import GitServer, Repository, git_server

SHA = "204f6d5aae73b10c0fe2fb26e61405fd6337bb77"
PASSWORD = "s3cret:of+someone"


@pytest.mark.parametrize(
    ("url", "clone_url", "ref"),
    [
        ("https://github.com/a/b", "https://github.com/a/b", None),
        ("https://github.com/a/b/", "https://github.com/a/b", None),
        ("https://github.com/a/b.git", "https://github.com/a/b.git", None),
        ("https://github.com/a/b/tree/main", "https://github.com/a/b", "main"),
        ("https://github.com/a/b/tree/feat/x/", "https://github.com/a/b", "feat/x"),
        ("https://github.com/a/b/tree/u@x", "https://github.com/a/b", "u@x"),
        (f"https://github.com/a/b/commit/{SHA}", "https://github.com/a/b", SHA),
        ("https://github.com/a/b/releases/tag/v1.0", "https://github.com/a/b", "v1.0"),
        ("https://github.com/a/b/releases/tag/v1%2B2", "https://github.com/a/b", "v1+2"),
        ("https://github.com/a/b?tab=readme#top", "https://github.com/a/b", None),
        ("https://gitlab.com/g/h/p/-/tree/x/y", "https://gitlab.com/g/h/p", "x/y"),
        (f"https://gitlab.com/g/p/-/commit/{SHA}", "https://gitlab.com/g/p", SHA),
        ("https://gitlab.com/g/tree/p", "https://gitlab.com/g/tree/p", None),
        ("https://git.example.com/g/h/p/-/tree/x", "https://git.example.com/g/h/p", "x"),
        ("https://bitbucket.org/a/b/src/x/y/", "https://bitbucket.org/a/b", "x/y"),
        (f"https://bitbucket.org/a/b/commits/{SHA}", "https://bitbucket.org/a/b", SHA),
        ("https://huggingface.co/a/b", "https://huggingface.co/a/b", None),
        ("https://huggingface.co/a/b/tree/main", "https://huggingface.co/a/b", "main"),
        ("https://huggingface.co/gpt2/tree/x", "https://huggingface.co/gpt2", "x"),
        (
            "https://huggingface.co/datasets/a/b/tree/refs%2Fpr%2F1",
            "https://huggingface.co/datasets/a/b",
            "refs/pr/1",
        ),
        ("https://example.com/some/where/r@v1", "https://example.com/some/where/r", "v1"),
        ("https://example.com/r.git@feat/x", "https://example.com/r.git", "feat/x"),
        ("https://github.com/a/b@feat/tree/x", "https://github.com/a/b", "feat/tree/x"),
        ("https://example.com/@user/r@v1", "https://example.com/@user/r", "v1"),
        ("https://example.com/@user/r", "https://example.com/@user/r", None),
        ("http://Example.com:8080/a/b@v1", "http://example.com:8080/a/b", "v1"),
    ],
)
def test_a_url_names_a_repository_and_perhaps_a_ref(
    url: str, clone_url: str, ref: str | None
) -> None:
    assert parse(url) == RepositoryURL(clone_url, ref)


def test_a_user_and_a_password_are_taken_out_of_the_url() -> None:
    found = parse(f"https://someone:{PASSWORD}@example.com/a/b@v1")
    assert (found.clone_url, found.ref) == ("https://example.com/a/b", "v1")
    assert found.auth == BasicAuth(type="basic", username="someone", password=SecretStr(PASSWORD))
    assert PASSWORD not in repr(found)


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch%20/tmp/x",
        "file:///etc",
        "ssh://git@example.com/a/b",
        "git://example.com/a/b",
        "git@example.com:a/b.git",
        "--upload-pack=touch x",
        "https://",
        "https://example.com",
        "https://example.com/",
        "https://example.com:99999/a",
        "https://example.com/a b",
        "https://example.com/a@-x",
        "https://example.com/a@--upload-pack=touch",
        "https://example.com/a@%2D%2Dupload-pack=x",
        "https://github.com/a/b/tree/-x",
        "https://example.com/a@x:y",
        "https://example.com/a@x..y",
        "https://example.com/a@x%0ay",
        "https://example.com/a@x%00",
        "https://example.com/a@+x:refs/heads/y",
        "https://example.com/a@x^{{}",
        "https://example.com/a@x.lock",
        "https://example.com/a@refs//x",
    ],
)
def test_what_git_should_not_get_is_refused(url: str) -> None:
    with pytest.raises(UnsupportedURL):
        parse(url)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    (root := tmp_path / "served").mkdir()
    with git_server(root) as server:
        yield server


@pytest.fixture
def made(server: GitServer) -> Repository:
    repository = server.make("a/b.git")
    repository.commit({"which.txt": b"main", "folder/more.txt": b"more"})
    return repository


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "b"


def fetch(
    url: str,
    target: Path,
    auth: Auth | None = None,
    cancel: Cancel | None = None,
    *,
    trusted: str = "*",
    proxies: Proxies = Proxies(),  # noqa: B008 - it is frozen
) -> None:
    client = Client(Policy(HttpAccess(trusted=frozenset({trusted}))), proxies)
    clone(parse(url), target, client, proxies, auth, cancel or Cancel())


def assert_nothing_left(target: Path) -> None:
    assert not target.parent.exists() or list(target.parent.iterdir()) == []


@pytest.mark.usefixtures("made")
def test_the_default_branch_is_cloned_without_its_history(server: GitServer, target: Path) -> None:
    fetch(f"{server.url}/a/b.git", target)
    assert (target / "which.txt").read_bytes() == b"main"
    assert (target / "folder" / "more.txt").read_bytes() == b"more"
    assert (target / ".git" / "shallow").exists()
    assert [path.name for path in target.parent.iterdir()] == ["b"]


@pytest.mark.parametrize(
    ("ref", "form"),
    [
        ("feat/x", "@{}"),
        ("feat/x", "/tree/{}"),
        ("feat/x", "/-/tree/{}"),
        ("feat/x", "/src/{}"),
        ("v1.0", "@{}"),
        ("v1.0", "/releases/tag/{}"),
        ("annotated", "@{}"),
        ("refs/pr/1", "/tree/refs%2Fpr%2F1"),
    ],
)
def test_a_branch_or_a_tag_is_cloned(
    server: GitServer, made: Repository, target: Path, ref: str, form: str
) -> None:
    made.commit({"which.txt": b"feat"}, "refs/heads/feat/x")
    made.commit({"which.txt": b"tag"}, "refs/tags/v1.0")
    made.commit({"which.txt": b"pull"}, "refs/pr/1")
    made.tag("annotated", "feat/x")
    fetch(f"{server.url}/a/b{form.format(ref)}", target)
    expected = {"feat/x": b"feat", "v1.0": b"tag", "annotated": b"feat", "refs/pr/1": b"pull"}
    assert (target / "which.txt").read_bytes() == expected[ref]


@pytest.mark.parametrize("length", [40, 8])
@pytest.mark.parametrize("is_old", [False, True], ids=["", "old server"])
def test_a_commit_is_cloned_though_its_server_may_give_none_by_its_hash(
    server: GitServer, made: Repository, target: Path, length: int, is_old: bool
) -> None:
    server.is_old = is_old
    commit = made.commit({"which.txt": b"the one"}, "refs/heads/other")
    made.commit({"which.txt": b"later"}, "refs/heads/other", parent=commit)
    fetch(f"{server.url}/a/b/commit/{commit[:length]}", target)
    assert (target / "which.txt").read_bytes() == b"the one"
    assert (target / ".git" / "shallow").exists() is (length == 40 and not is_old)


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/a/b.git@nope", "no branch, tag or commit nope"),
        (f"/a/b.git@{SHA}", f"no branch, tag or commit {SHA}"),
        ("/a/b.git@20abcdef", "no branch, tag or commit 20abcdef"),
        ("/a/nope.git", "There is no repository"),
        ("/a/b.git/which.txt", "There is no repository"),
    ],
)
def test_what_is_not_there_is_not_found_and_leaves_nothing(
    server: GitServer, target: Path, path: str, text: str
) -> None:
    with pytest.raises(ObjectNotFound, match=text) as caught:
        fetch(server.url + path, target)
    assert server.url in caught.value.message
    assert_nothing_left(target)


def test_an_empty_repository_has_nothing_to_clone(server: GitServer, target: Path) -> None:
    server.make("a/empty.git")
    with pytest.raises(ObjectNotFound, match="is empty"):
        fetch(f"{server.url}/a/empty.git", target)
    assert_nothing_left(target)


# Credentials


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize(
    "auth",
    [
        BasicAuth(type="basic", username="someone", password=SecretStr(PASSWORD)),
        BearerAuth(type="bearer", token=SecretStr(PASSWORD)),
        HeaderAuth(type="header", header_name="Authorization", header_value=SecretStr(PASSWORD)),
    ],
    ids=lambda auth: auth.type,
)
def test_a_private_repository_is_cloned_and_its_credentials_are_kept_nowhere(
    server: GitServer, target: Path, auth: Auth
) -> None:
    server.allow("someone", PASSWORD)
    server.logins |= {f"Bearer {PASSWORD}", PASSWORD}
    fetch(f"{server.url}/a/b.git", target, auth)
    assert (target / "which.txt").exists()
    assert len({login for _, _, login in server.requests}) == 1
    secrets = {PASSWORD.encode(), *(login.split()[-1].encode() for login in server.logins)}
    for path in target.rglob("*"):
        if path.is_file():
            assert not [secret for secret in secrets if secret in path.read_bytes()], path


@pytest.mark.usefixtures("made")
def test_a_password_in_the_url_counts_where_the_request_has_none(
    server: GitServer, target: Path
) -> None:
    server.allow("someone", "right")
    url = server.url.replace("://", "://someone:right@")
    fetch(f"{url}/a/b.git", target)
    assert "right" not in (target / ".git" / "config").read_text()


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("auth", [None, "wrong"])
def test_a_private_repository_is_denied_to_others_in_words_without_the_secret(
    server: GitServer, target: Path, auth: str | None
) -> None:
    server.allow("someone", "right")
    own = BearerAuth(type="bearer", token=SecretStr(PASSWORD)) if auth else None
    with pytest.raises(AccessDenied, match="private") as caught:
        fetch(f"{server.url}/a/b.git", target, own)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    assert_nothing_left(target)


def test_credentials_that_git_cannot_send_are_refused(server: GitServer, target: Path) -> None:
    query = QueryAuth(type="query", query_param="a", query_value=SecretStr(PASSWORD))
    with pytest.raises(UnsupportedURL, match="query"):
        fetch(f"{server.url}/a/b.git", target, query)
    injected = HeaderAuth(
        type="header", header_name="X-A", header_value=SecretStr("b\r\nX-Injected: yes")
    )
    with pytest.raises(UnsupportedURL):
        fetch(f"{server.url}/a/b.git", target, injected)
    assert server.requests == []


# Where we connect


@pytest.mark.usefixtures("made")
def test_an_address_that_the_policy_refuses_is_not_reached(server: GitServer, target: Path) -> None:
    with pytest.raises(HostRefused):
        fetch(f"{server.url}/a/b.git", target, trusted="https://example.com")
    assert server.requests == []
    assert_nothing_left(target)


@pytest.mark.usefixtures("made")
def test_a_redirect_is_followed_if_the_policy_lets_it(
    server: GitServer, target: Path, tmp_path: Path
) -> None:
    (other_root := tmp_path / "other").mkdir()
    with git_server(other_root) as other:
        other.moved["/old"] = f"{server.url}/a/"
        fetch(f"{other.url}/old/b.git", target)
        with pytest.raises(HostRefused):
            fetch(f"{other.url}/old/b.git", target.with_name("c"), trusted=other.url)
    assert (target / "which.txt").exists()
    assert [path.name for path in target.parent.iterdir()] == ["b"]


@pytest.mark.usefixtures("made")
def test_git_follows_no_redirect_that_was_not_checked_before(
    server: GitServer, target: Path, tmp_path: Path
) -> None:
    (other_root := tmp_path / "other").mkdir()
    with git_server(other_root) as other:
        server.moves_git = other.url
        with pytest.raises(TransferFailed):
            fetch(f"{server.url}/a/b.git", target)
        assert other.requests == []
    assert_nothing_left(target)


@pytest.mark.usefixtures("made")
def test_credentials_do_not_follow_a_redirect_to_another_origin(
    server: GitServer, target: Path, tmp_path: Path
) -> None:
    (other_root := tmp_path / "other").mkdir()
    with git_server(other_root) as other:
        other.moved["/old"] = f"{server.url}/a/"
        fetch(f"{other.url}/old/b.git", target, BearerAuth(type="bearer", token=SecretStr("t")))
        assert other.requests[0][2] == "Bearer t"
    assert {login for _, _, login in server.requests} == {None}


@pytest.mark.usefixtures("made")
def test_a_name_is_resolved_once_and_git_is_held_to_what_was_checked(
    server: GitServer, target: Path
) -> None:
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    policy = Policy(HttpAccess(trusted=frozenset({"*"})), resolve=resolve)
    url = server.url.replace("127.0.0.1", "no-such-host.invalid")
    clone(parse(f"{url}/a/b.git"), target, Client(policy), Proxies(), None, Cancel())
    assert (target / "which.txt").exists()
    assert set(asked) == {"no-such-host.invalid"}


def test_a_proxy_that_is_not_there_is_what_git_would_use_too(
    server: GitServer, made: Repository, target: Path
) -> None:
    dead = Proxies(http=SecretStr("http://127.0.0.1:9"))
    with pytest.raises(TransferFailed):
        fetch(f"{server.url}/a/b.git", target, proxies=dead)
    direct = Proxies(http=dead.http, exempt=("127.0.0.1",))
    fetch(f"{server.url}/a/b.git", target, proxies=direct)
    assert (target / "which.txt").exists()


# What a repository may hold


def test_a_symbolic_link_becomes_a_file(server: GitServer, target: Path) -> None:
    server.make("a/links.git").commit(
        {"a.txt": b"1"}, links={"out": "/etc/passwd", "up": "../../x"}
    )
    fetch(f"{server.url}/a/links.git", target)
    assert not [path for path in target.rglob("*") if path.is_symlink()]
    assert (target / "out").read_text() == "/etc/passwd"


def test_a_submodule_is_left_out_and_no_filter_or_hook_of_anybodys_runs(
    server: GitServer, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    (templates := tmp_path / "templates" / "hooks").mkdir(parents=True)
    (hook := templates / "post-checkout").write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(templates.parent))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    (config := tmp_path / "gitconfig").write_text(
        f'[filter "x"]\n smudge = touch {ran}\n[init]\n templateDir = {templates.parent}\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    repository = server.make("a/sub.git")
    files = {".gitattributes": b"* filter=x\n", "a.txt": b"1",
             ".gitmodules": b'[submodule "s"]\n path = s\n url = ext::touch x\n'}  # fmt: skip
    repository.commit(files)
    fetch(f"{server.url}/a/sub.git", target)
    assert (target / "a.txt").read_bytes() == b"1"
    assert not ran.exists()


# Large files


def with_large_file(server: GitServer, content: bytes, *, served: bytes | None = None) -> None:
    digest = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize "
    text = f"{pointer}{len(content)}\n".encode()
    server.make("a/large.git").commit({"unet/weights.safetensors": text, "small.txt": b"1"})
    if served is not None:
        server.large[digest] = served


def test_large_files_come_from_the_lfs_server_without_git_lfs(
    server: GitServer, target: Path
) -> None:
    with_large_file(server, content := os.urandom(300_000), served=content)
    server.allow("someone", PASSWORD)
    auth = BasicAuth(type="basic", username="someone", password=SecretStr(PASSWORD))
    fetch(f"{server.url}/a/large", target, auth)
    assert (target / "unet" / "weights.safetensors").read_bytes() == content
    assert sorted(path.name for path in (target / "unet").iterdir()) == ["weights.safetensors"]


@pytest.mark.parametrize(
    ("served", "error", "text"),
    [(None, ObjectNotFound, "LFS server"), (b"something else", WrongContent, "SHA-256")],
)
def test_a_large_file_that_is_not_to_be_had_fails_the_whole_clone(
    server: GitServer, target: Path, served: bytes | None, error: type[StorageError], text: str
) -> None:
    with_large_file(server, os.urandom(1000), served=served)
    with pytest.raises(error, match=text) as caught:
        fetch(f"{server.url}/a/large.git", target)
    assert "weights.safetensors" in caught.value.message
    assert_nothing_left(target)


@pytest.mark.parametrize(
    "places",
    [
        b"[" * 200_000,
        b"[]",
        b'{"objects": 1}',
        b'{"objects": [1]}',
        b'{"objects": [{"oid": []}]}',
        b'{"objects": [{"oid": "OID", "actions": []}]}',
        b'{"objects": [{"oid": "OID", "actions": [1]}]}',
        b'{"objects": [{"oid": "OID", "actions": {"download": "here"}}]}',
        b'{"objects": [{"oid": "OID", "actions": {"download": {}, "x": 1}}]}',
        b'{"objects": [{"oid": "OID", "actions": {"download": {"href": "/", "header": [1]}}}]}',
    ],
    ids=lambda places: places[:60].decode(),
)
def test_an_lfs_server_that_answers_oddly_fails_the_clone(
    server: GitServer, target: Path, places: bytes
) -> None:
    with_large_file(server, content := os.urandom(1000), served=content)
    server.places = places.replace(b"OID", next(iter(server.large)).encode())
    with pytest.raises(StorageError, match="LFS server"):
        fetch(f"{server.url}/a/large.git", target)
    assert_nothing_left(target)


def test_a_large_file_is_read_no_further_than_its_pointer_says(
    server: GitServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, write = 0, large._write

    def watch(pointer: large.Pointer, *arguments: Any) -> None:
        nonlocal most
        try:
            write(pointer, *arguments)
        finally:
            partial = pointer.path.with_name(f"{pointer.path.name}.part")
            most = max(most, partial.stat().st_size)

    monkeypatch.setattr(large, "_write", watch)
    with_large_file(server, b"small", served=bytes(16 * 1024 * 1024))
    with pytest.raises(WrongContent, match="SHA-256"):
        fetch(f"{server.url}/a/large.git", target)
    assert 0 < most <= 2 * large.BUFFER_BYTES
    assert_nothing_left(target)


def test_a_large_file_is_not_fetched_from_where_the_policy_forbids(
    server: GitServer, target: Path
) -> None:
    with_large_file(server, content := os.urandom(1000), served=content)
    server.large_at = "http://127.0.0.2:9"
    with pytest.raises(HostRefused):
        fetch(f"{server.url}/a/large.git", target, trusted=server.url)
    assert_nothing_left(target)


# Ends


@pytest.mark.usefixtures("made")
def test_a_clone_is_cancelled_while_its_server_says_nothing(
    server: GitServer, target: Path
) -> None:
    server.silent, cancel = True, Cancel()

    def cancel_it() -> None:
        server.waiting.wait(20)
        cancel.cancel()

    thread = threading.Thread(target=cancel_it)
    thread.start()
    with pytest.raises(Cancelled):
        fetch(f"{server.url}/a/b.git", target, cancel=cancel)
    thread.join()
    assert not server.released.is_set()
    assert_nothing_left(target)


def test_a_clone_that_is_cancelled_before_it_begins_asks_nobody(
    server: GitServer, target: Path
) -> None:
    (cancel := Cancel()).cancel()
    with pytest.raises(Cancelled):
        fetch(f"{server.url}/a/b.git", target, cancel=cancel)
    assert server.requests == []
    assert_nothing_left(target)


@pytest.mark.usefixtures("made")
def test_a_machine_without_git_is_told_so(
    server: GitServer, target: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match="none on PATH"):
        fetch(f"{server.url}/a/b.git", target)
    assert_nothing_left(target)


@pytest.mark.usefixtures("made")
def test_a_git_that_is_too_old_is_not_used(
    server: GitServer, target: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (old := tmp_path / "git").write_text("#!/bin/sh\necho git version 2.30.2\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match=r"git 2\.31 or newer"):
        fetch(f"{server.url}/a/b.git", target)
    assert_nothing_left(target)
