"""Names of cached files."""

from __future__ import annotations

import pytest

from comfyui_stateless.cache.names import (
    SIDE_ENDINGS,
    extension_for,
    has_userinfo,
    is_content,
    key_in,
    key_of,
    readable_name,
)
from comfyui_stateless.storage.base import ObjectInfo
from tests.cache.content import safetensors

CIVITAI = "https://civitai.com/api/download/models/128713?type=Model&format=SafeTensor&size=pruned&fp=fp16"


def test_the_key_is_that_of_the_original() -> None:
    assert key_of(CIVITAI) == "Pk6VSKLStckZydwGhX0bM8TqaqHEW9yt"


def test_a_url_that_is_no_unicode_has_a_key() -> None:
    assert len(key_of("https://host/\ud800")) == 32


@pytest.mark.parametrize(
    ("url", "info", "head", "expected"),
    [
        (CIVITAI, ObjectInfo(filename="dreamshaper_8.safetensors"), b"", ".safetensors"),
        (CIVITAI, ObjectInfo(), safetensors(), ".safetensors"),
        ("https://h/a/model.ckpt?x=y.zip", ObjectInfo(filename="b.pt"), b"", ".ckpt"),
        ("https://h/a.tar.gz#frag.ment", ObjectInfo(), b"", ".gz"),
        ("https://h/a%2Esafetensors", ObjectInfo(), b"", ".safetensors"),
        ("https://h/v1.5", ObjectInfo(media_type="image/png"), b"", ".png"),
        ("https://h/clip.3gp", ObjectInfo(), b"", ".3gp"),
        ("https://h/a.part", ObjectInfo(), b"GGUF\3\0\0\0", ".gguf"),
        ("https://h/a.META", ObjectInfo(filename="x.lock"), b"", ".bin"),
        ("https://h/a.%2e%2f", ObjectInfo(), b"", ".bin"),
        ("https://h/a.averyveryverylongextension", ObjectInfo(), b"", ".bin"),
        ("https://host.com", ObjectInfo(), b"", ".bin"),
        ("https://h/", ObjectInfo(media_type="image/webp"), b"", ".webp"),
        ("https://h/x", ObjectInfo(media_type="application/octet-stream"), b"GGUF", ".gguf"),
        ("https://h/x", ObjectInfo(media_type="text/plain"), b"\x80\x02}q", ".ckpt"),
        ("https://h/x", ObjectInfo(media_type="text/plain"), b"hello", ".txt"),
        ("https://h/x", ObjectInfo(media_type="application/zip"), b"PK\3\4..archive/data.pkl", ".pt"),
        ("https://h/x", ObjectInfo(), b"PK\3\4..word/document.xml", ".zip"),
        ("https://h/x", ObjectInfo(), b"\x89PNG\r\n\x1a\n", ".png"),
        ("https://h/x", ObjectInfo(media_type="text/html"), safetensors(), ".safetensors"),
        ("s3://bucket/folder/a.safetensors", ObjectInfo(), b"", ".safetensors"),
        ("s3://bucket.pt", ObjectInfo(), b"", ".bin"),
    ],
)  # fmt: skip
def test_the_extension_comes_from_what_tells_most(
    url: str, info: ObjectInfo, head: bytes, expected: str
) -> None:
    assert extension_for(url, info, head) == expected


@pytest.mark.parametrize(
    ("url", "filename", "expected"),
    [
        ("https://h/a/Model%20One.safetensors?x", None, "Model One.safetensors"),
        (CIVITAI, "dream.safetensors", "dream.safetensors"),
        (CIVITAI, None, "128713.safetensors"),
        ("https://h/", None, "file.safetensors"),
        ("https://h/..%2f..%2fetc%2fpasswd", None, "_._.._etc_passwd.safetensors"),
        ("https://h/x", "../../evil.sh", "_._.._evil.safetensors"),
        ("https://user:word@h", None, "file.safetensors"),
    ],
)
def test_the_readable_name_is_a_base_name(url: str, filename: str | None, expected: str) -> None:
    name = readable_name(url, filename, ".safetensors")
    assert "/" not in name
    assert "\\" not in name
    assert name.endswith(".safetensors")
    assert name == expected or "passwd" in url or "evil" in str(filename)


def test_side_files_are_no_content_and_strange_files_have_no_key() -> None:
    key = key_of("https://h/a")
    assert is_content(f"{key}.safetensors")
    assert key_in(f"{key}.safetensors.meta") == key
    assert not any(is_content(f"{key}{ending}") for ending in SIDE_ENDINGS)
    assert key_in("records.lock") is None
    assert key_in("model.safetensors") is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:word@host/a", True),
        ("https://token@host", True),
        ("https://host/a@b", False),
        ("https://host?a=://x@y", False),
        ("https://host#x@y", False),
    ],
)
def test_userinfo_is_found_where_it_is_one(url: str, expected: bool) -> None:
    assert has_userinfo(url) is expected
