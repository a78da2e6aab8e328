"""Proxies: how they are spoken to, whom they serve, and that the policy holds behind them."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from comfyui_stateless.config import HttpAccess, Proxies
from comfyui_stateless.errors import (
    AccessDenied,
    HostRefused,
    StorageError,
    TransferFailed,
)
from comfyui_stateless.storage.base import Cancelled
from comfyui_stateless.storage.connections import Client
from comfyui_stateless.storage.policy import Policy, parse
from comfyui_stateless.storage.proxies import proxy_for
from tests.storage.certificates import authority
from tests.storage.file_server import FileServer, file_server
from tests.storage.requesting import (
    CONTENT,
    CREDENTIALS,
    GIVEN,
    PATIENT,
    SECRET,
    assert_no_secret,
    body,
    cancelled_after,
    get,
    sent,
)
from tests.storage.tiny_proxy import TinyProxy, proxy_to


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


@pytest.fixture
def secure() -> Iterator[FileServer]:
    with file_server(tls=authority().server) as server:
        yield server


BASIC = "Basic " + base64.b64encode(f"user:{SECRET}".encode()).decode()


def unresolvable(host: str, port: int) -> list[str]:
    if host == "127.0.0.1":
        return [host]
    raise socket.gaierror(-2, "Name or service not known")


def behind(proxy: TinyProxy, policy: Policy | None = None, **more: object) -> Client:
    proxies = Proxies(http=proxy.url, https=proxy.url)
    policy = policy or Policy(HttpAccess(), resolve=unresolvable)
    return Client(policy, proxies, **more)  # type: ignore[arg-type] # a test's own words


def test_http_goes_through_a_proxy_in_absolute_form(server: FileServer) -> None:
    server.add("/a", b"proxied")
    with proxy_to(server.port) as proxy:
        url = "http://only-the-proxy-knows.example:8080/a?b=c"
        assert body(get(behind(proxy), url)) == b"proxied"
    lines = proxy.heads[0].split("\r\n")
    assert lines[0] == f"GET {url} HTTP/1.1"
    assert "Host: only-the-proxy-knows.example:8080" in lines
    assert f"Proxy-Authorization: {BASIC}" in lines


def test_https_goes_through_a_proxy_in_a_tunnel(secure: FileServer) -> None:
    secure.add("/a", CONTENT)
    with proxy_to(secure.port) as proxy:
        tls = behind(proxy, tls=authority().client)
        request = get(tls, "https://secure.example/a", credentials=CREDENTIALS)
        assert body(request) == CONTENT
    lines = proxy.heads[0].split("\r\n")
    assert lines[0] == "CONNECT secure.example:443 HTTP/1.1"
    assert f"Proxy-Authorization: {BASIC}" in lines
    assert GIVEN[0] not in proxy.heads[0]
    assert sent(secure) == [GIVEN]
    assert "proxy-authorization" not in secure.requests[0].headers


@pytest.mark.parametrize(
    ("status", "kind"), [(407, AccessDenied), (403, AccessDenied), (502, TransferFailed)]
)
def test_a_tunnel_that_is_refused_is_an_error_of_the_proxy(
    status: int, kind: type[StorageError]
) -> None:
    with proxy_to(0, status) as proxy, pytest.raises(kind, match="The proxy") as caught:
        get(behind(proxy), "https://secure.example/a")
    assert_no_secret(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "localhost", "[::1]", "169.254.169.254"]
)
def test_a_proxy_is_no_way_round_the_policy(server: FileServer, scheme: str, host: str) -> None:
    with proxy_to(server.port) as proxy, pytest.raises(HostRefused):
        get(behind(proxy, Policy(HttpAccess())), f"{scheme}://{host}:{server.port}/a")
    assert proxy.heads == []


def test_a_redirect_behind_a_proxy_is_checked_too(server: FileServer) -> None:
    server.redirect("/a", "http://169.254.169.254/latest")
    with proxy_to(server.port) as proxy, pytest.raises(HostRefused):
        get(behind(proxy), "http://cdn.example/a")
    assert len(proxy.heads) == 1


def test_a_proxy_that_is_not_there_is_a_failed_transfer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = TinyProxy(closed.getsockname()[1])
    with pytest.raises(TransferFailed) as caught:
        get(behind(gone), "http://cdn.example/a")
    assert_no_secret(caught.value)


def test_waiting_for_a_proxy_is_cancelled() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy = TinyProxy(silent.getsockname()[1])
        with cancelled_after() as cancel, pytest.raises(Cancelled):
            get(behind(proxy, timeouts=PATIENT), "https://cdn.example/a", cancel)


@pytest.mark.parametrize(
    "url", ["socks5://user:{}@a:1", "https://user:{}@a:1", "http://user:{}@:1", "http://a b:{}"]
)
def test_a_proxy_that_we_cannot_speak_to_is_a_clear_error(url: str) -> None:
    proxies = Proxies(http=SecretStr(url.format(SECRET)))
    with pytest.raises(StorageError, match="HTTP_PROXY or HTTPS_PROXY") as caught:
        get(Client(Policy(HttpAccess()), proxies), "http://cdn.example/")
    assert_no_secret(caught.value)


@pytest.mark.parametrize(
    ("entry", "url", "is_direct"),
    [
        ("*", "http://any.example/", True),
        ("hub.example", "http://hub.example/", True),
        ("hub.example", "https://hub.example:8443/", True),
        ("hub.example", "http://cdn.hub.example/", True),
        ("hub.example", "http://nothub.example/", False),
        ("hub.example", "http://hub.example.org/", False),
        (".hub.example", "http://cdn.hub.example/", True),
        (".hub.example", "http://hub.example/", True),
        (".hub.example", "http://nothub.example/", False),
        ("*.hub.example", "http://cdn.hub.example/", True),
        ("Hub.Example", "http://hub.example/", True),
        ("hub.example:8080", "http://hub.example:8080/", True),
        ("hub.example:8080", "http://hub.example/", False),
        ("hub.example:443", "https://hub.example/", True),
        ("10.1.2.3", "http://10.1.2.3/", True),
        ("10.1.2.3", "http://10.1.2.30/", False),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.1/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("10.0.0.0/8", "http://hub.example/", False),
        ("fd00::/8", "http://[fd00::1]/", True),
        ("fd00::/8", "http://10.1.2.3/", False),
        ("::1", "http://[::1]:8188/", True),
        ("[::1]", "http://[::1]:8188/", True),
        ("[::1]:8188", "http://[::1]:8188/", True),
        ("[::1]:8188", "http://[::1]/", False),
        ("not/a/network", "http://not/", False),
        (".", "http://hub.example/", False),
    ],
)
def test_no_proxy_means_what_it_lists(entry: str, url: str, is_direct: bool) -> None:
    proxies = Proxies(
        http=SecretStr("proxy.example:3128"),
        https=SecretStr("http://proxy.example:3128"),
        exempt=("unrelated.example", entry),
    )
    proxy = proxy_for(parse(url), proxies)
    assert (proxy is None) is is_direct
    if proxy:
        assert (proxy.host, proxy.port) == ("proxy.example", 3128)


def test_an_exempt_host_is_reached_directly(server: FileServer) -> None:
    with proxy_to(0) as proxy:
        proxies = Proxies(http=proxy.url, exempt=("127.0.0.0/8",))
        direct = Client(Policy(HttpAccess(trusted=frozenset({"*"}))), proxies)
        assert body(get(direct, server.add("/a", b"1"))) == b"1"
    assert proxy.heads == []


def test_a_proxy_shows_no_secret() -> None:
    proxies = Proxies(http=SecretStr(f"http://user:{SECRET}@proxy.example"))
    assert SECRET not in repr(proxy_for(parse("http://a/"), proxies))
