"""Step 3, by URL: cloned whole or not at all, at the wanted ref, with what each needs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from comfyui_stateless.cache.locks import try_lock
from comfyui_stateless.errors import InstallationFailed
from comfyui_stateless.manifest import plan
from comfyui_stateless.manifest.commands import Command, run
from comfyui_stateless.manifest.nodes import LOCK
from tests.cache.watching import until
from tests.git_server import GitServer, Repository, git
from tests.manifest.installing import NAME, Programs, Site, manifest_of, wheel
from tests.manifest.watching import processes_in

PASSWORD = "hush-hush"

INSTALL_PY = b"open('ran', 'a').write('x')\nprint('setting up')\n"


@pytest.fixture
def repository(server: GitServer) -> Repository:
    """A repository with a branch, a tag, and a newer main."""
    repository = server.make("me/pack.git")
    first = repository.commit({"nodes.py": b"first"})
    repository.tag("v1", "main")
    second = repository.commit({"nodes.py": b"second"}, parent=first)
    repository.commit({"nodes.py": b"side"}, "refs/heads/feat/x", parent=second)
    return repository


def listing(*entries: str) -> str:
    return "custom_nodes:\n" + "".join(f"- {entry}\n" for entry in entries)


def names(site: Site) -> list[str]:
    return sorted(path.name for path in site.custom_nodes.iterdir())


def code(site: Site, name: str = "pack") -> str:
    return (site.custom_nodes / name / "nodes.py").read_text()


@pytest.mark.parametrize(
    ("suffix", "content", "branch"),
    [
        ("", "second", "main"),
        (".git", "second", "main"),
        ("@v1", "first", None),
        ("@feat/x", "side", "feat/x"),
        ("/tree/feat/x", "side", "feat/x"),
        ("/-/tree/v1", "first", None),
        ("/releases/tag/v1", "first", None),
        ("/src/feat/x", "side", "feat/x"),
        ("@{first}", "first", None),
        ("/commit/{first}", "first", None),
        ("/-/commit/{first}", "first", None),
        ("/commits/{short}", "first", None),
        ("@refs/heads/feat/x", "side", None),
    ],
)
async def test_a_repository_is_cloned_at_its_ref_and_stays_there(
    site: Site,
    server: GitServer,
    repository: Repository,
    suffix: str,
    content: str,
    branch: str | None,
) -> None:
    first = git(repository.folder, "rev-parse", "v1^{commit}")
    text = listing(f"{server.url}/me/pack{suffix.format(first=first, short=first[:9])}")
    (todo,) = plan(manifest_of(text), site.place)
    assert f"clone {server.url}/me/pack" in todo
    await site.install(text)
    assert code(site) == content
    on = git(site.custom_nodes / "pack", "rev-parse", "--abbrev-ref", "HEAD")
    assert on == (branch or "HEAD")
    asked = len(server.requests)
    told = await site.install(text)
    assert list(told.outcomes.values()) == ["already there"]
    assert told.begun_entries == []
    assert plan(manifest_of(text), site.place)[0].endswith(": already there")
    assert len(server.requests) == asked
    assert names(site) == ["pack"]


async def test_a_clone_moves_to_a_ref_that_is_named_later(
    site: Site, server: GitServer, repository: Repository
) -> None:
    url = f"{server.url}/me/pack"
    for ref, content in (("@v1", "first"), ("@feat/x", "side"), ("", "second"), ("@v1", "first")):
        assert (
            plan(manifest_of(listing(url + ref)), site.place)[0].count("already there") == 0 or ref
        )
        await site.install(listing(url + ref))
        assert code(site) == content


async def test_a_clone_without_a_ref_is_not_updated(
    site: Site, server: GitServer, repository: Repository
) -> None:
    text = listing(f"{server.url}/me/pack")
    await site.install(text)
    repository.commit({"nodes.py": b"third"}, parent=git(repository.folder, "rev-parse", "main"))
    await site.install(text)
    assert code(site) == "second"


async def test_a_clone_with_changes_is_left_as_it_is_with_a_warning(
    site: Site, server: GitServer, repository: Repository
) -> None:
    await site.install(listing(f"{server.url}/me/pack"))
    (site.custom_nodes / "pack" / "nodes.py").write_text("mine")
    told = await site.install(listing(f"{server.url}/me/pack@v1"))
    assert code(site) == "mine"
    (warning,) = told.warnings
    assert warning.startswith(f"{NAME}, line 2, custom_nodes[0] ({server.url}/me/pack@v1): ")
    assert warning.endswith("its files have been changed")


async def test_a_clone_of_another_repository_is_left_as_it_is_with_a_warning(
    site: Site, server: GitServer, repository: Repository
) -> None:
    server.make("you/pack.git").commit({"nodes.py": b"yours"})
    await site.install(listing(f"{server.url}/you/pack"))
    told = await site.install(listing(f"{server.url}/me/pack@v1"))
    assert code(site) == "yours"
    assert "it is no clone of that repository" in told.warnings[0]


async def test_a_folder_that_is_no_clone_is_left_as_it_is(
    site: Site, server: GitServer, repository: Repository
) -> None:
    (site.custom_nodes / "pack").mkdir()
    (site.custom_nodes / "pack" / "install.py").write_bytes(INSTALL_PY)
    told = await site.install(listing(f"{server.url}/me/pack"))
    assert list(told.outcomes.values()) == ["already there"]
    assert [path.name for path in (site.custom_nodes / "pack").iterdir()] == ["install.py"]
    assert server.requests == []


async def test_submodules_come_along(site: Site, server: GitServer) -> None:
    inner = server.make("me/inner.git")
    commit = inner.commit({"deep.py": b"deep"})
    outer = server.make("me/outer.git")
    modules = f'[submodule "inner"]\n\tpath = lib/inner\n\turl = {server.url}/me/inner\n'
    outer.commit({".gitmodules": modules.encode()})
    _add_submodule(outer, "lib/inner", commit)
    await site.install(listing(f"{server.url}/me/outer"))
    assert (site.custom_nodes / "outer" / "lib" / "inner" / "deep.py").read_text() == "deep"
    status = git(site.custom_nodes / "outer", "submodule", "status", "--recursive")
    assert status.startswith(commit[:7]) or commit in status


def _add_submodule(repository: Repository, path: str, commit: str) -> None:
    extra = {"GIT_INDEX_FILE": str(repository.folder / "index.tmp")}
    folder = repository.folder
    git(folder, "read-tree", "main", extra=extra)
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{commit},{path}", extra=extra)
    tree = git(folder, "write-tree", extra=extra)
    made = git(folder, "commit-tree", tree, "-p", "main", "-m", "a submodule")
    git(folder, "update-ref", "refs/heads/main", made)


async def test_a_repository_that_is_not_there_is_named_and_leaves_nothing(
    site: Site, server: GitServer
) -> None:
    with pytest.raises(InstallationFailed) as caught:
        await site.install(
            listing("comfyui-x", f"{server.url}/me/none").replace("- comfyui-x\n", "")
        )
    assert caught.value.message.startswith(
        f"{NAME}, line 2, custom_nodes[0] ({server.url}/me/none): git ls-remote ended with 128."
    )
    assert names(site) == []


@pytest.mark.parametrize("ref", ["none", "deadbeef1", "a" * 40])
async def test_a_ref_that_is_not_there_is_named_and_leaves_nothing(
    site: Site, server: GitServer, repository: Repository, ref: str
) -> None:
    with pytest.raises(InstallationFailed, match=f"has no branch, tag or commit {ref}"):
        await site.install(listing(f"{server.url}/me/pack@{ref}"))
    assert names(site) == []


async def test_a_password_in_the_url_logs_in_and_is_shown_and_kept_nowhere(
    site: Site, server: GitServer, repository: Repository
) -> None:
    server.allow("someone", PASSWORD)
    url = server.url.replace("://", f"://someone:{PASSWORD}@")
    await site.install(listing(f"{url}/me/pack@v1"))
    assert code(site) == "first"
    config = (site.custom_nodes / "pack" / ".git" / "config").read_text()
    assert PASSWORD not in config
    with pytest.raises(InstallationFailed) as caught:
        await site.install(listing(f"{url}/me/pack@none"))
    assert PASSWORD not in str(caught.value.body())
    server.logins.clear()
    server.allow("someone", "else")
    (site.custom_nodes / "pack").rename(site.folder / "gone")
    with pytest.raises(
        InstallationFailed, match=r"Authentication failed|terminal prompts"
    ) as caught:
        await site.install(listing(f"{url}/me/pack"))
    assert PASSWORD not in str(caught.value.body())


async def test_a_clone_that_is_cancelled_ends_git_and_leaves_nothing(
    site: Site, server: GitServer, repository: Repository
) -> None:
    server.silent, server.is_old = True, True
    installing = asyncio.ensure_future(site.install(listing(f"{server.url}/me/pack")))
    await asyncio.to_thread(server.waiting.wait, 10)
    assert processes_in(site.custom_nodes)
    installing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await installing
    await until(lambda: not processes_in(site.custom_nodes))
    assert names(site) == []


PROGRAM = """
import asyncio, sys
from pathlib import Path
from tests.manifest.installing import Site
asyncio.run(Site(Path(sys.argv[1])).install(sys.argv[2]))
"""


async def test_a_clone_whose_process_is_killed_is_made_anew_by_the_next(
    site: Site, server: GitServer, repository: Repository
) -> None:
    server.silent, server.is_old = True, True
    text = listing(f"{server.url}/me/pack")
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(site.folder), text, cwd=root
    )
    await asyncio.to_thread(server.waiting.wait, 20)
    process.kill()
    await process.wait()
    left = processes_in(site.custom_nodes)
    for each in left:
        os.kill(each, signal.SIGKILL)
    # ComfyUI loads nothing from folders that end so.
    (half,) = (n for n in names(site) if n != LOCK)
    assert half.endswith(".disabled")
    server.silent = False
    await site.install(text)
    assert names(site) == ["pack"]
    assert code(site) == "second"


async def test_a_checkout_that_was_cut_off_is_done_again(
    site: Site, server: GitServer, repository: Repository
) -> None:
    await site.install(listing(f"{server.url}/me/pack@v1"))
    folder = site.custom_nodes / "pack"
    mark = folder / ".git" / ".comfyui-stateless.json"
    mark.write_text(mark.read_text().replace('"is_moving": false', '"is_moving": true'))
    (folder / "nodes.py").write_text("half")
    (folder / ".git" / "index.lock").touch()
    assert (
        "fetch and check out"
        in plan(manifest_of(listing(f"{server.url}/me/pack@v1")), site.place)[0]
    )
    await site.install(listing(f"{server.url}/me/pack@v1"))
    assert code(site) == "first"
    assert not (folder / ".git" / "index.lock").exists()


async def test_one_process_at_a_time_installs_into_a_folder(
    site: Site, server: GitServer, repository: Repository
) -> None:
    lock = try_lock(site.custom_nodes / LOCK)
    assert lock is not None
    installing = asyncio.ensure_future(site.install(listing(f"{server.url}/me/pack")))
    await asyncio.sleep(0)
    assert not (site.custom_nodes / "pack").exists()
    lock.release()
    told = await installing
    assert "Another process installs custom nodes" in told.warnings[0]
    assert code(site) == "second"


@pytest.fixture
def needing(server: GitServer) -> Callable[..., str]:
    """Commit a node with these files to me/pack."""
    repository = server.make("me/pack.git")
    return lambda **files: repository.commit(
        {"nodes.py": b"x", **{name.replace("_", "."): text for name, text in files.items()}}
    )


async def test_what_a_node_needs_is_installed_once(
    site: Site, python: Path, server: GitServer, wheels: Path, needing: Callable[..., str]
) -> None:
    site, text = replace(site, python=python), listing(f"{server.url}/me/pack")
    wheel(wheels, "tiny_need")
    needing(requirements_txt=b"# what it needs\ntiny-need>=1  # this\n", install_py=INSTALL_PY)
    told = await site.install(text)
    assert told.outcomes == {
        f"custom node {server.url}/me/pack": "cloned, requirements.txt and install.py done"
    }
    assert "setting up" in told.lines
    again = await site.install(text)
    assert list(again.outcomes.values()) == ["already there"]
    assert again.lines == []
    assert (site.custom_nodes / "pack" / "ran").read_text() == "x"


async def test_what_a_node_needs_is_installed_into_another_python_too(
    site: Site, python: Path, server: GitServer, wheels: Path, needing: Callable[..., str]
) -> None:
    site, text = replace(site, python=python), listing(f"{server.url}/me/pack")
    wheel(wheels, "tiny_lost")
    needing(requirements_txt=b"tiny-lost\n", install_py=INSTALL_PY)
    await site.install(text)
    uninstalled = [str(python), "-m", "pip", "uninstall", "-q", "-y", "tiny-lost"]
    assert (await run(Command(uninstalled))).code == 0
    (todo,) = plan(manifest_of(text), site.place)
    assert todo.endswith("already there, its requirements.txt and install.py to be installed")
    await site.install(text)
    assert (site.custom_nodes / "pack" / "ran").read_text() == "xx"


async def test_what_a_node_needs_is_installed_again_when_it_has_changed(
    site: Site, server: GitServer, needing: Callable[..., str]
) -> None:
    needing(install_py=INSTALL_PY)
    text = listing(f"{server.url}/me/pack")
    await site.install(text)
    (site.custom_nodes / "pack" / "requirements.txt").write_text("pytest\n")
    await site.install(text)
    await site.install(text)
    assert (site.custom_nodes / "pack" / "ran").read_text() == "xx"


async def test_an_install_py_that_fails_is_named_and_run_again(
    site: Site, server: GitServer, needing: Callable[..., str]
) -> None:
    needing(install_py=b"import sys; print('no luck'); sys.exit(open('ok').close())")
    text = listing(f"{server.url}/me/pack")
    for _ in range(2):
        with pytest.raises(InstallationFailed) as caught:
            await site.install(text)
        message = caught.value.message
        assert message.startswith(f"{NAME}, line 2, custom_nodes[0] ({server.url}/me/pack): ")
        assert "its install.py ended with 1. Its last lines:\n  no luck\n" in message
    (site.custom_nodes / "pack" / "ok").touch()
    await site.install(text)


async def test_requirements_that_cannot_be_met_are_named(
    site: Site, python: Path, server: GitServer, wheels: Path, needing: Callable[..., str]
) -> None:
    site = replace(site, python=python)
    needing(requirements_txt=b"tiny-nowhere\n")
    with pytest.raises(InstallationFailed) as caught:
        await site.install(listing(f"{server.url}/me/pack"))
    assert "custom_nodes[0]" in caught.value.message
    assert "pip, for its requirements.txt, ended with 1" in caught.value.message


async def test_requirements_with_options_are_left_to_the_installer_once(
    site: Site, python: Path, server: GitServer, programs: Programs, needing: Callable[..., str]
) -> None:
    site, text = replace(site, python=python), listing(f"{server.url}/me/pack")
    needing(requirements_txt=b"--extra-index-url https://example.com/simple\ntiny-far\n")
    programs.add("uv")
    await site.install(text)
    await site.install(text)
    assert programs.calls("uv") == [f"pip install --python {python} --requirement requirements.txt"]


async def test_install_py_runs_in_its_folder_with_comfyuis_python(
    site: Site, server: GitServer, needing: Callable[..., str]
) -> None:
    needing(
        install_py=b"import os, sys; print(sys.executable, os.getcwd(), os.environ['COMFYUI_PATH'])"
    )
    told = await site.install(listing(f"{server.url}/me/pack"))
    assert told.lines[-1] == f"{sys.executable} {site.custom_nodes / 'pack'} {site.home}"
