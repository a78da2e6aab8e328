"""A stand-in for the Hugging Face Hub: its protocol on real sockets, with a CDN beside it.

Files of ``lfs_from`` bytes or more lie on the CDN, another origin, behind signed URLs; with Xet on,
they lie in a local Xet storage as well.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote

from tests.storage import local_xet
from tests.storage.answers import Answer, Call, answering

WRITER = "hf_writer_may_read_and_write"
READER = "hf_reader_may_only_read"


@dataclass
class File:
    """A committed file: its bytes, or the Xet hash that they lie under."""

    content: bytes | None
    sha256: str
    size: int
    is_lfs: bool
    xet_hash: str | None = None

    @property
    def oid(self) -> str:
        if self.is_lfs or self.content is None:
            return self.sha256
        return hashlib.sha1(b"blob %d\0" % self.size + self.content).hexdigest()


@dataclass
class Repo:
    """A repository: for each revision its files by path."""

    revisions: dict[str, dict[str, File]] = field(default_factory=lambda: {"main": {}})
    private: bool = False
    gated: bool = False
    commits: list[str] = field(default_factory=lambda: ["0" * 40])
    messages: list[str] = field(default_factory=list)


def failed(status: int, code: str, message: str) -> Answer:
    headers = {"X-Error-Code": code, "X-Error-Message": message}
    return Answer(status, json.dumps({"error": message}).encode(), headers)


def as_json(value: Any, **headers: str) -> Answer:
    return Answer(body=json.dumps(value).encode(), headers=headers)


class Hub:
    """The state of the stand-in, and what its two origins answer.

    Attributes:
        url: The Hub's own origin.
        cdn_url: The origin of large files.
        calls, cdn_calls: What has arrived at each.
        refusals: Statuses that the next commits are answered with.
        says: Stands in for what the routes whose paths end so answer.
    """

    def __init__(self, lfs_from: int = 1000, chunk_size: int | None = None) -> None:
        self.url = self.cdn_url = ""
        self.repos: dict[str, Repo] = {}
        self.lfs_from, self.chunk_size = lfs_from, chunk_size
        self.blobs: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.calls: list[Call] = []
        self.cdn_calls: list[Call] = []
        self.refusals: list[int] = []
        self.says: dict[str, Any] = {}
        self.signature = secrets.token_hex(8)
        self.xet: Path | None = None
        self.has_ranges = True
        self.refuses_uploads = False

    def repo(self, name: str, *, private: bool = False, gated: bool = False) -> Repo:
        """Make a repository; ``datasets/`` in front of the name makes it a dataset."""
        return self.repos.setdefault(name, Repo(private=private, gated=gated))

    def add(self, repo: str, path: str, content: bytes, revision: str = "main") -> File:
        """Commit a file, without a request."""
        digest = hashlib.sha256(content).hexdigest()
        file = File(content, digest, len(content), len(content) >= self.lfs_from)
        if file.is_lfs:
            self.blobs[digest] = content
        self.repo(repo).revisions.setdefault(revision, {})[path] = file
        return file

    def add_to_xet(self, repo: str, path: str, content: bytes) -> File:
        """Commit a file whose bytes lie in the Xet storage only."""
        file = self.add(repo, path, content)
        file.xet_hash, file.is_lfs = local_xet.stored(content, self.cas_url), True
        return file

    def content(self, repo: str, path: str, revision: str = "main") -> bytes:
        """Return what a file holds; FileNotFoundError where there is none."""
        file = self.repo(repo).revisions[revision].get(path)
        if file is None:
            raise FileNotFoundError(path)
        if file.content is None:
            assert file.xet_hash
            file.content = local_xet.content_of(file.xet_hash, file.size, self.cas_url)
        return file.content

    @property
    def cas_url(self) -> str:
        return f"local://{self.xet}"

    def counted(self, pattern: str, method: str | None = None) -> int:
        """Count the Hub's own requests whose path has ``pattern`` in it."""
        return sum(
            bool(re.search(pattern, call.path)) and method in (None, call.method)
            for call in self.calls
        )

    # The Hub's routes

    def answer(self, call: Call) -> Answer:
        for ending, said in self.says.items():
            if call.path.endswith(ending):
                return as_json(said)
        for pattern, route in self._ROUTES:
            if found := re.fullmatch(pattern, call.path):
                name = found["repo"]
                if refusal := self._refusal(call, name, writes=route in self._WRITES):
                    return refusal
                answer: Answer = route(self, found, call)
                return answer
        return failed(404, "NotFound", "There is no such route.")

    def _refusal(self, call: Call, name: str, *, writes: bool) -> Answer | None:
        token = (call.authorization or "").removeprefix("Bearer ") or None
        if token and token not in (WRITER, READER):
            return failed(401, "", "Invalid credentials in Authorization header")
        repo = self.repos.get(_plain(name))
        if repo is None or (repo.private and token is None):
            return failed(401 if token is None else 404, "RepoNotFound", "Repository not found")
        if repo.gated and token is None:
            return failed(401, "GatedRepo", "Access to this model is restricted.")
        if repo.gated and token == READER:
            return failed(403, "GatedRepo", "You are not in the authorized list.")
        if writes and token != WRITER:
            return failed(403 if token else 401, "", "This token may not write.")
        return None

    def _resolve(self, found: re.Match[str], call: Call) -> Answer:
        repo = self.repos[found["repo"]]
        revision, path = unquote(found["revision"]), unquote(found["path"])
        if revision in (repo.commits[-1], "HEAD"):
            revision = "main"
        if revision not in repo.revisions:
            return failed(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        file = repo.revisions[revision].get(path)
        if file is None:
            return failed(404, "EntryNotFound", "Entry not found")
        common = {"X-Repo-Commit": repo.commits[-1], "Accept-Ranges": "bytes"}
        if not file.is_lfs:
            assert file.content is not None
            return Answer(200, file.content, {**common, "ETag": f'"{file.oid}"'})
        return Answer(302, b"", {**common, **self._linked(found["repo"], file)})

    def _linked(self, name: str, file: File) -> dict[str, str]:
        headers = {
            "Location": f"{self.cdn_url}/{file.sha256}?X-Amz-Signature={self.signature}",
            "X-Linked-Etag": f'"{file.sha256}"',
            "X-Linked-Size": str(file.size),
            "ETag": f'"{file.sha256[:40]}"',
        }
        if file.xet_hash and self.xet:
            kind = _plain(name) if name.startswith("datasets/") else f"models/{name}"
            link = f"{self.url}/api/{kind}/xet-read-token/main"
            headers |= {"X-Xet-Hash": file.xet_hash, "Link": f'<{link}>; rel="xet-auth"'}
        return headers

    def _preupload(self, found: re.Match[str], call: Call) -> Answer:
        files = self.repos[_plain(found["repo"])].revisions.get(unquote(found["revision"]))
        if files is None:
            return failed(404, "RevisionNotFound", "Invalid rev id")
        answers = [
            {
                "path": wanted["path"],
                "uploadMode": "lfs" if wanted["size"] >= self.lfs_from else "regular",
                "shouldIgnore": False,
                "oid": files[wanted["path"]].oid if wanted["path"] in files else None,
            }
            for wanted in json.loads(call.body)["files"]
        ]
        return as_json({"files": answers})

    def _batch(self, found: re.Match[str], call: Call) -> Answer:
        objects = [self._actions(o, found["repo"]) for o in json.loads(call.body)["objects"]]
        return as_json({"transfer": "basic", "objects": objects})

    def _actions(self, wanted: dict[str, Any], name: str) -> dict[str, Any]:
        oid, size = wanted["oid"], wanted["size"]
        if oid in self.blobs:
            return {"oid": oid, "size": size}
        place = f"{self.cdn_url}/upload/{oid}?X-Amz-Signature={self.signature}"
        upload: dict[str, Any] = {"href": place, "header": {}}
        if self.chunk_size:
            count = -(-size // self.chunk_size)
            numbered = {str(n): f"{place}&part={n}" for n in range(1, count + 1)}
            upload = {
                "href": f"{self.cdn_url}/complete/{oid}?X-Amz-Signature={self.signature}",
                "header": {"chunk_size": str(self.chunk_size), **numbered},
            }
        verify = {"href": f"{self.url}/{name}.git/info/lfs/verify", "header": {}}
        return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}}

    def _verify(self, found: re.Match[str], call: Call) -> Answer:
        wanted = json.loads(call.body)
        if len(self.blobs.get(wanted["oid"], b"")) != wanted["size"]:
            return failed(404, "", "Object not found")
        return as_json({})

    def _commit(self, found: re.Match[str], call: Call) -> Answer:
        if self.refusals:
            return failed(self.refusals.pop(0), "", "A commit has happened since.")
        repo = self.repos[_plain(found["repo"])]
        files = repo.revisions[unquote(found["revision"])]
        for line in call.body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "header":
                repo.messages.append(entry["value"]["summary"])
            else:
                files[entry["value"]["path"]] = self._committed(entry["key"], entry["value"])
        repo.commits.append(secrets.token_hex(20))
        url = f"{self.url}/{_plain(found['repo'])}/commit/{repo.commits[-1]}"
        return as_json({"success": True, "commitUrl": url, "commitOid": repo.commits[-1]})

    def _committed(self, key: str, value: dict[str, Any]) -> File:
        if key == "file":
            content = base64.b64decode(value["content"])
            return File(content, hashlib.sha256(content).hexdigest(), len(content), False)
        blob = self.blobs.get(value["oid"])
        xet_hash = local_xet.hash_of(self.xet, value["oid"]) if self.xet else None
        assert blob is not None or xet_hash, "a commit names an object that never came"
        return File(blob, value["oid"], value["size"], True, xet_hash)

    def _xet_token(self, found: re.Match[str], call: Call) -> Answer:
        if self.xet is None:
            return Answer(404)
        until = int(time.time()) + 3600
        return as_json(
            {"accessToken": "xet-token", "exp": until, "casUrl": self.cas_url},
            **{
                "X-Xet-Access-Token": "xet-token",
                "X-Xet-Token-Expiration": str(until),
                "X-Xet-Cas-Url": self.cas_url,
            },
        )

    def _info(self, found: re.Match[str], call: Call) -> Answer:
        repo = self.repos[_plain(found["repo"])]
        info = {"_id": "1", "id": _plain(found["repo"]), "sha": repo.commits[-1], "siblings": []}
        return as_json({**info, "xetEnabled": self.xet is not None})

    def _paths_info(self, found: re.Match[str], call: Call) -> Answer:
        files = self.repos[_plain(found["repo"])].revisions.get(unquote(found["revision"]), {})
        paths = [path for path in parse_qs(call.body.decode())["paths"] if path in files]
        return as_json([_path_info(path, files[path]) for path in paths])

    _API = r"/api/(?P<repo>(?:models|datasets)/[^/]+(?:/[^/]+)?)"
    _NAME = r"/(?P<repo>(?:(?:datasets|spaces)/)?[^/]+(?:/[^/]+)?)"
    _ROUTES: ClassVar[tuple[tuple[str, Any], ...]] = (
        (_API + r"/preupload/(?P<revision>[^/]+)", _preupload),
        (_API + r"/commit/(?P<revision>[^/]+)", _commit),
        (_API + r"/xet-(?:read|write)-token/(?P<revision>[^/]+)", _xet_token),
        (_API + r"/paths-info/(?P<revision>[^/]+)", _paths_info),
        (_API + r"/revision/(?P<revision>[^/]+)", _info),
        (_API + r"", _info),
        (_NAME + r"\.git/info/lfs/objects/batch", _batch),
        (_NAME + r"\.git/info/lfs/verify", _verify),
        (_NAME + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _resolve),
    )
    _WRITES = (_preupload, _commit, _batch, _verify)

    # The CDN's routes

    def answer_from_cdn(self, call: Call) -> Answer:
        query = parse_qs(call.query)
        if query.get("X-Amz-Signature") != [self.signature] or call.authorization:
            return Answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
        *route, oid = call.path.strip("/").split("/")
        if route == ["upload"] and self.refuses_uploads:
            return Answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        if route == ["upload"]:
            return self._received(oid, query.get("part"), call.body)
        if route == ["complete"]:
            parts = self.parts.pop(oid)
            self.blobs[oid] = b"".join(parts[number] for number in sorted(parts))
            return as_json({})
        if oid not in self.blobs:
            self._bridge(oid)
        if oid not in self.blobs:
            return Answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        ranges = {"Accept-Ranges": "bytes"} if self.has_ranges else {}
        etag = f'"{hashlib.md5(self.blobs[oid]).hexdigest()}"'
        return Answer(200, self.blobs[oid], {"ETag": etag, **ranges})

    def _bridge(self, oid: str) -> None:
        """Give over HTTP what lies in Xet, as the Hub does."""
        for name, repo in self.repos.items():
            for files in repo.revisions.values():
                for path, file in files.items():
                    if file.sha256 == oid and file.xet_hash:
                        self.blobs[oid] = self.content(name, path)
                        return

    def _received(self, oid: str, part: list[str] | None, body: bytes) -> Answer:
        if part:
            self.parts.setdefault(oid, {})[int(part[0])] = body
        else:
            assert hashlib.sha256(body).hexdigest() == oid
            self.blobs[oid] = body
        return Answer(200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """Serve a Hub and its CDN, at two origins."""
    with (
        answering(hub.answer, hub.calls) as hub.url,
        answering(hub.answer_from_cdn, hub.cdn_calls) as hub.cdn_url,
    ):
        yield hub


def _path_info(path: str, file: File) -> dict[str, Any]:
    info = {"type": "file", "path": path, "size": file.size, "oid": file.oid[:40]}
    if file.is_lfs:
        info["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 130}
    return {**info, "xetHash": file.xet_hash} if file.xet_hash else info


def _plain(name: str) -> str:
    return name.removeprefix("models/")
