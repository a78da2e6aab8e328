"""The fuzzer's targets, on damaged seeds, and on inputs that once broke them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.harnesses.targets import TARGETS, Target

BROKE = [
    ("accepts", b"text/event-stream;q=0, text/event-stream"),
    ("answers", b"Content-Disposition: a; filename*=\x01\0\0''a%2F\n\n"),
    ("answers", b"Content-Range: bytes 0-9/" + b"9" * 5000 + b"\n\n"),
    ("answers", b"Content-Length: " + b"9" * 5000 + b"\n\n"),
    ("answers", b"Date: Wed, 21 Oct 2015 07:29:00 GMT\nRetry-After: Wed, 21 Oct 99999999999999999999 07:29:00 GMT\n\n"),
    ("answers", b"Date: Wed, 21 Oct 2015 07:29:00 GMT\nRetry-After: Wed, 21 Oct 2015 07:29:00 +99999999999999\n\n"),
    ("forms", b"--b\r\nContent-Disposition: form-data; name=a; filename*=utf-\0''a\r\n\r\nx\r\n--b--\r\n"),
    ("forms", b"--b\r\nContent-Disposition: form-data; name*=utf-\0''a\r\n\r\nx\r\n--b--\r\n"),
    ("manifests", b'{"pip": [' + b"9" * 5000 + b"]}"),
    ("manifests", b"pip: [" + b"9" * 5000 + b"]"),
    ("png_texts", TARGETS["png_texts"].seeds[0][:33] + b"\0\0\0\x02zTXt\0\0"),
    ("safetensors", struct.pack("<Q", 27) + b'{"a": {"data_offsets": []}}'),
    ("safetensors", struct.pack("<Q", 37) + b'{"a": {"data_offsets": [0, Infinity]}}'),
    ("safetensors", struct.pack("<Q", 5 + 9000) + b'{"a":' + b"[" * 9000),
    ("urls", b"https://example.com/\xed\xa0\x80"),
    ("workflow_files", b"a: \x1f"),
    ("workflow_files", b"!!int ''"),
    ("workflow_files", b"!!float ''"),
    ("workflow_files", b"!!bool x"),
    ("workflow_files", b"!!timestamp x"),
    ("workflow_files", b"&a [*a]"),
    ("workflow_files", b"[" * 20_000),
    ("json_bodies", b'{"prompt":' + b"[" * 20_000),
    ("json_bodies", b'{"priority": ' + b"9" * 5000 + b"}"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data"), BROKE)
def test_what_once_broke_a_parser_does_so_no_more(name: str, data: bytes) -> None:
    TARGETS[name].run(data)


# Pillow warns of images that make no sense.
@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(target: Target, data: st.DataObject) -> None:
    target.run(data.draw(_damaged(target)))


@st.composite
def _damaged(draw: st.DrawFn, target: Target) -> bytes:
    """Return a seed of which pieces are missing, twice there, or replaced by others."""
    content = bytearray(draw(st.sampled_from(target.seeds)))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 16)))
        piece = draw(st.one_of(st.binary(max_size=8), st.just(bytes(content[start:end]) * 2)))
        content[start:end] = piece
    return bytes(content)
