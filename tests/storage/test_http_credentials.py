"""The HTTP backend's credentials: whose are sent, where to, and that none is shown."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from comfyui_stateless.config import HttpAccess
from comfyui_stateless.errors import StorageError, UnsupportedURL
from comfyui_stateless.storage.auth import (
    Auth,
    BasicAuth,
    BearerAuth,
    HeaderAuth,
    QueryAuth,
    S3Auth,
)
from comfyui_stateless.storage.base import Cancel, Source
from comfyui_stateless.storage.connections import Client
from comfyui_stateless.storage.http import HttpBackend
from comfyui_stateless.storage.policy import Policy
from tests.storage.file_server import FileServer, file_server
from tests.storage.requesting import SECRET, assert_no_secret, backend, content, head, opened

TOKEN = SecretStr(SECRET)
BEARER = BearerAuth(type="bearer", token=TOKEN)
BASIC = BasicAuth(type="basic", username="us:er", password=TOKEN)
HEADER = HeaderAuth(type="header", header_name="X-Key", header_value=TOKEN)
QUERY = QueryAuth(type="query", query_param="sig", query_value=SecretStr(f"{SECRET}&/=+ ü"))
S3 = S3Auth(type="s3", access_key_id="a", secret_access_key=TOKEN)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def with_user(url: str, userinfo: str) -> str:
    return url.replace("://", f"://{userinfo}@")


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        (BEARER, "authorization", f"Bearer {SECRET}"),
        (BASIC, "authorization", basic("us:er", SECRET)),
        (HEADER, "x-key", SECRET),
    ],
    ids=["bearer", "basic", "header"],
)
def test_credentials_of_a_request_go_in_a_header(
    server: FileServer, auth: Auth, name: str, value: str
) -> None:
    url = server.add("/a", b"1")
    head(url, auth)
    content(opened(url, auth=auth))
    backend().put(url, Source(b"1", 1, "image/png"), auth, Cancel())
    assert [seen.headers.get(name) for seen in server.requests] == [value] * 3


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("", "sig={}"),
        ("?a=b&c", "a=b&c&sig={}"),
        ("?sig=of-the-url&a=b", "a=b&sig={}"),
        ("?s%69g=of-the-url&sig", "sig={}"),
        ("?sigh=1", "sigh=1&sig={}"),
    ],
)
def test_credentials_of_a_request_go_in_the_query(
    server: FileServer, query: str, sent: str
) -> None:
    head(server.add("/a", b"1") + query, QUERY)
    value = f"{SECRET}%26%2F%3D%2B%20%C3%BC"
    assert server.requests[0].path == f"/a?{sent.format(value)}"


def test_credentials_for_s3_are_refused(server: FileServer) -> None:
    with pytest.raises(UnsupportedURL, match="s3"):
        head(server.add("/a"), S3)
    assert server.connections == 0


def test_user_and_password_of_a_url_are_basic_credentials(server: FileServer) -> None:
    url = with_user(server.add("/a", b"1"), "us%40er:p%2Fw")
    head(url)
    head(with_user(server.origin, "token-alone") + "/a")
    given = [seen.headers.get("authorization") for seen in server.requests]
    assert given == [basic("us@er", "p/w"), basic("token-alone", "")]


@pytest.mark.parametrize("auth", [BEARER, HEADER, QUERY], ids=["bearer", "header", "query"])
def test_credentials_of_a_request_outrank_those_of_the_url(server: FileServer, auth: Auth) -> None:
    head(with_user(server.add("/a", b"1"), "of:url"), auth)
    given = server.requests[0].headers.get("authorization")
    assert given == (f"Bearer {SECRET}" if auth is BEARER else None)


def operator(name: str = "Authorization", origins: frozenset[str] | None = None) -> HttpBackend:
    header = (name, SecretStr("of the operator"))
    return backend(HttpAccess(frozenset({"*"}), header, origins))


def test_the_header_of_the_operator_goes_everywhere_unless_told_otherwise(
    server: FileServer,
) -> None:
    head(server.add("/a", b"1"), by=operator("X-Key"))
    assert server.requests[0].headers["x-key"] == "of the operator"


@pytest.mark.parametrize(
    ("allowed", "is_sent"),
    [
        ("{origin}", True),
        ("*", True),
        ("http://127.0.0.1", False),
        ("https://127.0.0.1:{port}", False),
        ("http://localhost:{port}", False),
        (None, False),
    ],
)
def test_the_header_of_the_operator_goes_to_allowed_origins(
    server: FileServer, allowed: str | None, is_sent: bool
) -> None:
    origins = [allowed.format(origin=server.origin, port=server.port)] if allowed else []
    head(server.add("/a", b"1"), by=operator(origins=frozenset(origins)))
    assert ("authorization" in server.requests[0].headers) is is_sent


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_the_header_of_the_operator_gives_way_to_the_same_header(
    server: FileServer, name: str
) -> None:
    url = server.add("/a", b"1")
    head(url, BEARER, operator(name))
    head(with_user(url, "of:url"), None, operator(name))
    given = [seen.headers["authorization"] for seen in server.requests]
    assert given == [f"Bearer {SECRET}", basic("of", "url")]


def test_the_header_of_the_operator_stands_beside_other_credentials(server: FileServer) -> None:
    head(server.add("/a", b"1"), BEARER, operator("X-Key"))
    headers = server.requests[0].headers
    assert (headers["authorization"], headers["x-key"]) == (f"Bearer {SECRET}", "of the operator")


@pytest.mark.parametrize("auth", [BEARER, BASIC, HEADER, QUERY, None])
def test_nothing_follows_a_redirect_to_another_origin(
    server: FileServer, auth: Auth | None
) -> None:
    with file_server() as other:
        url = with_user(server.redirect("/a", other.add("/b", b"1")), "of:url")
        head(url, auth, operator("X-Operator"))
        head(url, auth, operator("X-Operator", frozenset({"*"})))
    for seen in other.requests:
        assert seen.path == "/b"
        assert not {"authorization", "x-key", "x-operator"} & set(seen.headers)


def test_more_headers_go_with_every_request(server: FileServer) -> None:
    client = Client(Policy(HttpAccess(trusted=frozenset({"*"}))))
    extended = HttpBackend(client, HttpAccess(), {"x-ms-blob-type": "BlockBlob"})
    extended.put(f"{server.origin}/a", Source(b"1", 1, "image/png"), None, Cancel())
    assert server.requests[0].headers["x-ms-blob-type"] == "BlockBlob"


@pytest.mark.parametrize(
    "auth",
    [
        BearerAuth(type="bearer", token=SecretStr(f"{SECRET}\r\nX-Injected: 1")),
        BearerAuth(type="bearer", token=SecretStr(f"{SECRET}日本")),
        HeaderAuth(type="header", header_name="X-Key", header_value=SecretStr(f"{SECRET}\n")),
        HeaderAuth(type="header", header_name="Host", header_value=TOKEN),
    ],
)
def test_credentials_that_no_header_can_carry_are_refused(server: FileServer, auth: Auth) -> None:
    with pytest.raises(UnsupportedURL) as caught:
        head(server.add("/a"), auth)
    assert_no_secret(caught.value)
    assert server.connections == 0


@pytest.mark.parametrize("status", [None, 401, 404, 418, 503])
def test_no_secret_is_in_an_error(server: FileServer, status: int | None) -> None:
    url = server.add("/a", b"0123", status=status, cut_at=0 if status is None else None)
    for auth in (BEARER, BASIC, HEADER, QUERY, S3, None):
        with pytest.raises(StorageError) as caught:
            content(opened(f"{with_user(url, f'user:{SECRET}')}?sig={SECRET}", auth=auth))
        assert_no_secret(caught.value)
