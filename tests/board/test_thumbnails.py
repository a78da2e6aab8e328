from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfyui_stateless.board import thumbnails as module
from comfyui_stateless.board.thumbnails import Thumbnails, thumbnail
from comfyui_stateless.engine import OutputFile
from tests.fakes import eventually

Make = Callable[..., Thumbnails]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Thumbnails] = []

    def thumbnails(*, is_watched: bool = True) -> Thumbnails:
        made.append(Thumbnails(lambda: is_watched))
        return made[-1]

    yield thumbnails
    for each in made:
        each.close()


def encoded(mode: str, size: tuple[int, int], form: str = "PNG", **how: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, **how).save(file, form)
    return file.getvalue()


def output(
    body: bytes | Path, media_type: str = "image/png", size: tuple[int, int] = (400, 200)
) -> OutputFile:
    length = len(body) if isinstance(body, bytes) else body.stat().st_size
    kind = media_type.partition("/")[0]
    return OutputFile("2", "a", kind, media_type, body, length, *size)


PICTURE = encoded("RGB", (400, 200), color=(200, 30, 30))


@pytest.mark.parametrize(
    ("mode", "form"),
    [("RGB", "PNG"), ("RGBA", "PNG"), ("L", "PNG"), ("P", "PNG"), ("RGB", "JPEG"),
     ("RGB", "WEBP"), ("I;16", "PNG")],
)  # fmt: skip
def test_it_is_a_small_jpeg_with_the_picture_s_shape(mode: str, form: str) -> None:
    jpeg = thumbnail(io.BytesIO(encoded(mode, (1024, 512), form)))
    with Image.open(io.BytesIO(jpeg)) as image:
        assert (image.format, image.size) == ("JPEG", (128, 64))
    assert len(jpeg) < 8 * 1024


def test_gray_of_16_bits_keeps_its_brightness() -> None:
    jpeg = thumbnail(io.BytesIO(encoded("I;16", (256, 256), color=0x8000)))
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.convert("L").getpixel((5, 5)) == pytest.approx(128, abs=2)


def test_what_is_transparent_becomes_white() -> None:
    jpeg = thumbnail(io.BytesIO(encoded("RGBA", (10, 10), color=(0, 0, 0, 0))))
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.getpixel((5, 5)) == (255, 255, 255)
        assert image.size == (10, 10)


def test_noise_stays_small() -> None:
    noise = Image.effect_noise((1024, 1024), 100).convert("RGB")
    file = io.BytesIO()
    noise.save(file, "PNG")
    assert len(thumbnail(io.BytesIO(file.getvalue()))) < 16 * 1024


async def test_a_file_may_go_as_soon_as_it_was_taken(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PICTURE)
    thumbnails = make()
    thumbnails.take("run", [output(path)])
    path.unlink()
    await eventually(lambda: thumbnails.get("run") is not None)


@pytest.mark.parametrize(
    "first",
    [
        output(b"RIFF", "audio/wav"),
        output(b"no picture"),
        output(PICTURE, size=(100_000, 100_000)),
        output(b"", size=(1, 1)),
    ],
    ids=["a sound", "damaged", "too large", "empty"],
)
async def test_what_is_no_small_picture_has_none_and_harms_nothing(
    make: Make, first: OutputFile
) -> None:
    thumbnails = make()
    thumbnails.take("bad", [first])
    thumbnails.take("none", [])
    thumbnails.take("good", [output(PICTURE)])
    await eventually(lambda: thumbnails.get("good") is not None)
    assert thumbnails.get("bad") is None
    assert thumbnails.get("none") is None


async def test_those_that_are_forgotten_go_also_while_they_are_made(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_go_on = threading.Event(), threading.Event()

    def slow(source: Any) -> bytes:
        begun.set()
        assert may_go_on.wait(10)
        return b"jpeg"

    monkeypatch.setattr(module, "thumbnail", slow)
    thumbnails = make()
    thumbnails.take("a", [output(PICTURE)])
    assert begun.wait(5)
    thumbnails.forget("a")
    may_go_on.set()
    thumbnails.take("b", [output(PICTURE)])
    await eventually(lambda: thumbnails.get("b") is not None)
    assert thumbnails.get("a") is None
    thumbnails.forget("b")
    assert thumbnails.get("b") is None


async def test_only_few_wait(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on = threading.Event()
    made: list[bytes] = []

    def slow(source: Any) -> bytes:
        assert may_go_on.wait(10)
        made.append(b"jpeg")
        return b"jpeg"

    monkeypatch.setattr(module, "thumbnail", slow)
    thumbnails = make()
    for run in range(100):
        thumbnails.take(str(run), [output(PICTURE)])
    may_go_on.set()
    thumbnails.close()
    assert len(made) == module.MAX_WAITING


async def test_while_nobody_watches_they_are_made_now_and_then(make: Make) -> None:
    thumbnails = make(is_watched=False)
    for run in ("a", "b"):
        thumbnails.take(run, [output(PICTURE)])
    await eventually(lambda: thumbnails.get("a") is not None)
    thumbnails.close()
    assert thumbnails.get("b") is None
