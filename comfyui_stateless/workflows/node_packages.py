"""The npm packages that workflow files in JavaScript need: zod, and what reads TypeScript."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from ..config import inherited

HERE = Path(__file__).parent / "node"
LISTS = ("package.json", "package-lock.json")
LIMIT_S = 180
COMMAND = "comfyui-stateless workflow packages FOLDER"

_OPTIONS = (
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
    "--fetch-retries=1",
)


class PackagesMissing(Exception):
    """The packages are not there and cannot be had; the message says what to do."""


def home_in(cache_dir: Path) -> Path:
    """Return where the packages of this version are kept below the cache's folder."""
    lock = (HERE / "package-lock.json").read_bytes()
    return cache_dir / "node" / hashlib.sha256(lock).hexdigest()[:16]


def are_in(folder: Path) -> bool:
    """Say whether a folder holds the packages; it gets its name only once they are whole."""
    return (folder / "node_modules" / "zod" / "package.json").is_file()


async def install(folder: Path) -> None:
    """Put the pinned packages into ``folder``, which then appears at once and whole.

    Raises:
        PackagesMissing: There is no npm, or it failed.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise PackagesMissing(f"npm is not on PATH; where it is, run `{COMMAND}`")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = folder.with_name(f"{folder.name}.{uuid4().hex}")
    try:
        await asyncio.to_thread(_lists_into, made)
        await _run(npm, made)
        # Another process may have been quicker, and its packages are the same.
        with suppress(OSError):
            made.replace(folder)
    finally:
        await asyncio.to_thread(shutil.rmtree, made, ignore_errors=True)
    if not are_in(folder):
        raise PackagesMissing(f"{folder} is in the way and holds no packages")


def _lists_into(folder: Path) -> None:
    folder.mkdir()
    for name in LISTS:
        shutil.copyfile(HERE / name, folder / name)


async def _run(npm: str, folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        npm,
        "ci",
        *_OPTIONS,
        cwd=folder,
        env=inherited(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, complaint = await asyncio.wait_for(process.communicate(), LIMIT_S)
    except asyncio.TimeoutError:
        raise PackagesMissing(f"`npm ci` took longer than {LIMIT_S} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise PackagesMissing(_reason(complaint.decode(errors="replace")))


def _reason(complaint: str) -> str:
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("npm error") and "log of this" not in line]
    shown = " ".join(errors[:2] or lines[-1:]) or "it said nothing"
    return f"`npm ci` failed ({shown}); where the network is there, run `{COMMAND}`"
