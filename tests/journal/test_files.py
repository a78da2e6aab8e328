from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyui_stateless.errors import FolderFailed, StorageError
from comfyui_stateless.journal import NewJob
from comfyui_stateless.journal.files import INLINE_BYTES, Files
from comfyui_stateless.journal.journal import Journal

LARGE = b"x" * (INLINE_BYTES + 1)


def names(files: Files) -> list[str]:
    return [path.name for path in files.folder.iterdir()]


def test_a_content_is_safe_from_clean_ups_while_its_transaction_runs(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with files.staged({"": LARGE}) as outer, files.staged({"": LARGE}):
        digest = outer[""].digest
        assert digest is not None
        assert not files.remove(digest)
        assert names(files) == [digest]
    assert files.take_suspects() == set()
    assert files.remove(digest)
    assert names(files) == []


def test_what_a_failed_transaction_leaves_is_a_suspect_once(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with pytest.raises(LookupError), files.staged({"": LARGE}):
        raise LookupError
    assert files.take_suspects() == set(names(files))
    assert files.take_suspects() == set()


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    files = Files(tmp_path)

    def chunks() -> Iterator[bytes]:
        yield LARGE
        assert [name.endswith(".part") for name in names(files)] == [True]
        yield LARGE

    with files.staged({"": chunks()}) as stored:
        assert stored[""].size == 2 * len(LARGE)
        assert names(files) == [stored[""].digest]


def too_many(*_: object, **__: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def test_a_file_of_the_job_that_is_gone_is_no_failure_of_the_journal(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "state")
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.write_bytes(LARGE)
    files = {"there": there, "gone": gone}
    with pytest.raises(FolderFailed, match=r"^A file of the job cannot be read any more: No such"):
        await journal.accept(NewJob("run", "a", b"{}", files=files))
    await journal.accept(NewJob("run", "a", b"{}", files={"there": there}))
    with pytest.raises(FolderFailed):
        await journal.finish("run", {}, files={"gone": tmp_path / "never"})
    assert len(await journal.unfinished()) == 1
    assert len(list((journal.folder / "files").iterdir())) == 1
    await journal.close()


async def test_a_lack_of_descriptors_is_not_the_end_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await Journal.open(tmp_path / "state")
    (there := tmp_path / "there").write_bytes(LARGE)
    monkeypatch.setattr(Path, "open", too_many)
    with pytest.raises(StorageError) as caught:
        await journal.accept(NewJob("run", "a", b"{}", files={"there": there}))
    assert caught.value.code == "storage_error"
    await journal.close()
