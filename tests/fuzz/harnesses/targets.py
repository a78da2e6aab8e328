"""What the fuzzers call: parsers of bytes, each with what it may raise and files to begin from.

A target takes any bytes. It returns, or raises what its parser's documentation names; all else,
what breaks an assertion included, is a defect.
"""

from __future__ import annotations

import asyncio
import io
import json
import struct
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request

from comfyui_stateless import inline, media, requests
from comfyui_stateless.api.forms import read_form
from comfyui_stateless.api.negotiation import accepted, require_servable
from comfyui_stateless.cache.bring import safetensors_size
from comfyui_stateless.errors import ManifestError, RequestError, StatelessError, UnsupportedURL
from comfyui_stateless.images import embedded, png
from comfyui_stateless.manifest.reading import read as read_manifest
from comfyui_stateless.media.mpeg import type_of_frames
from comfyui_stateless.storage import policy
from comfyui_stateless.storage.representation import (
    content_range,
    is_encoded,
    object_info,
    retry_after_s,
)
from comfyui_stateless.workflows.base import WorkflowFileError
from comfyui_stateless.workflows.declared import declarations
from comfyui_stateless.workflows.graph_file import parse_graph
from comfyui_stateless.workflows.yaml_file import read_yaml

HERE = Path("graph")
FORM_LIMIT = 64 * 1024
MOST_TEXT = 65 * 1024 * 1024
"""Bytes that the texts of one file may come to."""


@dataclass(frozen=True, slots=True)
class Target:
    """A parser to be fuzzed.

    Attributes:
        run: Calls it.
        seeds: Inputs that it takes, for a start.
    """

    run: Callable[[bytes], object]
    seeds: Sequence[bytes]


def signatures(data: bytes) -> None:
    """Media types of any bytes, and their names."""
    found = media.media_type("", data[: media.HEAD_BYTES])
    assert "/" in found
    assert media.extension(found) == "" or media.extension(found).startswith(".")
    media.is_html(data[: media.HEAD_BYTES], data[:40].decode("latin-1"))
    assert type_of_frames(data[: media.HEAD_BYTES]) in {
        None, "audio/mpeg", "audio/aac", "video/mpeg", "video/mp2t",
    }  # fmt: skip


def sizes(data: bytes) -> None:
    """Sizes of images from their headers."""
    size = media.image_size(data)
    assert size is None or min(size) > 0


def png_texts(data: bytes) -> None:
    """Text chunks of PNG files, and whether they move."""
    embedded.is_animated_png(io.BytesIO(data))
    texts = embedded.text_of_png(io.BytesIO(data))
    assert sum(len(keyword) + len(value) for keyword, value in texts) <= MOST_TEXT + len(data)


def exif_texts(data: bytes) -> None:
    """Texts in EXIF, and back again."""
    found = embedded.text_of_exif(data)
    plain = [(k, v) for k, v in found if v.isascii() and "\0" not in v]
    again = embedded.text_of_exif(embedded.exif_of_text(plain[:1], embedded.EXIF_LIMIT))
    assert again in ((), tuple(plain[:1]))


def safetensors(data: bytes) -> None:
    """How long a safetensors file says that it is."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        size = safetensors_size(Path(file.name), data[: media.HEAD_BYTES])
    assert size is None or size >= 8


def data_urls(data: bytes) -> None:
    """Data URLs and base64, decoded in pieces of any size to the same."""
    text = data.decode("utf-8", "replace")
    if inline.is_inline(text):
        assert _decoded(text, 4) == _decoded(text, inline.CHUNK_CHARACTERS)


def _decoded(text: str, chunk: int) -> object:
    try:
        return inline.decode(text, chunk=chunk)
    except StatelessError as error:
        return type(error)


def json_bodies(data: bytes) -> None:
    """Bodies of requests, to their models and back."""
    for parse in (requests.parse_prompt, requests.parse_download, requests.parse_interrupt):
        with suppress(RequestError):
            parsed = parse(data)
            if isinstance(parsed, requests.PromptRequest):
                json.dumps(parsed.echo(), allow_nan=False)


def forms(data: bytes) -> None:
    """Multipart forms: files stay in their folder, and come whole."""
    asyncio.run(_form(data))


async def _form(data: bytes) -> None:
    protocol = BaseProtocol(asyncio.get_running_loop())
    body = StreamReader(protocol, 2**16)
    for start in range(0, len(data), 7):
        body.feed_data(data[start : start + 7])
    body.feed_eof()
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    request = make_mocked_request("POST", "/prompt", headers=headers, payload=body)
    with tempfile.TemporaryDirectory() as folder:
        files = _made(folder)
        with suppress(RequestError):
            form = await read_form(request, FORM_LIMIT, lambda: files)
            assert sum(f.path.stat().st_size for f in form.files.values()) <= len(data)
        assert _names_in(folder) == {"files"}


def _made(folder: str) -> Path:
    files = Path(folder, "files")
    files.mkdir()
    return files


def _names_in(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def answers(data: bytes) -> None:
    """Headers of any origin's answers."""
    headers = HeaderParser().parsestr(data.decode("iso-8859-1"))  # as http.client does
    said = object_info(206 if b"Range" in data else 200, headers)
    assert said.filename is None or not set("/\\\0\r\n") & set(said.filename)
    assert said.size is None or said.size >= 0
    content_range(headers)
    is_encoded(headers)
    wait_s = retry_after_s(headers)
    assert wait_s is None or wait_s >= 0


def urls(data: bytes) -> None:
    """Addresses: what was read once is read again as the same."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(UnsupportedURL):
        target = policy.parse(text)
        assert policy.parse(target.url).url == target.url
        assert target.url.isascii()
        assert not set(" \r\n\0") & set(target.url)


def accepts(data: bytes) -> None:
    """Accept headers."""
    with suppress(StatelessError):
        wanted = accepted(data.decode("latin-1"))
        require_servable(wanted)
        assert isinstance(wanted.prefers_events, bool)


def manifests(data: bytes) -> None:
    """Manifests in YAML or JSON."""
    with suppress(ManifestError):
        read_manifest(data.decode("utf-8", "replace"), name="MANIFEST_JSON")


def workflow_files(data: bytes) -> None:
    """Graphs in JSON, and what YAML says of their inputs."""
    text = data.decode("utf-8", "replace")
    with suppress(WorkflowFileError):
        parse_graph(text, HERE)
    with suppress(WorkflowFileError):
        declarations(*_with_file(read_yaml(text, HERE)))


def _with_file(read: tuple[Any, Any]) -> tuple[Any, Path, Any]:
    return read[0], HERE, read[1]


def _png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [png.SIGNATURE]
    for name, content in ((b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)), *chunks):
        crc = struct.pack(">I", zlib.crc32(name + content))
        parts += [struct.pack(">I", len(content)), name, content, crc]
    return b"".join(parts)


def _form_of(*parts: bytes) -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


_GRAPH = b'{"1": {"class_type": "SaveImage", "inputs": {"a": ["2", 0]}, "_meta": {"title": "@a"}}}'
_PICTURE = _png((b"IDAT", zlib.compress(bytes(14))), (b"IEND", b""))
_TEXTS = _png(
    (b"tEXt", b"prompt\0{}"),
    (b"zTXt", b"workflow\0\0" + zlib.compress(b"{}" * 9)),
    (b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"text")),
    (b"comf", b"prompt\0{}"),
    (b"acTL", struct.pack(">II", 2, 0)),
    (b"IDAT", b""),
)
_EXIF = embedded.exif_of_text((("prompt", "{}"), ("workflow", "long" * 9)), embedded.EXIF_LIMIT)
_MPEG = b"\xff\xfb\x90\x00" + bytes(413) + b"\xff\xfb\x90\x00" + bytes(413)
_TENSORS = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
_YAML = (
    b"summary: s\ninputs:\n  seed: {node: 3, input: seed, type: seed}\n"
    b"  a:\n    to: [{node: '1', input: a}]\n    minimum: 1\n    enum: [1, 2]\n    default: 1e-3\n"
)
_MANIFEST = (
    b"apt: [git]\npip:\n  - numpy==1.26\ncustom_nodes:\n  - https://github.com/a/b/tree/main\n"
    b"models:\n  before_start:\n    - {url: 'https://example.com/a?b', local_path: models/a}\n"
)

TARGETS: Mapping[str, Target] = {
    "signatures": Target(
        signatures,
        (
            _PICTURE, _MPEG, b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", b"OggS\0" + bytes(23) + b"fishead\0",
            b"P6\n# a\n2 2\n255\n", b"PK\x03\x04" + bytes(26) + b"a.usdc", b"<?xml?><!--a--><svg>",
            b"BM" + bytes(8) + struct.pack("<II", 54, 40), b"\x1a\x45\xdf\xa3\x42\x82\x84webm",
            b"\0\0\1\xba\x44" + bytes(9), (b"G\0\0\x10" + bytes(184)) * 3,
        ),
    ),
    "sizes": Target(
        sizes,
        (
            _PICTURE, b"GIF89a\2\0\2\0" + bytes(9), b"\xff\xd8\xff\xe0\0\4ab\xff\xc0\0\x0b\x08\0\2\0\2\3",
            b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(10), b"RIFF\x1a\0\0\0WEBPVP8L" + bytes(14),
            b"II*\0\x08\0\0\0\2\0" + struct.pack("<HHIIHHII", 256, 3, 1, 2, 257, 3, 1, 2),
            b"II+\0\x08\0\0\0\x10" + bytes(60), b"qoif\0\0\0\2\0\0\0\2\3\0", b"8BPS\0\1" + bytes(40),
            b"#?RADIANCE\n\n-Y 2 +X 2\n", b"P6\n2 2\n255\n", b"DDS |\0\0\0" + bytes(120),
            b"icns\0\0\0\x40ic07" + bytes(60), b"BM" + bytes(8) + struct.pack("<IIII", 54, 40, 2, 2),
            b"\0\0\1\0\1\0" + bytes(30), b"\xff\x4f\xff\x51\0\x2f" + bytes(60),
        ),
    ),
    "png_texts": Target(png_texts, (_TEXTS, _PICTURE)),
    "exif_texts": Target(exif_texts, (_EXIF, embedded.EXIF_PREFIX + _EXIF, b"MM\0*" + bytes(16))),
    "safetensors": Target(
        safetensors, (struct.pack("<Q", len(_TENSORS)) + _TENSORS + bytes(4), b"\2" + bytes(7) + b"{}")
    ),
    "data_urls": Target(
        data_urls,
        (
            b"data:image/png;base64,iVBORw0KGgo=", b"data:image/svg+xml,%3Csvg%3E", b"iVBORw0KGgo",
            b"R0lGODlh\r\nAQABAAAAACw=", b" DATA:;base64,_-8=", b"data:model/obj,v%201",
        ),
    ),
    "json_bodies": Target(
        json_bodies,
        (
            b'{"prompt": ' + _GRAPH + b', "id": "a", "priority": 1, "timeout_s": 1.5}',
            b'{"prompt": ' + _GRAPH + b', "credentials": [{"url_pattern": "https://**", '
            b'"auth": {"type": "bearer", "token": "t"}}], "http_upload": {"url_prefix": "https://a.b/"}}',
            b'{"url": "https://a.b/c", "model_type": "loras", "wait": true}',
            b'{"prompt": ' + _GRAPH + b', "convert_output": {"format": "jpeg", "options": {"quality": 9}}}',
        ),
    ),
    "forms": Target(
        forms,
        (
            _form_of(
                b'Content-Disposition: form-data; name="request"\r\n\r\n{}',
                b"Content-Disposition: form-data; name=a; filename*=utf-8\'\'a%2Fb.png\r\n"
                b"Content-Type: image/png\r\n\r\n" + _PICTURE,
            ),
            _form_of(b"Content-Disposition: form-data; name=\"a\"\r\n\r\n"),
        ),
    ),
    "answers": Target(
        answers,
        (
            b"Content-Range: bytes 0-9/10\nETag: \"a\"\nAccept-Ranges: bytes\n\n",
            b"Content-Length: 10\nContent-Encoding: gzip\nContent-Type: image/png; a=b\n\n",
            b"Content-Disposition: attachment; filename=\"a\\\"b.png\"; filename*=utf-8''a%2F%C3%A9\n\n",
            b"Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\nDate: Wed, 21 Oct 2015 07:29:00 +0100\n"
            b"Retry-After: Wed, 21 Oct 2015 07:30:00 GMT\n\n",
            b"Digest: sha-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nRetry-After: 5\n\n",
        ),
    ),
    "urls": Target(
        urls,
        (
            b"https://user:pass@example.com:8443/a%20b?c=d#e", b"http://[::ffff:127.0.0.1]:80/",
            b"http://0x7f.1/", "https://bücher.example/ä?ö".encode(), b"http://a@b@c/", b"HTTP://A.B./",
        ),
    ),
    "accepts": Target(
        accepts, (b"image/*;q=0.5, application/json;q=.1, */*;q=0", b"text/event-stream", b"*, a/b;q=9")
    ),
    "manifests": Target(manifests, (_MANIFEST, b'{"pip": ["a"], "models": {"after_start": []}}')),
    "workflow_files": Target(workflow_files, (_GRAPH, _YAML)),
}  # fmt: skip
