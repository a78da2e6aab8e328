"""Single attempts: TLS, proxies, and what an error says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from comfyui_stateless.config import HttpAccess, Proxies
from comfyui_stateless.errors import HostRefused
from comfyui_stateless.journal import Content
from comfyui_stateless.storage.policy import Policy
from comfyui_stateless.webhooks.posting import Poster, Timeouts, Undeliverable
from tests.webhooks.conftest import ANYWHERE, StartReceiver
from tests.webhooks.receivers import free_port, never

BODY = Content(2, data=b"{}")

StartPoster = Callable[..., Poster]


@pytest.fixture
async def poster() -> AsyncIterator[StartPoster]:
    """Give what makes a poster."""
    threads = ThreadPoolExecutor(2)
    async with AsyncExitStack() as stack:

        def start(tls: ssl.SSLContext | None = None, **fields: Any) -> Poster:
            made = Poster(
                fields.get("proxies", Proxies()), fields.get("timeouts", Timeouts()), threads, tls
            )
            stack.push_async_callback(made.close)
            return made

        yield start
    threads.shutdown()


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context for 127.0.0.1, and that of a client that trusts it."""
    pem = tmp_path_factory.mktemp("tls") / "certificate.pem"
    pem.write_bytes(certificate())
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


def certificate() -> bytes:
    """Make a key and a certificate that it has signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.now(timezone.utc)
    names = x509.SubjectAlternativeName(
        [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("secure.example")]
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class Relay:
    """A proxy that wants to know who asks, for http and for CONNECT."""

    def __init__(self, port: int) -> None:
        self.heads: list[str] = []
        self._port = port
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def proxies(self) -> Proxies:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        url = SecretStr(f"http://user:geheim@127.0.0.1:{port}")
        return Proxies(url, url, ("direct.example",))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head.decode())
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        if head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            there_writer.write(head)
        await asyncio.gather(pipe(reader, there_writer), pipe(there_reader, writer))


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(2**16):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def at_loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


NAMES = Policy(HttpAccess(), resolve=at_loopback, refused=[])


async def test_a_trusted_certificate_is_accepted_and_another_is_not(
    poster: StartPoster, receiver: StartReceiver, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, client = contexts
    there = await receiver(tls=server)
    assert (await poster(client).post(there.url, {}, BODY, ANYWHERE)).status == 200
    with pytest.raises(Undeliverable, match="certificate"):
        await poster().post(there.url, {}, BODY, ANYWHERE)


async def test_the_certificate_is_checked_for_the_name_in_the_url(
    poster: StartPoster, receiver: StartReceiver, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, client = contexts
    there, sender = await receiver(tls=server), poster(client)
    url = f"https://secure.example:{there.port}/"
    assert (await sender.post(url, {}, BODY, NAMES)).status == 200
    with pytest.raises(Undeliverable, match="certificate"):
        await sender.post(f"https://other.example:{there.port}/", {}, BODY, NAMES)


async def test_a_redirect_from_https_to_http_is_refused(
    poster: StartPoster, receiver: StartReceiver, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, client = contexts
    plain = await receiver()
    away = web.Response(status=307, headers={"Location": plain.url})
    there = await receiver(away, tls=server)
    with pytest.raises(HostRefused, match="from https to http"):
        await poster(client).post(there.url, {}, BODY, ANYWHERE)
    assert plain.received == []


async def test_http_goes_through_the_proxy_with_its_password(
    poster: StartPoster, receiver: StartReceiver
) -> None:
    there = await receiver()
    async with Relay(there.port) as relay:
        await poster(proxies=relay.proxies).post("http://far.example/hook?a=1", {}, BODY, NAMES)
        (head,) = relay.heads
    assert head.startswith("POST http://far.example/hook?a=1 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic dXNlcjpnZWhlaW0=\r\n" in head
    assert there.received[0].body == b"{}"


async def test_https_goes_through_a_tunnel_and_the_password_stays_with_the_proxy(
    poster: StartPoster, receiver: StartReceiver, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, client = contexts
    there = await receiver(tls=server)
    async with Relay(there.port) as relay:
        sender = poster(client, proxies=relay.proxies)
        assert (await sender.post("https://secure.example/", {}, BODY, NAMES)).status == 200
        (head,) = relay.heads
    assert head.startswith("CONNECT secure.example:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic dXNlcjpnZWhlaW0=\r\n" in head
    assert "proxy-authorization" not in there.received[0].headers


async def test_an_exempt_host_is_reached_directly(
    poster: StartPoster, receiver: StartReceiver
) -> None:
    there = await receiver()
    async with Relay(there.port) as relay:
        url = f"http://direct.example:{there.port}/"
        await poster(proxies=relay.proxies).post(url, {}, BODY, NAMES)
        assert relay.heads == []
    assert "proxy-authorization" not in there.received[0].headers


async def test_a_private_address_is_refused_behind_a_proxy_too(
    poster: StartPoster, receiver: StartReceiver
) -> None:
    there = await receiver()
    async with Relay(there.port) as relay:
        with pytest.raises(HostRefused):
            await poster(proxies=relay.proxies).post(
                "http://10.0.0.1/", {}, BODY, Policy(HttpAccess())
            )
        assert relay.heads == []


async def test_a_large_body_gets_more_time(
    poster: StartPoster, receiver: StartReceiver, tmp_path: Path
) -> None:
    async def slowly() -> int:
        await asyncio.sleep(0.3)
        return 200

    there = await receiver(slowly, never)
    body = Content(1000, data=bytes(1000))
    sender = poster(timeouts=Timeouts(total_s=0.1, min_rate=100))
    assert (await sender.post(there.url, {}, body, ANYWHERE)).status == 200
    with pytest.raises(Undeliverable, match="too long"):
        await sender.post(there.url, {}, BODY, ANYWHERE)


async def test_an_error_says_what_happened(poster: StartPoster) -> None:
    with pytest.raises(Undeliverable, match=r"connection failed \(.*refused"):
        await poster().post(f"http://127.0.0.1:{free_port()}/?geheim", {}, BODY, ANYWHERE)


CONTINUES = b"HTTP/1.1 100 Continue\r\n\r\n" * 1000


@pytest.mark.parametrize(
    ("said", "then"),
    [
        (b"", CONTINUES),
        (b"", CONTINUES.replace(b"100", b"103")),
        (b"", b"\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\nA: ", b"b" * 10_000),
    ],
    ids=["continues", "hints", "empty lines", "headers", "header"],
)
async def test_heads_without_end_are_read_no_further(
    poster: StartPoster, said: bytes, then: bytes
) -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.read(1000)
        writer.write(said)
        with suppress(ConnectionError):
            while sent < 100_000_000:
                writer.write(then)
                await writer.drain()
                sent += len(then)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Undeliverable):
            await poster().post(f"http://127.0.0.1:{port}/", {}, BODY, ANYWHERE)
    assert sent < 50_000_000


async def test_interim_answers_are_passed_over(poster: StartPoster) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(CONTINUES[:250] + b"HTTP/1.1 202 Yes\r\nContent-Length: 9\r\n\r\n" + bytes(9))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        answer = await poster().post(f"http://127.0.0.1:{port}/", {}, BODY, ANYWHERE)
        assert answer.status == 202


class Counting(ThreadPoolExecutor):
    """Counts what it is given."""

    given = 0

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.given += 1
        return super().submit(*args, **kwargs)


@pytest.mark.parametrize("is_in_file", [False, True])
async def test_only_what_waits_for_a_disk_or_a_resolver_goes_to_a_thread(
    receiver: StartReceiver, tmp_path: Path, *, is_in_file: bool
) -> None:
    there, file, body = await receiver(), tmp_path / "body", BODY
    if is_in_file:
        file.write_bytes(b"{}")
        body = Content(2, path=file)
    with Counting(1) as threads:
        poster = Poster(Proxies(), Timeouts(), threads, None)
        answer = await poster.post(there.url, {}, body, ANYWHERE)
        await poster.close()
    assert (answer.status, threads.given) == (200, 1 + is_in_file)
