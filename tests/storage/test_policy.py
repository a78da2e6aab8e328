"""Where we may connect: every spelling that has been used to get behind such a policy."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from ipaddress import ip_network

import pytest

from comfyui_stateless.config import HttpAccess
from comfyui_stateless.errors import HostRefused, StorageError, TransferFailed, UnsupportedURL
from comfyui_stateless.storage.base import Cancel
from comfyui_stateless.storage.connections import Client, Request
from comfyui_stateless.storage.policy import Policy, is_public, parse
from tests.storage.file_server import file_server

LOOPBACK = {
    "dotted": "127.0.0.1",
    "decimal": "2130706433",
    "octal": "0177.0.0.1",
    "octal-whole": "017700000001",
    "hexadecimal": "0x7f000001",
    "hexadecimal-parts": "0x7f.0x0.0x0.0x1",
    "mixed": "0x7f.1",
    "short": "127.1",
    "trailing-dot": "127.0.0.1.",
    "zero": "0.0.0.0",
    "zero-short": "0",
    "name": "localhost",
    "name-upper-case": "LOCALHOST",
    "name-trailing-dot": "localhost.",
    "full-width-digits": "\uff11\uff12\uff17.0.0.1",
    "full-width-dots": "127\u30020\uff0e0\uff611",
    "circled-letters": "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
    "ipv6": "[::1]",
    "ipv6-long": "[0:0:0:0:0:0:0:1]",
    "ipv6-unspecified": "[::]",
    "ipv4-mapped": "[::ffff:127.0.0.1]",
    "ipv4-mapped-hexadecimal": "[::ffff:7f00:1]",
}
"""Spellings that lead to this machine, if nobody minds."""

NOT_PUBLIC = {
    "this-network": "0.1.2.3",
    "private-10": "10.0.0.1",
    "private-172": "172.16.0.1",
    "private-172-last": "172.31.255.255",
    "private-192": "192.168.1.1",
    "cgnat": "100.64.0.1",
    "cgnat-last": "100.127.255.255",
    "metadata": "169.254.169.254",
    "metadata-of-ecs": "169.254.170.2",
    "metadata-of-alibaba": "100.100.100.200",
    "metadata-of-oracle": "192.0.0.192",
    "host-of-azure": "168.63.129.16",
    "documentation-1": "192.0.2.1",
    "documentation-2": "198.51.100.1",
    "documentation-3": "203.0.113.1",
    "benchmark": "198.18.0.1",
    "benchmark-last": "198.19.255.255",
    "6to4-relay": "192.88.99.1",
    "multicast": "224.0.0.1",
    "multicast-last": "239.255.255.255",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "loopback": "127.0.0.1",
    "loopback-another": "127.8.9.10",
    "v6-loopback": "::1",
    "v6-unspecified": "::",
    "v6-unique-local": "fd00::1",
    "v6-metadata-of-aws": "fd00:ec2::254",
    "v6-link-local": "fe80::1",
    "v6-link-local-scoped": "fe80::1%eth0",
    "v6-public-scoped": "2606:4700::1111%eth0",
    "v6-site-local": "fec0::1",
    "v6-multicast": "ff02::1",
    "v6-discard": "100::1",
    "v6-documentation": "2001:db8::1",
    "v6-documentation-2": "3fff::1",
    "v6-benchmark": "2001:2::1",
    "v6-orchid": "2001:20::1",
    "v6-segment-routing": "5f00::1",
    "mapped-private": "::ffff:10.0.0.1",
    "mapped-metadata": "::ffff:169.254.169.254",
    "translated-loopback": "::ffff:0:127.0.0.1",
    "compatible-loopback": "::127.0.0.1",
    "compatible-public": "::8.8.8.8",
    "6to4-loopback": "2002:7f00:1::",
    "6to4-private": "2002:c0a8:101::1",
    "6to4-metadata": "2002:a9fe:a9fe::",
    "nat64-loopback": "64:ff9b::7f00:1",
    "nat64-metadata": "64:ff9b::169.254.169.254",
    "nat64-private": "64:ff9b::10.0.0.1",
    "nat64-local": "64:ff9b:1::8.8.8.8",
    "teredo": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
}

PUBLIC = {
    "dns": "8.8.8.8",
    "below-private-172": "172.15.255.255",
    "above-private-172": "172.32.0.0",
    "below-cgnat": "100.63.255.255",
    "above-cgnat": "100.128.0.0",
    "above-benchmark": "198.20.0.0",
    "below-multicast": "223.255.255.255",
    "v6": "2606:4700:4700::1111",
    "v6-first-registry": "2001:200::1",
    "mapped": "::ffff:8.8.8.8",
    "6to4": "2002:808:808::1",
    "nat64": "64:ff9b::8.8.8.8",
}


def cases(table: dict[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("address", table.values(), ids=table.keys())


@pytest.fixture
def witness() -> Iterator[Witness]:
    with ExitStack() as resources:
        yield Witness(resources)


class Witness:
    """Listens at one port of both loopback addresses, and counts who comes."""

    def __init__(self, resources: ExitStack) -> None:
        first = resources.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port = first.getsockname()[1]
        second = socket.create_server(("::1", self.port), family=socket.AF_INET6)
        self._listeners = [first, resources.enter_context(second)]
        for each in self._listeners:
            each.setblocking(False)

    def visits(self) -> int:
        """Return how many connections were made since the last time."""
        return sum(map(_accepted, self._listeners))


def _accepted(listener: socket.socket) -> int:
    count = 0
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


def get(policy: Policy, url: str) -> None:
    with Client(policy).request(Request("GET", url), Cancel()):
        pass


def resolving(*answers: Sequence[str]) -> Callable[[str, int], Sequence[str]]:
    """Return a resolver that gives these answers, one a call, the last one for ever."""
    remaining = itertools.chain(answers, itertools.repeat(answers[-1]))
    return lambda host, port: next(remaining)


# What is refused


@cases(LOOPBACK)
def test_a_spelling_of_this_machine_is_refused_before_any_connection(
    witness: Witness, address: str
) -> None:
    with pytest.raises(HostRefused):
        get(Policy(HttpAccess()), f"http://{address}:{witness.port}/latest/meta-data")
    assert witness.visits() == 0


@cases(LOOPBACK)
def test_that_spelling_would_have_led_here(witness: Witness, address: str) -> None:
    trusting = Policy(HttpAccess(trusted=frozenset({"*"})))
    target = trusting.check_url(f"http://{address}:{witness.port}/")
    for numeric in trusting.addresses(target):
        family = socket.AF_INET6 if ":" in numeric else socket.AF_INET
        with socket.socket(family) as client:
            client.settimeout(5)
            client.connect((numeric, target.port))
    assert witness.visits() > 0


@cases(NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(HostRefused, match="not a public address"):
        get(Policy(HttpAccess()), f"http://{host}/")


@cases(NOT_PUBLIC)
def test_a_name_for_such_an_address_is_refused(address: str) -> None:
    policy = Policy(HttpAccess(), resolve=resolving([address]))
    with pytest.raises(HostRefused, match=r"cdn\.example"):
        get(policy, "https://cdn.example/a.png")


@cases(PUBLIC)
def test_a_public_address_is_not_refused(address: str) -> None:
    assert is_public(address)
    policy = Policy(HttpAccess(), resolve=resolving([address]))
    assert policy.addresses(parse("https://cdn.example/")) == [address]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_address_that_is_not_public_refuses_the_whole_name(position: int) -> None:
    found = ["8.8.8.8", "2606:4700:4700::1111"]
    found.insert(position, "10.0.0.7")
    with pytest.raises(HostRefused):
        get(Policy(HttpAccess(), resolve=resolving(found)), "http://both.example/")


@pytest.mark.parametrize(
    "url",
    [
        "http://8.8.8.8@127.0.0.1:{port}/",
        "http://example.com@127.0.0.1:{port}/",
        "http://example.com:80@127.0.0.1:{port}/",
        "http://a@b@127.0.0.1:{port}/",
        "http://example.com%2f@127.0.0.1:{port}/",
        "http://user:p%40ss@localhost:{port}/",
    ],
)
def test_what_stands_before_an_at_sign_is_not_the_host(witness: Witness, url: str) -> None:
    with pytest.raises(HostRefused):
        get(Policy(HttpAccess()), url.format(port=witness.port))
    assert witness.visits() == 0


# What is no URL of ours


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/a",
        "gopher://127.0.0.1:70/_a",
        "dict://127.0.0.1:11211/stat",
        "data:text/plain,a",
        "javascript:alert(1)",
        "jar:http://127.0.0.1!/",
        "ws://127.0.0.1/",
        "unix:/var/run/docker.sock",
        "//127.0.0.1/a",
        "127.0.0.1/a",
        "http:",
        "http:///a",
        "http:a",
        "http://",
        "http://:80/",
        "http://user@/",
        "http://./",
        "http://a..b/",
        "http://host:port/",
        "http://host:0/",
        "http://host:65536/",
        "http://host:-1/",
        "http://[::1/",
        "http://[::1]x/",
        "http://[127.0.0.1]/",
        "http://[name]/",
        "http://::1/",
        "http://[::1]:80x/",
        "http://[::1][::1]/",
        "http://127.0.0.1\\@example.com/",
        "http:\\\\127.0.0.1\\a",
        "http://example.com\t/",
        "http://exa\nmple.com/",
        "http://example.com/\r\nHost: other",
        "http://example.com/ HTTP/1.1",
        " http://example.com/",
        "http://example.com/\0",
        "http://exa%6dple.com/",
        "http://example.com%00.evil/",
        "http://a/b\x7f",
        "http://host\uff0fpath/",
        "http://a,b/",
        "http://" + "a" * 64 + ".example/",
        "http://" + "a." * 130 + "example/",
        "http://" + "\u00fc" * 100_000 + "/",
        "",
    ],
)
@pytest.mark.parametrize("trusted", [frozenset(), frozenset({"*"})], ids=["checked", "trusted"])
def test_a_malformed_url_or_another_scheme_is_no_url_of_ours(
    url: str, trusted: frozenset[str]
) -> None:
    with pytest.raises(UnsupportedURL):
        get(Policy(HttpAccess(trusted=trusted)), url)


def test_a_malformed_url_is_not_repeated_in_the_message() -> None:
    for url in ("http://user:pass/secret@host/", "http://us er:secret@host/", "ftp://a:secret@b/"):
        with pytest.raises(UnsupportedURL) as caught:
            parse(url)
        assert "secret" not in caught.value.message


# What a URL is read as


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("http://example.com", "http://example.com/"),
        ("HTTPS://Example.COM:443/A?b=C#d", "https://example.com/A?b=C"),
        ("http://example.com:8080?a", "http://example.com:8080/?a"),
        ("http://user:pw@example.com/", "http://example.com/"),
        ("http://@example.com/", "http://example.com/"),
        ("http://bücher.example/ü?ü", "http://xn--bcher-kva.example/%C3%BC?%C3%BC"),
        ("http://a_b.example./%41%2f", "http://a_b.example/%41%2f"),
        ("http://[2606:4700::0:1111]:80/", "http://[2606:4700::1111]/"),
        ("http://example.com/a//b/../c;d|e", "http://example.com/a//b/../c;d|e"),
    ],
)
def test_a_url_is_read_once_and_normalised(url: str, read: str) -> None:
    assert parse(url).url == read


def test_user_and_password_are_read_apart_and_not_shown() -> None:
    target = parse("https://us%40er:p%3Aw@example.com/a?sig=planted")
    assert target.userinfo is not None
    assert target.userinfo[0] == "us@er"
    assert target.userinfo[1].get_secret_value() == "p:w"
    assert "p:w" not in repr(target)
    assert "us@er" not in repr(target)
    assert "planted" not in repr(target) + target.redacted


def test_an_at_sign_alone_is_no_user() -> None:
    assert parse("http://@example.com/").userinfo is None
    assert parse("http://:@example.com/").userinfo is None


# Whom we trust


@pytest.mark.parametrize(
    ("trusted", "url", "is_trusted"),
    [
        ("*", "http://127.0.0.1:1/", True),
        ("http://127.0.0.1:1", "http://127.0.0.1:1/", True),
        ("http://127.0.0.1:1", "http://127.0.0.1:2/", False),
        ("http://127.0.0.1:1", "http://127.0.0.1:12/", False),
        ("http://hub.example", "http://hub.example.org/", False),
        ("http://127.0.0.1", "http://127.0.0.1:80/", True),
        ("http://127.0.0.1", "https://127.0.0.1/", False),
        ("http://127.0.0.1", "http://127.1/", False),
        ("http://Hub.Example", "http://hub.example./", True),
        ("http://hub.example", "http://a.hub.example/", False),
        ("http://hub.example", "http://hub.example@127.0.0.1/", False),
        ("http://bücher.example", "http://xn--bcher-kva.example/", True),
        ("http://[::1]:80", "http://[0::1]/", True),
    ],
)
def test_an_origin_is_trusted_exactly(trusted: str, url: str, is_trusted: bool) -> None:
    policy = Policy(HttpAccess(trusted=frozenset({trusted})), resolve=resolving(["127.0.0.1"]))
    assert policy.trusts(parse(url)) is is_trusted
    if not is_trusted:
        with pytest.raises(HostRefused):
            policy.addresses(parse(url))


def test_what_the_operator_sets_is_trusted_beside_what_was() -> None:
    policy = Policy(HttpAccess(trusted=frozenset({"http://127.0.0.1:1"})))
    wider = policy.trusting("http://127.0.0.1:2/bucket?x=1", "https://[::1]:3")
    for url in ("http://127.0.0.1:1/", "http://127.0.0.1:2/", "https://[::1]:3/"):
        assert wider.trusts(parse(url))
    assert not policy.trusts(parse("http://127.0.0.1:2/"))
    assert not wider.trusts(parse("http://127.0.0.1:4/"))
    assert policy.trusting("*").trusts(parse("http://10.0.0.1/"))


# Names that do not hold still


def test_a_connection_goes_to_the_address_that_was_checked() -> None:
    with file_server() as good, file_server("127.0.0.2") as bad:
        good.add("/a", b"1")
        asked: list[str] = []

        def rebinding(host: str, port: int) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

        refused = (ip_network("127.0.0.2/32"),)
        policy = Policy(HttpAccess(), resolve=rebinding, refused=refused)
        with Client(policy).request(
            Request("GET", f"http://moves.example:{good.port}/a"), Cancel()
        ) as response:
            assert response.status == 200
        assert asked == ["moves.example"]
        assert good.requests[0].headers["host"] == f"moves.example:{good.port}"
        with pytest.raises(HostRefused):
            get(policy, f"http://moves.example:{bad.port}/a")
        assert bad.connections == 0


def test_the_next_address_is_taken_when_one_does_not_answer() -> None:
    with file_server() as server:
        server.add("/a")
        policy = Policy(HttpAccess(), resolve=resolving(["127.0.0.3", "127.0.0.1"]), refused=())
        get(policy, f"http://two.example:{server.port}/a")
        assert server.connections == 1


@pytest.mark.parametrize("failure", [socket.gaierror(-2, "no such name"), UnicodeError("idna")])
def test_a_name_that_does_not_resolve_is_a_failed_transfer(failure: Exception) -> None:
    def failing(host: str, port: int) -> list[str]:
        raise failure

    with pytest.raises(TransferFailed, match=r"nowhere\.example"):
        get(Policy(HttpAccess(), resolve=failing), "http://nowhere.example/?q=secret")


def test_a_name_without_addresses_is_a_failed_transfer() -> None:
    with pytest.raises(TransferFailed):
        get(Policy(HttpAccess(), resolve=resolving([])), "http://empty.example/")


async def test_the_policy_is_asked_from_a_coroutine_in_a_thread() -> None:
    policy = Policy(HttpAccess())
    with pytest.raises(StorageError):
        await asyncio.to_thread(policy.addresses, policy.check_url("http://localhost/hook"))
