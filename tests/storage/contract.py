"""What every backend does, whatever it talks to: a class of tests to inherit.

A backend's own class says what it is tried on, in one fixture::

    class TestThing(BackendContract):
        can_span = False                     # what it cannot do, if anything

        @pytest.fixture
        def store(self) -> Store: ...
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Protocol

import pytest

from comfyui_stateless.errors import (
    AccessDenied,
    ObjectNotFound,
    StorageError,
    TransferFailed,
)
from comfyui_stateless.storage.auth import Auth
from comfyui_stateless.storage.base import (
    Backend,
    Cancel,
    Cancelled,
    Download,
    ObjectInfo,
    Source,
    Span,
)
from tests.storage.relay import relay

OCTETS = "application/octet-stream"
BUFFER_BYTES = 256 * 1024
LARGE_BYTES = 20 * 1024 * 1024 + 17
BOUND_S = 20.0
"""A wait that hangs ends here; none is meant to take long."""

AWKWARD_NAMES = (
    "plain.bin",
    "with space.bin",
    "ünïcödé 日本.bin",
    "a+b.bin",
    "a b.bin",
    "100%.bin",
    "A.bin",
    "%41.bin",
    "a%2Fb.bin",
    "a/b.bin",
    "a#b.bin",
    "a?b=c.bin",
    "a&b=c;d,e@f!$.bin",
    "quote'(d)~.bin",
    "deep/er/and/deep/er/st/ill.bin",
)


class Store(Protocol):
    """A real storage, the backend for it, and a way to it that is not the backend.

    Attributes:
        backend: With good credentials of its own, or ``auth`` has them.
        auth: What the tests hand to the backend.
        origin: Where the server is, such as ``http://127.0.0.1:80``.
        refused: Backends with credentials that the server refuses, by what is wrong with them.
        secrets: What no message, and no log line, may hold.
    """

    @property
    def backend(self) -> Backend: ...

    @property
    def auth(self) -> Auth | None: ...

    @property
    def origin(self) -> str: ...

    @property
    def refused(self) -> dict[str, tuple[Backend, Auth | None]]: ...

    @property
    def secrets(self) -> tuple[str, ...]: ...

    def url(self, name: str) -> str:
        """Return the address of the object ``name``."""

    def write(self, name: str, content: bytes, media_type: str = OCTETS) -> None:
        """Put an object there, not with the backend."""

    def read(self, name: str) -> bytes:
        """Get an object, not with the backend; FileNotFoundError where there is none."""

    def at(self, origin: str) -> Store:
        """Return the same storage, for a backend that reaches its server at ``origin``."""


class BackendContract:
    """The tests. The attributes say what a backend, or its server, cannot do."""

    can_put: ClassVar[bool] = True
    can_span: ClassVar[bool] = True
    can_move: ClassVar[bool] = True
    """Whether ``Store.at`` works: the server may be reached through a relay."""
    keeps_media_type: ClassVar[bool] = True
    awkward_names: ClassVar[tuple[str, ...]] = AWKWARD_NAMES
    foreign_urls: ClassVar[tuple[str, ...]] = (
        "file:///etc/passwd",
        "ftp://example.com/a",
        "gs://bucket/a",
        "data:text/plain,a",
        "a.png",
        "",
    )
    """URLs that the backend does not match."""

    # What is read

    @pytest.mark.parametrize("size", [0, 1, 1024 * 1024])
    def test_an_object_is_read_as_it_was_written(self, store: Store, size: int) -> None:
        store.write("sized.bin", content := os.urandom(size))
        with open_whole(store, "sized.bin") as download:
            assert download.offset == 0
            assert download.info.size == size
            assert read_all(download) == content
            assert download.readinto(memoryview(bytearray(10))) == 0

    def test_a_large_object_is_read_whole_in_buffers_of_any_size(self, store: Store) -> None:
        store.write("large.bin", content := os.urandom(LARGE_BYTES))
        with open_whole(store, "large.bin") as download:
            head = read_some(download, 1) + read_some(download, 7)
            rest = read_all(download)
        assert digest(head + rest) == digest(content)

    def test_what_the_origin_says_comes_with_the_bytes(self, store: Store) -> None:
        store.write("info.webp", b"not really", "image/webp")
        with open_whole(store, "info.webp") as download:
            info = download.info
        assert info.size == 10
        assert info.has_ranges is self.can_span
        assert info.version or not self.can_span
        assert info.media_type == "image/webp" or not self.keeps_media_type

    def test_head_says_the_same_without_the_bytes(self, store: Store) -> None:
        store.write("head.webp", b"not really", "image/webp")
        with open_whole(store, "head.webp") as download:
            assert head(store, "head.webp") == download.info

    def test_another_content_is_another_version(self, store: Store) -> None:
        store.write("versions.bin", b"one")
        first = head(store, "versions.bin").version
        time.sleep(0 if first and first.startswith('"') else 1.1)
        store.write("versions.bin", b"two")
        assert head(store, "versions.bin").version != first or first is None

    def test_a_download_may_be_left_before_its_end(self, store: Store) -> None:
        store.write("left.bin", os.urandom(LARGE_BYTES))
        with open_whole(store, "left.bin") as download:
            read_some(download, 10)
        assert head(store, "left.bin").size == LARGE_BYTES

    # Parts

    @pytest.mark.parametrize(
        ("start", "end"), [(0, None), (4, None), (4, 9), (15, 16), (0, 1), (3, 999)]
    )
    def test_a_span_gives_its_bytes_alone(self, store: Store, start: int, end: int | None) -> None:
        self._need(self.can_span)
        store.write("span.bin", content := bytes(range(16)))
        span = Span(start, end, head(store, "span.bin").version)
        with store.backend.open(store.url("span.bin"), store.auth, span, Cancel()) as download:
            assert download.offset == start
            assert read_all(download) == content[start:end]
            assert download.info.size == len(content)

    def test_a_span_says_the_same_of_the_object_as_the_whole(self, store: Store) -> None:
        self._need(self.can_span)
        store.write("same.webp", b"0123456789", "image/webp")
        with open_whole(store, "same.webp") as download:
            whole = download.info
        span = Span(3, 6, whole.version)
        with store.backend.open(store.url("same.webp"), store.auth, span, Cancel()) as download:
            assert download.info.version == whole.version
            assert (download.info.size, download.info.has_ranges) == (10, True)

    def test_a_span_of_a_version_that_is_gone_gives_all_of_the_new_one(self, store: Store) -> None:
        self._need(self.can_span)
        store.write("moved-on.bin", b"the old bytes")
        old = head(store, "moved-on.bin").version
        time.sleep(0 if old and old.startswith('"') else 1.1)
        store.write("moved-on.bin", b"those that are new")
        url, span = store.url("moved-on.bin"), Span(5, None, old)
        with store.backend.open(url, store.auth, span, Cancel()) as download:
            assert download.offset == 0
            assert read_all(download) == b"those that are new"
            assert download.info.version != old
            assert download.info.size == 18

    def test_a_span_works_in_a_large_object(self, store: Store) -> None:
        self._need(self.can_span)
        store.write("large-span.bin", content := os.urandom(LARGE_BYTES))
        span = Span(10_000_000, 19_000_001, head(store, "large-span.bin").version)
        url = store.url("large-span.bin")
        with store.backend.open(url, store.auth, span, Cancel()) as download:
            assert digest(read_all(download)) == digest(content[10_000_000:19_000_001])

    # What is written

    @pytest.mark.parametrize("size", [0, 1, 1024 * 1024])
    def test_bytes_arrive_as_they_are(self, store: Store, size: int) -> None:
        self._need(self.can_put)
        content = os.urandom(size)
        put(store, "put.bin", content)
        assert store.read("put.bin") == content

    @pytest.mark.parametrize("size", [0, 1000, LARGE_BYTES])
    def test_a_file_arrives_as_it_is(self, store: Store, tmp_path: Path, size: int) -> None:
        self._need(self.can_put)
        file = tmp_path / "file.bin"
        file.write_bytes(content := os.urandom(size))
        put(store, "put-file.bin", file)
        assert digest(store.read("put-file.bin")) == digest(content)

    def test_the_type_of_what_is_put_is_kept(self, store: Store, tmp_path: Path) -> None:
        self._need(self.can_put and self.keeps_media_type)
        file = tmp_path / "large.mp4"
        file.write_bytes(os.urandom(LARGE_BYTES))
        put(store, "typed.webp", b"not really", "image/webp")
        put(store, "typed.mp4", file, "video/mp4")
        assert head(store, "typed.webp").media_type == "image/webp"
        assert head(store, "typed.mp4").media_type == "video/mp4"

    def test_a_put_replaces_what_was_there(self, store: Store) -> None:
        self._need(self.can_put)
        put(store, "again.bin", b"a first one, longer")
        put(store, "again.bin", b"a second")
        assert store.read("again.bin") == b"a second"

    def test_names_of_any_kind_are_kept_apart(self, store: Store) -> None:
        for name in self.awkward_names:
            store.write(name, f"of {name}".encode())
        for name in self.awkward_names:
            with open_whole(store, name) as download:
                assert read_all(download).decode() == f"of {name}"

    def test_what_is_put_under_names_of_any_kind_has_these_names(self, store: Store) -> None:
        self._need(self.can_put)
        names = [f"put/{name}" for name in self.awkward_names]
        for name in names:
            put(store, name, f"put as {name}".encode())
        assert [store.read(name).decode() for name in names] == [f"put as {n}" for n in names]

    # What goes wrong

    def test_an_object_that_is_not_there_is_not_found(self, store: Store) -> None:
        with pytest.raises(ObjectNotFound) as caught:
            head(store, "no/such.bin")
        assert_clean(caught.value, store)
        with pytest.raises(ObjectNotFound) as caught, open_whole(store, "no/such.bin"):
            pass
        assert_clean(caught.value, store)

    def test_credentials_that_the_origin_refuses_are_access_denied(self, store: Store) -> None:
        store.write("denied.bin", b"not for everybody")
        for what, (backend, auth) in store.refused.items():
            for attempt in attempts(backend, auth, store.url("denied.bin"))[: 2 + self.can_put]:
                error = failure(attempt)
                assert isinstance(error, AccessDenied), what
                assert_clean(error, store)
        assert store.read("denied.bin") == b"not for everybody"

    def test_a_connection_that_breaks_is_a_failed_transfer(self, store: Store) -> None:
        self._need(self.can_move)
        store.write("cut.bin", os.urandom(LARGE_BYTES))
        with (
            relay(store.origin, down=1024 * 1024, then="cut") as between,
            pytest.raises(TransferFailed) as caught,
            open_whole(store.at(between.origin), "cut.bin") as download,
        ):
            read_all(download)
        assert_clean(caught.value, store)

    def test_an_upload_that_breaks_off_is_a_failed_transfer(
        self, store: Store, tmp_path: Path
    ) -> None:
        self._need(self.can_move and self.can_put)
        (file := tmp_path / "file.bin").write_bytes(os.urandom(LARGE_BYTES))
        with (
            relay(store.origin, up=1024 * 1024, then="cut") as between,
            pytest.raises(TransferFailed) as caught,
        ):
            put(store.at(between.origin), "cut-up.bin", file)
        assert_clean(caught.value, store)
        with pytest.raises(FileNotFoundError):
            store.read("cut-up.bin")

    def test_a_server_that_is_not_there_is_a_failed_transfer(self, store: Store) -> None:
        self._need(self.can_move)
        with relay(store.origin) as between:
            gone = store.at(between.origin)
        with pytest.raises(TransferFailed) as caught:
            head(gone, "any.bin")
        assert_clean(caught.value, store)
        with pytest.raises(TransferFailed), open_whole(gone, "any.bin"):
            pass

    # Cancelling

    def test_what_is_cancelled_before_it_begins_does_not_begin(self, store: Store) -> None:
        store.write("early.bin", b"1")
        cancel, url = Cancel(), store.url("early.bin")
        cancel.cancel()
        with pytest.raises(Cancelled):
            store.backend.head(url, store.auth, cancel)
        with pytest.raises(Cancelled):
            store.backend.open(url, store.auth, None, cancel).__enter__()
        if self.can_put:
            with pytest.raises(Cancelled):
                store.backend.put(url, Source(b"2", 1, OCTETS), store.auth, cancel)
            assert store.read("early.bin") == b"1"

    def test_opening_is_cancelled_while_the_server_says_nothing(self, store: Store) -> None:
        self._need(self.can_move)
        store.write("silent.bin", b"1")
        with relay(store.origin, down=0) as between, cancelling(between.at_limit) as cancel:
            moved = store.at(between.origin)
            with pytest.raises(Cancelled):
                moved.backend.open(moved.url("silent.bin"), moved.auth, None, cancel).__enter__()

    def test_head_is_cancelled_while_the_server_says_nothing(self, store: Store) -> None:
        self._need(self.can_move)
        store.write("silent.bin", b"1")
        with relay(store.origin, down=0) as between, cancelling(between.at_limit) as cancel:
            moved = store.at(between.origin)
            with pytest.raises(Cancelled):
                moved.backend.head(moved.url("silent.bin"), moved.auth, cancel)

    def test_reading_is_cancelled_while_no_more_comes(self, store: Store) -> None:
        self._need(self.can_move)
        store.write("stalls.bin", os.urandom(LARGE_BYTES))
        with relay(store.origin, down=1024 * 1024) as between:
            moved = store.at(between.origin)
            with cancelling(between.at_limit) as cancel, pytest.raises(Cancelled):
                read_through(moved, "stalls.bin", cancel)

    def test_reading_is_cancelled_between_two_reads(self, store: Store) -> None:
        store.write("between.bin", os.urandom(LARGE_BYTES))
        cancel = Cancel()
        url = store.url("between.bin")
        with store.backend.open(url, store.auth, None, cancel) as download:
            read_some(download, 10)
            cancel.cancel()
            with pytest.raises(Cancelled):
                read_all(download)

    def test_a_put_is_cancelled_while_the_server_takes_no_more(
        self, store: Store, tmp_path: Path
    ) -> None:
        self._need(self.can_move and self.can_put)
        (file := tmp_path / "file.bin").write_bytes(os.urandom(LARGE_BYTES))
        store.write("kept.bin", b"what was there")
        for name in ("kept.bin", "never.bin"):
            with relay(store.origin, up=1024 * 1024) as between:
                moved = store.at(between.origin)
                source = Source(file, LARGE_BYTES, OCTETS)
                with cancelling(between.at_limit) as cancel, pytest.raises(Cancelled):
                    moved.backend.put(moved.url(name), source, moved.auth, cancel)
        assert store.read("kept.bin") == b"what was there"
        with pytest.raises(FileNotFoundError):
            store.read("never.bin")

    # Everything else

    def test_many_threads_share_a_backend(self, store: Store) -> None:
        def round_trip(number: int) -> bool:
            name, content = f"thread-{number}.bin", os.urandom(200_000 + number)
            (put if self.can_put else write)(store, name, content)
            with open_whole(store, name) as download:
                return read_all(download) == content == store.read(name)

        with ThreadPoolExecutor(16) as threads:
            assert all(threads.map(round_trip, range(32)))

    def test_a_first_use_may_come_from_many_threads_at_once(self, store: Store) -> None:
        self._need(self.can_move)
        store.write("first.bin", b"1")
        with relay(store.origin) as between, ThreadPoolExecutor(8) as threads:
            fresh = store.at(between.origin)
            infos = list(threads.map(lambda _: head(fresh, "first.bin"), range(8)))
        assert {info.size for info in infos} == {1}

    def test_it_matches_its_own_urls_alone(self, store: Store) -> None:
        assert store.backend.matches(store.url("a.png"))
        assert [url for url in self.foreign_urls if store.backend.matches(url)] == []

    def test_no_log_line_holds_a_secret(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        store.write("logged.bin", b"1")
        caplog.clear()
        with caplog.at_level(logging.DEBUG):
            with open_whole(store, "logged.bin") as download:
                read_all(download)
            with pytest.raises(ObjectNotFound):
                head(store, "not/there.bin")
            if self.can_put:
                put(store, "logged.bin", b"2")
        lines = [caplog.handler.format(record) for record in caplog.records]
        assert [line for line in lines if any(secret in line for secret in store.secrets)] == []

    @staticmethod
    def _need(ability: bool) -> None:
        if not ability:
            pytest.skip("the backend cannot do this")


def open_whole(store: Store, name: str) -> Download:
    """Open an object with the store's backend."""
    return store.backend.open(store.url(name), store.auth, None, Cancel())


def read_through(store: Store, name: str, cancel: Cancel) -> bytes:
    """Open an object with the store's backend, and read it to its end."""
    with store.backend.open(store.url(name), store.auth, None, cancel) as download:
        return read_all(download)


def attempts(backend: Backend, auth: Auth | None, url: str) -> list[Callable[[], object]]:
    """Return three ways to get at an object: ask, read, write."""
    return [
        lambda: backend.head(url, auth, Cancel()),
        lambda: backend.open(url, auth, None, Cancel()).__enter__(),
        lambda: backend.put(url, Source(b"mine", 4, OCTETS), auth, Cancel()),
    ]


def failure(attempt: Callable[[], object]) -> StorageError | None:
    """Return what an attempt fails with."""
    try:
        attempt()
    except StorageError as error:
        return error
    return None


def head(store: Store, name: str) -> ObjectInfo:
    """Ask the store's backend for an object."""
    return store.backend.head(store.url(name), store.auth, Cancel())


def put(store: Store, name: str, body: bytes | Path, media_type: str = OCTETS) -> None:
    """Write an object with the store's backend."""
    size = len(body) if isinstance(body, bytes) else body.stat().st_size
    store.backend.put(store.url(name), Source(body, size, media_type), store.auth, Cancel())


def write(store: Store, name: str, content: bytes) -> None:
    """Write an object behind the backend's back."""
    store.write(name, content)


def read_all(download: Download) -> bytes:
    """Return what a download gives up to its end."""
    buffer, content = memoryview(bytearray(BUFFER_BYTES)), bytearray()
    while count := download.readinto(buffer):
        content += buffer[:count]
    return bytes(content)


def whole(backend: Backend, url: str, auth: Auth | None = None) -> bytes:
    """Return an object's bytes."""
    with backend.open(url, auth, None, Cancel()) as download:
        return read_all(download)


def read_some(download: Download, size: int) -> bytes:
    """Return what one read into a buffer of ``size`` bytes gives."""
    buffer = bytearray(size)
    return bytes(buffer[: download.readinto(memoryview(buffer))])


@contextmanager
def cancelling(moment: threading.Event) -> Iterator[Cancel]:
    """Give a ``Cancel`` that is cancelled at a moment; see that the block ended soon after it."""
    cancel, began = Cancel(), time.monotonic()

    def watch() -> None:
        moment.wait(BOUND_S)
        # What is under way at the limit gets the time to fill its buffers and to wait.
        time.sleep(0.1)
        cancel.cancel()

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield cancel
    watcher.join()
    assert moment.is_set(), "nothing was under way"
    assert time.monotonic() - began < BOUND_S


def assert_clean(error: StorageError, store: Store) -> None:
    """See that an error shows no secret, wherever it is printed, a traceback included."""
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.body())
    assert [secret for secret in store.secrets if secret in shown] == []


def digest(content: bytes) -> str:
    """Return a hash to compare large contents by: a failed test then prints little."""
    return hashlib.sha256(content).hexdigest()
