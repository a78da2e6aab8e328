"""A real git server over HTTP on loopback: git's own, behind a small server that speaks CGI."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

GIT = shutil.which("git") or "git"


@dataclass
class GitServer:
    """Serves the bare repositories in a folder.

    Attributes:
        root: That folder.
        url: The server's origin.
        logins: Authorization headers, one of which is needed where there are any.
        moved: Paths that are redirected, with where to.
        requests: What has arrived: method, path, Authorization.
        silent: While set, requests for packs are not answered.
        is_old: While set, only git's first protocol is spoken.
        moves_git: Where git itself, and nobody else, is redirected to.
        large: Large files by SHA-256.
        places: What is answered in place of where large files are.
        large_at: The origin that they are said to be at, in place of this one.
    """

    root: Path
    url: str = ""
    logins: set[str] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    silent: bool = False
    is_old: bool = False
    moves_git: str = ""
    large: dict[str, bytes] = field(default_factory=dict)
    places: bytes | None = None
    large_at: str = ""
    waiting: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def make(self, name: str) -> Repository:
        """Make an empty repository, served as ``name``."""
        folder = self.root / name
        git(self.root, "init", "--quiet", "--bare", "--initial-branch=main", str(folder))
        return Repository(folder)

    def path_of(self, path: str) -> str:
        """Return where a path is served from: repositories may be asked for without ``.git``."""
        owner, name, *rest = path.lstrip("/").split("/")
        name = name if name.endswith(".git") else f"{name}.git"
        return "/" + "/".join([owner, name, *rest])

    def allow(self, user: str, password: str) -> None:
        """Ask for a login from now on, and take this one."""
        self.logins.add("Basic " + b64encode(f"{user}:{password}".encode()).decode())


@dataclass(frozen=True)
class Repository:
    """A bare repository, and ways to commit to it without a work tree."""

    folder: Path

    def commit(
        self,
        files: dict[str, bytes],
        ref: str = "refs/heads/main",
        *,
        links: dict[str, str] | None = None,
        parent: str | None = None,
    ) -> str:
        """Make a commit of these files and symbolic links what a ref stands for; return it."""
        entries = [("100644", name, content) for name, content in files.items()]
        entries += [("120000", name, to.encode()) for name, to in (links or {}).items()]
        lines = []
        for mode, name, content in entries:
            blob = git(self.folder, "hash-object", "-w", "--stdin", stdin=content)
            lines.append(f"{mode} {blob}\t{name}\n")
        index = self.folder / "index.tmp"
        extra = {"GIT_INDEX_FILE": str(index)}
        git(self.folder, "update-index", "--index-info", stdin="".join(lines).encode(), extra=extra)
        tree = git(self.folder, "write-tree", extra=extra)
        index.unlink()
        parents = ["-p", parent] if parent else []
        commit = git(self.folder, "commit-tree", tree, *parents, "-m", "a commit")
        git(self.folder, "update-ref", ref, commit)
        return commit

    def tag(self, name: str, ref: str) -> None:
        """Make an annotated tag."""
        git(self.folder, "tag", "-a", name, "-m", "a tag", ref)


def git(
    folder: Path, *arguments: str, stdin: bytes | None = None, extra: dict[str, str] | None = None
) -> str:
    """Run git as a test's author would."""
    author = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER")
              for what in ("NAME", "EMAIL")}  # fmt: skip
    plain = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = subprocess.run(
        [GIT, *arguments],
        cwd=folder,
        env={**inherited, **author, **plain, **(extra or {})},
        input=stdin,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


@contextmanager
def git_server(root: Path) -> Iterator[GitServer]:
    """Serve a folder of bare repositories on a free port of 127.0.0.1."""
    state = GitServer(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    server.daemon_threads = False
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(state: GitServer) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"state": state})


class _Handler(BaseHTTPRequestHandler):
    timeout = 10
    state: GitServer

    def _serve(self) -> None:
        state, login = self.state, self.headers.get("Authorization")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        state.requests.append((self.command, self.path, login))
        if state.moves_git and self.headers.get("User-Agent", "").startswith("git/"):
            self._answer(302, {"Location": state.moves_git + self.path})
            return
        place = next((to for at, to in state.moved.items() if self.path.startswith(at)), "")
        if place:
            self._answer(301, {"Location": place + self.path.split("/", 2)[2]})
        elif self.path.startswith("/large/"):
            self._answer(200, {}, state.large[self.path.rpartition("/")[2]])
        elif state.logins and login not in state.logins:
            self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'})
        elif self.path.endswith("/info/lfs/objects/batch"):
            self._give_places(json.loads(body))
        elif state.silent and self.command == "POST":
            state.waiting.set()
            state.released.wait(20)
        else:
            self._run(body)

    def _give_places(self, question: dict[str, Any]) -> None:
        base = self.state.large_at or self.state.url
        objects = [
            {**wanted, "actions": {"download": {"href": f"{base}/large/{wanted['oid']}"}}}
            if wanted["oid"] in self.state.large
            else {**wanted, "error": {"code": 404, "message": "Object does not exist"}}
            for wanted in question["objects"]
        ]
        usual = json.dumps({"transfer": "basic", "objects": objects}).encode()
        answer = usual if self.state.places is None else self.state.places
        self._answer(200, {"Content-Type": "application/vnd.git-lfs+json"}, answer)

    def _run(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        variables = {
            **os.environ,
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROJECT_ROOT": str(self.state.root),
            "GIT_PROTOCOL": "" if self.state.is_old else self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "PATH_INFO": self.state.path_of(parts.path),
            "QUERY_STRING": parts.query,
            "REMOTE_ADDR": "127.0.0.1",
            "REQUEST_METHOD": self.command,
        }
        variables = {k: v for k, v in variables.items() if k not in ("GIT_DIR", "GIT_TEMPLATE_DIR")}
        done = subprocess.run(
            [GIT, "http-backend"], input=body, env=variables, capture_output=True, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        status = int(headers.pop("Status", "200").split()[0])
        self._answer(status, headers, content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    do_GET = do_POST = _serve  # noqa: N815 - the server's names
