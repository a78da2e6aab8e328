"""Files of jobs in ComfyUI's input folder, files that are there, and what runs put off.

The modules run in this process, on ComfyUI's own ``folder_paths`` and folders of the test.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.engine import FileForm, InputFile
from tests.fakes import eventually

ABANDONED = "stateless-{host}-999999999-0badcafe-0000.png"


def given(base: Path, content: bytes = b"picture", extension: str = ".png") -> InputFile:
    digest = hashlib.sha256(content).hexdigest()
    path = base / f"source-{digest[:6]}"
    if not path.exists():
        path.write_bytes(content)
    return InputFile(path, digest, extension)


def lying(base: Path) -> list[str]:
    """Return what is in the input folder, which may change meanwhile."""
    found = [Path(place, n) for place, d, f in os.walk(base / "input") for n in (*d, *f)]
    return sorted(path.relative_to(base / "input").as_posix() for path in found)


def is_there(path: Path) -> bool:
    return path.exists()


def content(path: str) -> bytes:
    return Path(path).read_bytes()


def delete(path: Path) -> None:
    path.unlink()


class SlowLinks:
    """Has every hard link wait until it may be made.

    Attributes:
        made: How many were.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = threading.Event()
        self.made = 0
        self._link = os.link
        monkeypatch.setattr(os, "link", self)

    def __call__(self, source: Path, target: Path) -> None:
        self.go_on.wait(10)
        self._link(source, target)
        self.made += 1


# Input files


async def test_a_file_lies_in_the_input_folder_while_a_job_uses_it(base: Path, host: Any) -> None:
    inputs, folders = host.inputs.InputFiles(), host.files.Folders()
    async with folders.workspace("a") as workspace:
        value = await inputs.add([given(base)], FileForm.NAME, workspace)
        path = base / "input" / value
        assert value.endswith(f"-{given(base).digest[:32]}.png")
        assert path.read_bytes() == b"picture"
        assert not path.is_symlink()
        assert path.samefile(given(base).path)
    assert lying(base) == []
    assert given(base).path.read_bytes() == b"picture"


async def test_the_same_content_has_one_name_and_stays_until_the_last_job_ends(
    base: Path, host: Any
) -> None:
    inputs, folders = host.inputs.InputFiles(), host.files.Folders()
    async with folders.workspace("a") as first:
        one = await inputs.add([given(base)], FileForm.NAME, first)
        async with folders.workspace("b") as second:
            assert await inputs.add([given(base)], FileForm.NAME, second) == one
            assert await inputs.add([given(base)], FileForm.NAME, second) == one
            async with folders.workspace("c") as third:
                other = await inputs.add([given(base, b"other")], FileForm.NAME, third)
                assert lying(base) == sorted([one, other])
            assert lying(base) == [one]
        assert lying(base) == [one]
    assert lying(base) == []
    async with folders.workspace("d") as again:
        assert await inputs.add([given(base)], FileForm.NAME, again) == one


async def test_many_jobs_that_come_and_go_never_miss_their_file(base: Path, host: Any) -> None:
    inputs, folders = host.inputs.InputFiles(), host.files.Folders()

    async def job(number: int) -> None:
        form = FileForm.FOLDER_PATH if number % 2 else FileForm.PATH
        async with folders.workspace(str(number)) as workspace:
            path = Path(await inputs.add([given(base)], form, workspace))
            for _ in range(number % 3):
                assert is_there(path)
                await asyncio.sleep(0.001)
            assert is_there(path)

    for start in range(0, 200, 20):
        await asyncio.gather(*(job(number) for number in range(start, start + 20)))
    assert lying(base) == []


@pytest.mark.parametrize("form", [FileForm.NAME, FileForm.FOLDER])
async def test_a_file_of_a_cancelled_job_goes_when_it_is_complete(
    base: Path, host: Any, monkeypatch: pytest.MonkeyPatch, form: FileForm
) -> None:
    inputs, folders = host.inputs.InputFiles(), host.files.Folders()
    links = SlowLinks(monkeypatch)

    async def job() -> None:
        async with folders.workspace("a") as workspace:
            await inputs.add([given(base)], form, workspace)

    cancelled, kept = asyncio.create_task(job()), asyncio.create_task(job())
    await asyncio.sleep(0.05)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    links.go_on.set()
    await kept
    assert lying(base) == []

    links.go_on.clear()
    alone = asyncio.create_task(job())
    await asyncio.sleep(0.05)
    alone.cancel()
    await asyncio.gather(alone, return_exceptions=True)
    assert links.made == 1
    links.go_on.set()
    await eventually(lambda: links.made == 2)
    await eventually(lambda: lying(base) == [])


async def test_a_job_does_not_fail_when_another_with_the_same_content_goes(
    base: Path, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, folders = host.inputs.InputFiles(), host.files.Folders()
    links = SlowLinks(monkeypatch)

    async def job(name: str) -> bytes:
        async with folders.workspace(name) as workspace:
            source = workspace.folder() / "inline"
            source.write_bytes(b"inline")
            file = InputFile(source, "ab" * 32, ".png")
            return content(await inputs.add([file], FileForm.PATH, workspace))

    first = asyncio.create_task(job("a"))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(job("b"))
    await asyncio.sleep(0.05)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    links.go_on.set()
    assert await second == b"inline"
    assert lying(base) == []


async def test_a_file_that_cannot_be_put_there_fails_its_job_and_not_the_next(
    base: Path, host: Any
) -> None:
    inputs, folders = host.inputs.InputFiles(), host.files.Folders()
    file = given(base)
    file.path.unlink()
    async with folders.workspace("a") as first:
        with pytest.raises(FileNotFoundError):
            await inputs.add([file], FileForm.NAME, first)
        given(base)
        async with folders.workspace("b") as second:
            await inputs.add([file], FileForm.NAME, second)
        assert len(lying(base)) == 1
    assert lying(base) == []


async def test_a_file_that_somebody_deleted_is_put_there_again(base: Path, host: Any) -> None:
    inputs, folders = host.inputs.InputFiles(), host.files.Folders()
    async with folders.workspace("a") as first, folders.workspace("b") as second:
        path = Path(await inputs.add([given(base)], FileForm.PATH, first))
        delete(path)
        assert await inputs.add([given(base)], FileForm.PATH, second) == str(path)
        assert is_there(path)
    assert lying(base) == []


async def test_copies_and_the_runs_own_files_have_a_time_that_never_changes(
    base: Path, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, folders = host.inputs.InputFiles(), host.files.Folders()
    os.utime(given(base).path, (1e9, 1e9))

    async def time_of(workspace: Any, file: InputFile) -> float:
        path = base / "input" / str(await inputs.add([file], FileForm.NAME, workspace))
        return path.stat().st_mtime

    async with folders.workspace("a") as workspace:
        assert await time_of(workspace, given(base)) == 1e9
        own = workspace.folder() / "inline"
        own.write_bytes(b"inline")
        assert await time_of(workspace, InputFile(own, "ab" * 32, ".png")) == 946684800
        assert lying(base)

        def refused(*_: object) -> None:
            raise OSError("another file system")

        monkeypatch.setattr(os, "link", refused)
        assert await time_of(workspace, given(base, b"far")) == 946684800
        assert given(base, b"far").path.stat().st_mtime > 1e9
    assert lying(base) == []


@pytest.mark.parametrize("form", [FileForm.FOLDER, FileForm.FOLDER_PATH])
async def test_a_folder_has_its_files_in_order(base: Path, host: Any, form: FileForm) -> None:
    inputs, folders = host.inputs.InputFiles(), host.files.Folders()
    files = [given(base, b"z"), given(base, b"a", ".jpg"), given(base, b"z")]
    async with folders.workspace("a") as first, folders.workspace("b") as second:
        value = await inputs.add(files, form, first)
        path = base / "input" / value
        assert Path(value).is_absolute() == (form is FileForm.FOLDER_PATH)
        names = sorted(entry.name for entry in path.iterdir())
        assert names == ["00001.png", "00002.jpg", "00003.png"]
        assert [(path / name).read_bytes() for name in names] == [b"z", b"a", b"z"]
        assert await inputs.add(list(files), form, second) == value
        assert await inputs.add(files[:2], form, second) != value
        others = [InputFile(file.path, file.digest, ".webp") for file in files]
        assert await inputs.add(others, form, second) != value
        assert await inputs.add([files[1], files[0], files[2]], form, second) != value
    assert lying(base) == []


async def test_a_3d_model_lies_where_comfyui_lists_them(base: Path, host: Any) -> None:
    inputs, folders = host.inputs.InputFiles(), host.files.Folders()
    async with folders.workspace("a") as workspace:
        value = await inputs.add([given(base, extension=".glb")], FileForm.NAME, workspace)
        assert value.startswith("3d/stateless-")
        assert (base / "input" / value).exists()
    assert lying(base) == ["3d"]


@pytest.mark.parametrize("extension", ["/../x", ".p/g", "..", ".", ".PNG", "." + "a" * 40])
async def test_an_extension_that_is_none_is_left_out(base: Path, host: Any, extension: str) -> None:
    inputs, folders = host.inputs.InputFiles(), host.files.Folders()
    async with folders.workspace("a") as workspace:
        value = await inputs.add([given(base, extension=extension)], FileForm.NAME, workspace)
        assert value.endswith(given(base).digest[:32])


@pytest.mark.parametrize("form", [FileForm.NAME, FileForm.FOLDER])
async def test_what_went_with_the_input_folder_is_deleted_when_that_is_back(
    base: Path, host: Any, monkeypatch: pytest.MonkeyPatch, form: FileForm
) -> None:
    monkeypatch.setattr(host.inputs, "AGAIN_S", 0.05)
    inputs, folders = host.inputs.InputFiles(), host.files.Folders()
    async with folders.workspace("a") as workspace:
        await inputs.add([given(base)], form, workspace)
        (base / "input").rename(base / "elsewhere")
    await asyncio.sleep(0.1)
    (base / "elsewhere").rename(base / "input")
    assert lying(base)
    await eventually(lambda: lying(base) == [])


async def test_a_runs_folder_that_went_with_the_output_folder_is_deleted_when_that_is_back(
    base: Path, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host.leftovers, "AGAIN_S", 0.05)
    folders = host.files.Folders(host.leftovers.Leftovers().take)
    async with folders.workspace("a") as workspace:
        path = workspace.make(base / "output", "below")
        (base / "output").rename(base / "elsewhere")
    await asyncio.sleep(0.1)
    (base / "elsewhere").rename(base / "output")
    assert is_there(path)
    await eventually(lambda: not is_there(path.parent))


@pytest.mark.parametrize("module", ["inputs", "leftovers"])
async def test_what_stays_away_is_looked_for_no_longer(
    base: Path, host: Any, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setattr(getattr(host, module), "AGAIN_S", 0.01)
    monkeypatch.setattr(getattr(host, module), "MOST_AGAIN_S", 0.02)
    inputs, folders = host.inputs.InputFiles(), host.files.Folders(host.leftovers.Leftovers().take)
    async with folders.workspace("a") as workspace:
        await inputs.add([given(base)], FileForm.NAME, workspace)
        workspace.folder()
        for kind in ("input", "output"):
            (base / kind).rename(base / f"{kind}-elsewhere")
    await asyncio.sleep(0.2)
    away = "input" if module == "inputs" else "output"
    (base / f"{away}-elsewhere").rename(base / away)
    await asyncio.sleep(0.2)
    assert list((base / away).iterdir())


async def test_what_dead_processes_left_is_swept(base: Path, host: Any) -> None:
    inputs, folders = host.inputs.InputFiles(), host.files.Folders()
    async with folders.workspace("a") as workspace:
        live = await inputs.add([given(base)], FileForm.NAME, workspace)
        host_mark = live.split("-")[1]
        dead = ABANDONED.format(host=host_mark)
        others = ABANDONED.format(host="00000000")
        plain = ["picture.png", "stateless-a-1-b-c.png", "stateless-my-own-file-x.png"]
        for name in (dead, others, f"3d/{dead}", *plain):
            (base / "input" / name).parent.mkdir(exist_ok=True)
            (base / "input" / name).touch()
        os.utime(base / "input" / others, (1, 1))  # the time of what it was linked from
        (base / "input" / f"{dead}-folder").mkdir()
        host.files.sweep(host.claims.Claims())
        assert lying(base) == sorted(["3d", live, others, *plain])


async def test_what_a_dead_process_left_below_a_packs_folders_is_swept(
    host: Any, base: Path
) -> None:
    async with host.files.Folders().workspace("a") as workspace:
        live = workspace.folder()
        dead = base / "output" / "2026" / "11" / ABANDONED.format(host=live.name.split("-")[1])
        (dead / "0").mkdir(parents=True)
        (dead.parent / "theirs.png").touch()
        link = base / "output" / "away"
        link.symlink_to(base / "other", target_is_directory=True)
        behind = base / "other" / dead.name
        behind.mkdir(parents=True)
        host.files.sweep(host.claims.Claims())
        assert [path.name for path in dead.parent.iterdir()] == ["theirs.png"]
        assert live.is_dir()
        assert behind.is_dir()


@pytest.mark.parametrize("folder", ["input", "output", "temp"])
def test_what_a_container_left_is_swept_once_no_other_uses_the_folder(
    host: Any, base: Path, folder: str
) -> None:
    """Containers may have one name, and each has processes of the same numbers."""
    mine = host.files.marked("x").split("-")
    left = base / folder / "-".join([*mine[:2], "999999999", "feed" + mine[3][4:], "0000.png"])
    same = left.with_name(left.name.replace("999999999", mine[2]))
    for path in (left, same):
        path.touch()
    claims, others = host.claims.Claims(), host.claims.Claims()
    others.hold([base / folder])
    claims.hold(host.files.places())
    host.files.sweep(claims)
    assert left.exists()
    assert same.exists()
    for descriptor in others._descriptors.values():
        os.close(descriptor)
    host.files.sweep(claims)
    assert list((base / folder).iterdir()) == []


# Whether another process uses a folder


def test_who_asks_and_is_not_alone_is_still_seen(host: Any, base: Path) -> None:
    """A lock that cannot be had alone is lost: it has to be taken again."""
    first, second = host.claims.Claims(), host.claims.Claims()
    for claims in (first, second):
        claims.hold([base / "output"])
    for _ in range(3):
        assert not first.is_alone(base / "output")
        assert not second.is_alone(base / "output")


def test_who_is_alone_is_seen_by_those_who_come(host: Any, base: Path) -> None:
    first, second = host.claims.Claims(), host.claims.Claims()
    assert first.is_alone(base / "output")
    second.hold([base / "output"])
    assert not first.is_alone(base / "output")


def test_none_of_many_who_ask_at_once_is_alone(host: Any, base: Path) -> None:
    everybody = [host.claims.Claims() for _ in range(4)]
    for claims in everybody:
        claims.hold([base / "output"])
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(each.is_alone, base / "output") for each in everybody * 10]
        assert not any(each.result() for each in asked)


def test_a_claim_is_of_the_folder_that_is_there(host: Any, base: Path) -> None:
    claims, others = host.claims.Claims(), host.claims.Claims()
    for each in (claims, others):
        each.hold([base / "output"])
    (base / "output").rename(base / "away")
    (base / "output").mkdir()
    assert claims.is_alone(base / "output")
    others.hold([base / "output"])
    assert not claims.is_alone(base / "output")
    assert not claims.is_alone(base / "nowhere")


# Files that are there


@pytest.fixture
def there(base: Path) -> Path:
    """Some files in and outside of ComfyUI's folders."""
    for name in ("input/a.png", "input/sub/b.png", "output/c.png", "temp/d.png", "secret.png"):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).touch()
    (base / "input" / "link.png").symlink_to(base / "secret.png")
    (base / "input" / "near.png").symlink_to(base / "input" / "a.png")
    return base


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.png", "input/a.png"),
        ("sub/b.png", "input/sub/b.png"),
        ("sub", "input/sub"),
        ("a.png [input]", "input/a.png"),
        ("c.png [output]", "output/c.png"),
        ("d.png [temp]", "temp/d.png"),
        ("near.png", "input/a.png"),
        ("{base}/input/a.png", "input/a.png"),
        ("{base}/output/c.png", "output/c.png"),
        ("{base}/temp/../output/c.png", "output/c.png"),
        ("c.png", None),
        ("../output/c.png", None),
        ("../secret.png", None),
        ("sub/../../secret.png [input]", None),
        ("../input/a.png [output]", None),
        ("link.png", None),
        ("{base}/secret.png", None),
        ("{base}/input/link.png", None),
        ("/etc/hostname", None),
        ("{base}", None),
        ("", None),
        ("  ", None),
        ("a\0.png", None),
        ("x" * 300, None),
        ("x" * 3_000_000, None),
        ("https://example.com/a.png", None),
    ],
)
def test_a_text_names_a_file_only_inside_comfyuis_folders(
    there: Path, host: Any, text: str, expected: str | None
) -> None:
    found = host.inputs.find_file(text.replace("{base}", str(there)))
    assert found == (None if expected is None else there / expected)


def test_a_path_may_count_from_the_working_directory(
    there: Path, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(there)
    assert host.inputs.find_file("input/a.png") == there / "input" / "a.png"
    assert host.inputs.find_file("secret.png") is None
    assert host.inputs.find_file("input/a.png [output]") is None


# Releases


async def test_what_was_put_off_is_done_once_when_the_run_is_over(
    base: Path, host: Any, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []

    def fails() -> None:
        done.append("failing")
        raise ValueError("on purpose")

    async def job() -> Any:
        async with host.files.Folders().workspace("a") as workspace:
            workspace.defer(lambda: done.append("first"))
            workspace.defer(fails)
            workspace.defer(lambda: done.append("last"))
            raise KeyError(workspace)

    with caplog.at_level(logging.ERROR), pytest.raises(KeyError) as failed:
        await job()
    (workspace,) = failed.value.args
    assert done == ["first", "failing", "last"]
    assert "on purpose" in caplog.text
    workspace.defer(lambda: done.append("late"))
    assert done[3:] == ["late"]


@pytest.mark.parametrize("with_folder", [False, True])
async def test_what_was_put_off_waits_for_comfyui(
    base: Path, host: Any, *, with_folder: bool
) -> None:
    done: list[bool] = []
    async with AsyncExitStack() as stack:
        workspace = await stack.enter_async_context(host.files.Folders().workspace("a"))
        if with_folder:
            workspace.folder()
        workspace.defer(lambda: done.append(True))
        workspace.busy()
    await asyncio.sleep(0.02)
    assert not done
    workspace.idle()
    await eventually(lambda: bool(done))
    await asyncio.sleep(0.02)
    assert done == [True]
