from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyui_stateless.journal.files import INLINE_BYTES, Files

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
