"""Secrets are planted in every place that takes one; afterwards they are looked for everywhere."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cache.origin import Origin, serving
from tests.comfyui.conftest import required
from tests.comfyui.graphs import Graph, node, waiting
from tests.comfyui.receiver import Receiver, receiving
from tests.comfyui.server import ComfyServer, Install, Reply
from tests.comfyui.test_fetching import loading, png, reading, until, weights


class Vault:
    """Makes secrets, and finds them in whatever form they are written."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}

    def new(self, what: str) -> str:
        """Return a new secret for a place; a place may have several."""
        text = secrets.token_hex(16)
        self.planted[text] = what
        return text

    def webhook_secret(self) -> str:
        text = base64.b64encode(self.new("WEBHOOK_SECRET").encode()).decode()
        self.planted[text] = "WEBHOOK_SECRET"
        return f"whsec_{text}"

    def found_in(self, content: bytes) -> set[str]:
        """Return the places of the secrets that a content holds, plain or in base64."""
        return {
            what
            for text, what in self.planted.items()
            if any(form in content for form in _forms(text))
        }


def _forms(text: str) -> Iterator[bytes]:
    yield text.encode()
    for shift in range(3):  # wherever it begins in what was encoded
        yield base64.b64encode(b"\0" * shift + text.encode())[4 : 4 * (len(text) // 3)]


class Ear:
    """Hears all that a server says on a connection that it keeps open."""

    def __init__(self, server: ComfyServer, path: str, **headers: str) -> None:
        self.heard = bytearray()
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        named = {"Host": f"127.0.0.1:{server.port}", **headers}
        named = {name.replace("_", "-"): value for name, value in named.items()}
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._thread = threading.Thread(target=self._hear)
        self._thread.start()

    def _hear(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._socket.recv(65536):
                self.heard += data

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


class Eye:
    """Sees the arguments of all processes of a server, again and again."""

    def __init__(self, server: ComfyServer) -> None:
        assert server.process is not None
        self.seen: set[bytes] = set()
        self._session, self._over = server.process.pid, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            for folder in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if os.getsid(int(folder.name)) == self._session:
                        self.seen.add((folder / "cmdline").read_bytes())

    def close(self) -> None:
        self._over.set()
        self._thread.join()


WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}


@dataclass
class Site:
    """A server that knows secrets, and all that was ever heard of it."""

    server: ComfyServer
    vault: Vault
    key: str
    origin: Origin
    receiver: Receiver
    events: Receiver
    ears: list[Ear]
    eye: Eye
    replies: list[Reply] = field(default_factory=list)

    def post(self, route: str, body: Any) -> Reply:
        return self._kept(self.server.post(f"/api/stateless/{route}", body, X_API_Key=self.key))

    def get(self, path: str) -> Reply:
        return self._kept(self.server.get(path, X_API_Key=self.key))

    def prompt(self, graph: Graph, **fields: Any) -> Reply:
        return self.post("prompt", {"prompt": graph, **fields})

    def _kept(self, reply: Reply) -> Reply:
        self.replies.append(reply)
        return reply

    def place(self, content: bytes, ending: str = ".png", query: str = "", **how: Any) -> str:
        """Serve a content under a new name; return its URL."""
        return self.origin.put(f"/{secrets.token_hex(8)}{ending}{query}", content, **how)

    def said(self) -> bytes:
        """Return all that went out of the server."""
        parts = [b"%r %b" % (reply.headers, reply.body) for reply in self.replies]
        for receiver in (self.receiver, self.events):
            parts += [json.dumps(message.body).encode() for message in receiver.messages]
            parts += [path.encode() + content for path, content in receiver.uploads.items()]
        parts += [bytes(ear.heard) for ear in self.ears]
        return b"\n".join(parts)

    def files(self, *below: str) -> Iterator[Path]:
        for folder in below:
            yield from (path for path in (self.server.base / folder).rglob("*"))


@pytest.fixture(scope="module")
def site(each_install: Install | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    install, vault = required(each_install), Vault()
    base = tmp_path_factory.mktemp("secrets")
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(serving())
        receiver, events = (stack.enter_context(receiving()) for _ in range(2))
        key, signing = vault.new("API_KEYS"), vault.webhook_secret()
        receiver.secret = events.secret = signing
        env = {
            "API_KEYS": key,
            "WEBHOOK_SECRET": signing,
            "HTTP_AUTH_HEADER_NAME": "X-Operator",
            "HTTP_AUTH_HEADER_VALUE": vault.new("HTTP_AUTH_HEADER_VALUE"),
            "AWS_ACCESS_KEY_ID": vault.new("AWS_ACCESS_KEY_ID"),
            "AWS_SECRET_ACCESS_KEY": vault.new("AWS_SECRET_ACCESS_KEY"),
            "AWS_SESSION_TOKEN": vault.new("AWS_SESSION_TOKEN"),
            "AWS_ENDPOINT_URL": origin.url(""),
            "AWS_REGION": "us-east-1",
            "AZURE_STORAGE_ACCOUNT": "operator",
            "AZURE_STORAGE_KEY": vault.new("AZURE_STORAGE_KEY"),
            "HF_TOKEN": vault.new("HF_TOKEN"),
            "HTTP_PROXY": f"http://p:{vault.new('HTTP_PROXY')}@127.0.0.1:9",
            "NO_PROXY": "*",
            "HTTP_TRUSTED_ORIGINS": f"{origin.url('')},{receiver.origin}",
            "SYSTEM_WEBHOOK_URL": _secretly(events, vault, "SYSTEM_WEBHOOK_URL"),
            "SYSTEM_WEBHOOK_EVENTS": "all",
            "SYSTEM_META_SITE": "tests",
            "LOG_LEVEL": "trace",
        }
        server = ComfyServer(install, base, env, ("--verbose", "DEBUG"))
        stack.enter_context(server)
        server.wait_until_ready()
        ears = [
            Ear(server, "/ws?clientId=ear", **WEBSOCKET),
            Ear(server, "/api/stateless/events", X_API_Key=key),
        ]
        eye = Eye(server)
        for ear in ears:
            stack.callback(ear.close)
        stack.callback(eye.close)
        yield Site(server, vault, key, origin, receiver, events, ears, eye)


def _secretly(receiver: Receiver, vault: Vault, what: str) -> str:
    """Return an address of a receiver with a password and a token in it."""
    at = receiver.origin.replace("://", f"://u:{vault.new(what)}@")
    return f"{at}/hook?token={vault.new(what)}"


AUTHS = ("bearer", "basic", "header", "query", "s3")


def credential(vault: Vault, kind: str, what: str) -> tuple[dict[str, Any], str | None]:
    """Return credentials of a kind, and the Authorization header that they make, if any."""
    new = vault.new(what)
    if kind == "bearer":
        return {"type": kind, "token": new}, f"Bearer {new}"
    if kind == "basic":
        login = base64.b64encode(f"me:{new}".encode()).decode()
        return {"type": kind, "username": "me", "password": new}, f"Basic {login}"
    if kind == "header":
        return {"type": kind, "header_name": "X-Mine", "header_value": new}, None
    if kind == "query":
        return {"type": kind, "query_param": "sig", "query_value": new}, None
    keys = {"access_key_id": vault.new(what), "secret_access_key": new}
    return {"type": kind, **keys, "session_token": vault.new(what)}, None


def given(auth: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"url_pattern": "**", "auth": auth}]


# Planting: each with jobs that succeed, and others that fail


def test_credentials_of_a_request(site: Site) -> None:
    for kind in AUTHS:
        auth, header = credential(site.vault, kind, f"credentials, {kind}")
        image, model = site.place(png(1)), site.place(weights(1), ".safetensors")
        for url in (image, model):
            site.origin.files[url.removeprefix(site.origin.url(""))].authorization = header
        if kind == "s3":
            image, model = (u.replace(site.origin.url(""), "s3://bucket") for u in (image, model))
            for url in (image, model):
                path = url.removeprefix("s3://bucket")
                site.origin.files[f"/bucket{path}"] = site.origin.files[path]
        graph = {**loading(image), "2": reading(model)["1"]}
        reply = site.prompt(graph, credentials=given(auth))
        assert reply.status == 200, reply.body
        missing = {**loading(f"{image}.gone"), "2": reading(f"{model}.gone")["1"]}
        assert site.prompt(missing, credentials=given(auth)).status == 400
        wrong, _ = credential(site.vault, kind, f"wrong credentials, {kind}")
        site.prompt(graph, credentials=given(wrong))
        site.post("validate", {"prompt": graph, "credentials": given(auth)})
    assert any(
        seen.headers.get("authorization", "").startswith("AWS4") for seen in site.origin.seen
    )


def test_credentials_in_addresses(site: Site) -> None:
    def secret(what: str) -> str:
        return site.vault.new(what)

    for content, ending in ((png(2), ".png"), (b"no picture", ".png"), (b"<html>", ".html")):
        url = site.place(content, ending, f"?X-Amz-Signature={secret('signed query')}")
        site.prompt(loading(url))
        site.prompt(loading(url.replace("://", f"://me:{secret('userinfo')}@")))
        site.prompt(loading(f"{url}#{secret('fragment')}"))
        site.prompt(loading(url.replace(ending, f"{ending}.gone")))
    url = site.place(weights(2), ".safetensors", f"?sig={secret('signed query of a model')}")
    site.prompt(reading(url.replace("://", f"://{secret('user name')}:x@")))
    site.prompt(loading(f"http://me:{secret('userinfo')}@10.0.0.1/a.png?t={secret('query')}"))
    site.prompt(loading(f"ftp://me:{secret('userinfo')}@host/a.png?t={secret('query')}"))
    site.prompt(loading(f"http://me:{secret('userinfo')}@no.such.host.example/{'x' * 9}"))
    hop = site.place(b"", failures=[(302, {"Location": f"{url}&n={secret('redirect')}"})] * 6)
    site.prompt(loading(hop))
    assert sum(reply.status == 200 for reply in site.replies) > 3
    assert sum(reply.status == 400 for reply in site.replies) > 10


def test_downloads(site: Site) -> None:
    query = f"?sig={site.vault.new('query of a download')}"
    for kind in AUTHS[:4]:
        auth, header = credential(site.vault, kind, f"auth of a download, {kind}")
        url = site.place(weights(3), ".safetensors", query, authorization=header)
        body = {"url": url, "model_type": "loras", "wait": True, "auth": auth}
        assert site.post("download", body).status == 200
        body["url"] = url.replace(".safetensors", ".gone")
        assert site.post("download", body).status == 400
        assert site.post("download", {**body, "wait": False}).status == 202
    gate = threading.Event()
    url = site.place(weights(4, 10**6), ".safetensors", query, gate=gate)
    try:
        url = url.replace("://", f"://me:{site.vault.new('userinfo of a download')}@")
        site.post("download", {"url": url, "model_type": "loras", "wait": False})
        until(lambda: site.get("/api/stateless/download").json["downloads"])
    finally:
        gate.set()
    until(lambda: not site.get("/api/stateless/download").json["downloads"])


def test_what_nodes_are_given(site: Site) -> None:
    def extra() -> dict[str, Any]:
        names = ("api_key_comfy_org", "auth_token_comfy_org", "token_of_a_pack")
        deep = {"service": [{"api_key": site.vault.new("extra_data, deep inside")}]}
        return {"pack": deep, **{name: site.vault.new(f"extra_data, {name}") for name in names}}

    telling: Graph = {**waiting(0.8, "tells"), "3": node("TestTellsSecrets", after=["2", 0])}
    url = site.place(png(5), query=f"?sig={site.vault.new('query of a job that runs')}")
    telling |= {"4": loading(url)["1"]}
    telling["5"] = node("SaveImage", images=["4", 0], filename_prefix="x")
    with ThreadPoolExecutor() as pool:
        job = pool.submit(site.prompt, telling, id="telling", extra_data=extra())
        until(lambda: site.server.get("/queue").json["queue_running"])
        for path in ("/queue", "/prompt", "/history", "/api/stateless/prompt/telling"):
            site.get(path)
        assert job.result().status == 500
    assert site.prompt(loading(url), extra_data=extra()).status == 200
    for form in ("png", "webp", "jpeg", "avif"):
        convert = {"format": form, "options": {"metadata": True}}
        reply = site.prompt(loading(url), extra_data=extra(), convert_output=convert)
        assert (reply.status, b"LoadImage" in reply.images[0]) == (200, True), form
    hook = f"{site.receiver.origin}/hook"
    assert site.prompt(telling, id="told", extra_data=extra(), webhook_v2=hook).status == 202
    assert site.receiver.wait_for("told").body["type"] == "prompt.failed"


def test_where_outputs_and_messages_go(site: Site) -> None:
    place, secret = loading(site.place(png(6))), site.vault.new
    failing = {**place, "3": node("TestTellsSecrets", after=["1", 0])}
    at = site.receiver.origin.replace("://", f"://me:{secret('allowed: address of uploads')}@")
    hook = _secretly(site.receiver, site.vault, "allowed: address of webhooks")
    for graph, name in ((place, "fine"), (failing, "failing")):
        up = {"url_prefix": f"{at}/{name}"}
        auth, _ = credential(site.vault, "basic", "credentials of an accepted job")
        more = {"credentials": given(auth), "extra_data": {"api_key_comfy_org": secret("a key")}}
        site.prompt(graph, id=name, http_upload={**up, "async": False}, **more)
        accepted = site.prompt(graph, id=f"{name} too", webhook_v2=hook, http_upload=up, **more)
        assert accepted.status == 202, accepted.body
        site.receiver.wait_for(f"{name} too")
        site.get(f"/api/stateless/prompt/{name}")
        site.get(f"/api/stateless/prompt/{name}%20too")
    assert site.receiver.uploads


def test_what_stays_due(site: Site) -> None:
    """Leave jobs and messages in the journal, for the search."""
    gone = site.vault.new("allowed: address of a webhook that is due")
    hook = f"{site.receiver.origin.replace('://', f'://u:{gone}@')}/refused"
    auth, _ = credential(site.vault, "bearer", "credentials of a job that is recorded")
    key = {"api_key_comfy_org": site.vault.new("key of a job that is recorded")}
    url = site.place(png(7), query=f"?sig={site.vault.new('query of a job that is recorded')}")
    site.receiver.refuses = lambda: True
    try:
        graph = {**loading(url), "3": reading(site.place(weights(7), ".safetensors"))["1"]}
        more: dict[str, Any] = {"credentials": given(auth), "extra_data": key, "webhook_v2": hook}
        assert site.prompt(graph, id="due", **more).status == 202
        until(lambda: "tried again in" in site.server.log)
        long = {**graph, **waiting(600, "recorded")}
        long["8"] = node("SaveImage", images=["1", 0], filename_prefix="x")
        assert site.prompt({**loading(url), **long}, id="runs", **more).status == 202
    finally:
        site.receiver.refuses = lambda: False


def test_wrong_requests(site: Site) -> None:
    secret, graph = site.vault.new, loading(site.place(png(8)))
    wrong: list[Any] = [
        [{"url_pattern": "**", "auth": {"type": "bearer", "tokens": secret("a misspelt field")}}],
        [{"url_pattern": "**", "auth": {"type": "bearer", "token": [secret("a list")]}}],
        [{"url_pattern": "**", "auth": secret("a text in place of auth")}],
        secret("a text in place of credentials"),
    ]
    for credentials in wrong:
        assert site.prompt(graph, credentials=credentials).status == 400
    for name in ("webhook", "webhook_v2"):
        assert site.prompt(graph, **{name: f"ftp://u:{secret(name)}@host/?t={secret(name)}"}).status
        url = f"http://u:{secret(name)}@10.0.0.1/{'x'}?t={secret(name)}"
        assert site.prompt(graph, **{name: url}).status == 400
    url = f"http://u:{secret('a refused upload')}@10.0.0.1/"
    assert site.prompt(graph, http_upload={"url_prefix": url}).status == 400
    bad = {"type": "header", "header_name": "bad name", "header_value": secret("a bad header")}
    assert site.prompt(graph, credentials=given(bad)).status == 400
    body = b'{"prompt": {}, "credentials": [{"auth": {"token": "%b"}' % secret("no JSON").encode()
    assert site.post("prompt", body).status == 400


# Looking


@pytest.fixture
def searched(site: Site) -> Site:
    """The site after all that was planted, also where a test runs alone."""
    if not any(reply.status == 202 for reply in site.replies):
        for plant in PLANTS:
            plant(site)
    for path in (
        "/history", "/queue", "/object_info", "/api/stateless/models", "/api/stateless/health",
        "/api/stateless/openapi.json", "/api/stateless/download", "/api/stateless/prompt/due",
        "/api/stateless/prompt/runs", "/system_stats", "/internal/logs/raw", "/api/jobs",
        "/api/stateless/status", "/api/stateless/jobs", "/api/stateless/metrics",
        "/api/stateless/workflow", "/api/stateless/ready", "/api/stateless/prompt/told/events",
        "/api/stateless/docs", "/internal/folder_paths", "/api/stateless/prompt/told",
    ):  # fmt: skip
        site.get(path)
    return site


PLANTS = (
    test_credentials_of_a_request,
    test_credentials_in_addresses,
    test_downloads,
    test_what_nodes_are_given,
    test_where_outputs_and_messages_go,
    test_what_stays_due,
    test_wrong_requests,
)


def test_no_secret_is_in_an_answer_or_a_message(searched: Site) -> None:
    assert searched.events.messages
    assert all(ear.heard.count(b"status") > 3 for ear in searched.ears)
    assert searched.vault.found_in(searched.said()) == set()


def test_no_secret_is_in_the_log(searched: Site) -> None:
    assert "The stateless API is ready" in searched.server.log
    assert searched.vault.found_in(searched.server.log.encode()) == set()


def test_no_secret_is_among_the_arguments_of_a_process(searched: Site) -> None:
    assert any(b"main.py" in line for line in searched.eye.seen)
    assert searched.vault.found_in(b"\n".join(searched.eye.seen)) == set()


def test_no_secret_is_in_a_file_or_its_name(searched: Site) -> None:
    folders = ("input", "output", "temp", "user", "models", "cache")
    paths = list(searched.files(*folders))
    assert any(path.parent.name == "cache" for path in paths)
    for path in paths:
        content = path.read_bytes() if path.is_file() else b""
        shown = f"{path} {path.readlink() if path.is_symlink() else ''}".encode()
        assert searched.vault.found_in(shown + content) == set(), path


def test_the_journal_holds_addresses_and_nothing_else_and_is_its_owners(searched: Site) -> None:
    paths = [*searched.files("state"), searched.server.base / "state"]
    found = set()
    for path in paths:
        assert path.stat().st_mode & 0o077 == 0, path
        found |= searched.vault.found_in(str(path).encode())
        found |= searched.vault.found_in(path.read_bytes() if path.is_file() else b"")
    assert all(what.startswith("allowed: ") for what in found), found
    assert "allowed: address of a webhook that is due" in found


def test_the_search_finds_what_is_there() -> None:
    vault = Vault()
    text = vault.new("here")
    for shift in range(3):
        assert vault.found_in(base64.b64encode(os.urandom(shift + 6) + text.encode())) == {"here"}
    assert vault.found_in(f"x{text}y".encode()) == {"here"}
    assert vault.found_in(b"nothing") == set()
