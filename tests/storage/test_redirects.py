"""Redirects: which are followed, where to, and with which credentials."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from comfyui_stateless.errors import (
    HostRefused,
    StorageError,
    UnsupportedURL,
)
from comfyui_stateless.storage.base import Cancel, Source
from comfyui_stateless.storage.connections import MAX_REDIRECTS, Request
from tests.storage.certificates import authority
from tests.storage.file_server import FileServer, file_server
from tests.storage.requesting import (
    CREDENTIALS,
    GIVEN,
    SECRET,
    body,
    client,
    get,
    sent,
)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


@pytest.fixture
def other() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


@pytest.fixture
def secure() -> Iterator[FileServer]:
    with file_server(tls=authority().server) as server:
        yield server


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_redirects_are_followed(server: FileServer, status: int, method: str) -> None:
    server.add("/new", b"moved")
    url = server.redirect("/old", "/new", status)
    with client().request(Request(method, url), Cancel()) as response:
        assert response.status == 200
        assert response.target.url == f"{server.origin}/new"
    assert [seen.method for seen in server.requests] == [method, method]


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("b", "/dir/b"),
        ("../b?x=1", "/b?x=1"),
        ("?x=1", "/dir/old?x=1"),
        ("//{authority}/b", "/b"),
        ("{origin}/b#part", "/b"),
        (" /with space/b ", "/with%20space/b"),
        ("/ünï", "/%C3%BCn%C3%AF"),
    ],
)
def test_a_location_of_any_form_is_understood(server: FileServer, location: str, path: str) -> None:
    authority = server.origin.removeprefix("http://")
    filled = location.format(origin=server.origin, authority=authority)
    raw = filled.encode().decode("latin-1")
    url = server.redirect("/dir/old", raw)
    # The one that leads to where it came from is met a second time, and ends there.
    with suppress(StorageError), get(client(), url):
        pass
    assert server.requests[1].path == path


def test_a_redirect_to_itself_is_a_clear_error(server: FileServer) -> None:
    server.redirect("/b", "/a")
    url = server.redirect("/a", "/b")
    with pytest.raises(StorageError, match="redirects in a circle"):
        get(client(), url)
    assert len(server.requests) == 2


def test_redirects_without_end_are_a_clear_error(server: FileServer) -> None:
    for number in range(MAX_REDIRECTS + 5):
        server.redirect(f"/{number}", f"/{number + 1}")
    with pytest.raises(StorageError, match=f"more than {MAX_REDIRECTS} times"):
        get(client(), f"{server.origin}/0")
    assert len(server.requests) == MAX_REDIRECTS + 1


def test_as_many_redirects_as_are_allowed_are_followed(server: FileServer) -> None:
    for number in range(MAX_REDIRECTS):
        server.redirect(f"/{number}", f"/{number + 1}")
    server.add(f"/{MAX_REDIRECTS}", b"there")
    assert body(get(client(), f"{server.origin}/0")) == b"there"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0177.0.0.1", "127.1", "0.0.0.0", "[::ffff:7f00:1]"],
)
def test_a_redirect_to_an_address_that_is_not_public_is_refused(
    server: FileServer, other: FileServer, host: str
) -> None:
    other.add("/a", b"internal")
    url = server.redirect("/a", f"http://{host}:{other.port}/a")
    with pytest.raises(HostRefused):
        get(client(server.origin), url)
    assert other.connections == 0


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://[fd00:ec2::254]/",
        "http://[64:ff9b::7f00:1]/",
    ],
)
def test_a_redirect_to_metadata_is_refused(server: FileServer, location: str) -> None:
    url = server.redirect("/a", location)
    with pytest.raises(HostRefused):
        get(client(server.origin), url)


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "gopher://127.0.0.1:70/_x",
        "data:text/plain,a",
        "javascript:alert(1)",
        "http://[::1",
        "http://user@/",
        "http://host:99999/",
        "http:\\\\127.0.0.1\\",
    ],
)
def test_a_redirect_to_another_scheme_or_nowhere_is_refused(
    server: FileServer, location: str
) -> None:
    with pytest.raises(UnsupportedURL, match="redirects to no http or https URL"):
        get(client(), server.redirect("/a", location))
    assert len(server.requests) == 1


def test_a_redirect_that_names_no_place_is_the_answer(server: FileServer) -> None:
    url = server.add("/a", b"where to?", status=302)
    with get(client(), url) as response:
        assert response.status == 302


@pytest.mark.parametrize("status", [307, 308])
def test_an_upload_is_sent_again_from_its_start_where_a_redirect_repeats_it(
    server: FileServer, tmp_path: Path, status: int
) -> None:
    (file := tmp_path / "a").write_bytes(content := b"0123456789" * 50_000)
    url = server.redirect("/old", "/new", status)
    request = Request("PUT", url, source=Source(file, len(content), "image/png"))
    with client().request(request, Cancel()) as response:
        assert response.status == 201
    assert server.files["/new"].content == content
    assert server.files["/new"].media_type == "image/png"


@pytest.mark.parametrize("status", [301, 302, 303])
def test_an_upload_is_not_turned_into_a_download(server: FileServer, status: int) -> None:
    url = server.redirect("/old", "/new", status)
    request = Request("PUT", url, source=Source(b"1", 1, "image/png"))
    with client().request(request, Cancel()) as response:
        assert response.status == status
    assert len(server.requests) == 1


def test_a_redirect_from_https_to_http_is_refused(secure: FileServer, server: FileServer) -> None:
    url = secure.redirect("/a", server.add("/a", b"1"))
    with pytest.raises(HostRefused, match="from https to http"):
        get(client(tls=authority().client), url)
    assert server.connections == 0


def test_a_redirect_from_http_to_https_is_followed_without_credentials(
    secure: FileServer, server: FileServer
) -> None:
    url = server.redirect("/a", secure.add("/a", b"1"))
    assert body(get(client(tls=authority().client), url, credentials=CREDENTIALS)) == b"1"
    assert sent(secure) == [(None, None)]


# Credentials


def test_credentials_stay_on_their_origin(server: FileServer) -> None:
    server.add("/new", b"1")
    body(get(client(), server.redirect("/old", "/new"), credentials=CREDENTIALS))
    assert sent(server) == [GIVEN, GIVEN]


def test_credentials_do_not_follow_to_another_port(server: FileServer, other: FileServer) -> None:
    url = server.redirect("/a", other.add("/a", b"1"))
    body(get(client(), url, credentials=CREDENTIALS))
    assert (sent(server), sent(other)) == ([GIVEN], [(None, None)])


def test_credentials_do_not_follow_to_another_name_of_the_same_server(server: FileServer) -> None:
    server.add("/b", b"1")
    url = server.redirect("/a", f"http://localhost:{server.port}/b")
    body(get(client(), url, credentials=CREDENTIALS))
    assert sent(server) == [GIVEN, (None, None)]


def test_credentials_do_not_come_back_by_way_of_another_origin(
    server: FileServer, other: FileServer
) -> None:
    server.add("/victim", b"1")
    url = server.redirect("/a", other.redirect("/back", f"{server.origin}/victim"))
    body(get(client(), url, credentials=CREDENTIALS))
    assert sent(server) == [GIVEN, (None, None)]


def test_user_and_password_in_a_location_are_not_sent(server: FileServer) -> None:
    server.add("/b", b"1")
    url = server.redirect("/a", f"http://user:{SECRET}@127.0.0.1:{server.port}/b")
    body(get(client(), url))
    assert sent(server) == [(None, None), (None, None)]


def test_headers_that_are_no_credentials_follow_everywhere(
    server: FileServer, other: FileServer
) -> None:
    url = server.redirect("/a", other.add("/a", b"0123"))
    request = Request("GET", url, headers={"Range": "bytes=1-2"})
    with client().request(request, Cancel()) as response:
        assert response.status == 206
    assert other.requests[0].headers["range"] == "bytes=1-2"
