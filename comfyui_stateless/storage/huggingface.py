"""Files in repositories of the Hugging Face Hub.

They are read like any other URL, so that ranges, resuming and the policy hold, or by the Hub's own
storage, Xet, where it has them. They are written in commits.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import quote, unquote, urlencode

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from ..config import HttpAccess, HuggingFaceAccess
from ..errors import StorageError, UnsupportedURL
from ..naming import leaves_folder, redacted
from .auth import Auth, BasicAuth, BearerAuth, HeaderAuth, QueryAuth, S3Auth
from .base import Cancel, Digest, Download, ObjectInfo, Put, Source, Span
from .connections import Client, Response
from .http import HttpBackend
from .hub import HUB, HubApi, HubFile, error_of
from .policy import parse
from .xet import Progress, Xet, XetFile

XET_FROM_BYTES = 8 * 1024 * 1024
"""Below it, Xet's requests for a token and a plan take longer than the file itself."""

_HOSTS = (HUB, "https://hf.co", "https://www.huggingface.co")
_FILE = re.compile(
    r"/(?:(?P<kind>datasets|spaces)/)?(?P<repo>[\w.-]+(?:/[\w.-]+)?)/(?:resolve|blob)/"
    r"(?P<revision>refs/(?:pr|convert)/[^/]+|[^/]+)/(?P<path>[^?]+)(?:\?.*)?"
)
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')


class HfTarget(BaseModel):
    """Where outputs are uploaded to: a folder in a repository of the Hub."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", populate_by_name=True, defer_build=True
    )

    repo: str = Field(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?$")
    repo_type: Literal["model", "dataset"] = "model"
    revision: str = Field(default="main", min_length=1)
    directory: str = ""
    is_async: bool = Field(default=True, alias="async")

    @field_validator("repo", "revision")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if {".", ".."} & set(value.split("/")):
            raise ValueError("leads to another place of the Hub")
        return value

    @field_validator("directory")
    @classmethod
    def _is_in_the_repository(cls, value: str) -> str:
        if leaves_folder(value.lstrip("/")):
            raise ValueError("leads out of the repository")
        return value.strip("/")

    def url_for(self, filename: str) -> str:
        """Return the URL that an output of this name gets."""
        kind = "datasets/" if self.repo_type == "dataset" else ""
        path = quote(f"{self.directory}/{filename}" if self.directory else filename)
        return f"{HUB}/{kind}{self.repo}/resolve/{quote(self.revision, safe='')}/{path}"


class HuggingFaceBackend:
    """Reads and writes files of repositories on the Hub, or on a mirror of it.

    Args:
        access: The Hub's endpoint, which is trusted, and the operator's token.
        client: For all requests but those of the Hub's own libraries.
        http_access: The operator's header, for who gets it.
    """

    name: ClassVar[str] = "huggingface"

    def __init__(self, access: HuggingFaceAccess, client: Client, http_access: HttpAccess) -> None:
        self._endpoint = parse(access.endpoint).url.rstrip("/")
        self._operators_token = access.token
        self._client = client.trusting(access.endpoint)
        self._http = _HubHttp(self._client, http_access)
        self._xet = Xet()

    def matches(self, url: str) -> bool:
        return self._read(url) is not None

    def head(self, url: str, auth: Auth | None, cancel: Cancel) -> ObjectInfo:
        file = self._file(url)
        return self._http.head(file.url, self._auth(url, auth), cancel)

    def open(self, url: str, auth: Auth | None, span: Span | None, cancel: Cancel) -> Download:
        file = self._file(url)
        return self._http.open(file.url, self._auth(url, auth), span, cancel)

    def fetch(
        self,
        url: str,
        auth: Auth | None,
        path: Path,
        progress: Progress,
        cancel: Cancel,
    ) -> ObjectInfo | None:
        """Bring a large file that lies in Xet to ``path``; see ``base.FetchesWhole``.

        What fails in Xet is left to ``open``: the Hub gives every file over HTTP as well.
        """
        file, auth = self._file(url), self._auth(url, auth)
        if isinstance(auth, (HeaderAuth, QueryAuth, S3Auth)) or not self._xet.is_usable():
            return None
        token = _token(auth)
        entry = self._entry(file, self._api(token, cancel))
        if entry is None or entry.size < XET_FROM_BYTES:
            return None
        if not self._xet.fetch(file, entry, token, path, progress, cancel):
            return None
        return ObjectInfo(entry.size, filename=file.path.rpartition("/")[2], digest=entry.digest)

    def put(self, url: str, source: Source, auth: Auth | None, cancel: Cancel) -> None:
        self.put_together((Put(url, source),), auth, cancel)

    def put_together(self, puts: tuple[Put, ...], auth: Auth | None, cancel: Cancel) -> None:
        """Write all of ``puts`` in one commit; see ``base.PutsTogether``.

        Raises:
            UnsupportedURL: They are not all for one revision of one repository.
            ObjectNotFound: There is no such repository or revision.
        """
        from .hub_commits import commit  # late: few upload to the Hub

        files = [self._file(put.url) for put in puts]
        if len({(file.kind, file.repo, file.revision) for file in files}) != 1:
            raise UnsupportedURL("One commit cannot write to several repositories or revisions.")
        sources = {file.path: put.source for file, put in zip(files, puts, strict=True)}
        token = _token(self._auth(puts[0].url, auth))
        commit(files[0], sources, self._api(token, cancel), self._xet)

    def close(self) -> None:
        self._http.close()

    def _file(self, url: str) -> HubFile:
        file = self._read(url)
        if file is None:
            raise UnsupportedURL(f"{redacted(url)} is no address of a file on the Hub.")
        return file

    def _read(self, url: str) -> HubFile | None:
        try:
            target = parse(url)
        except UnsupportedURL:
            return None
        place = f"{target.origin}{target.path}"
        root = next((r for r in (self._endpoint, *_HOSTS) if place.startswith(f"{r}/")), None)
        found = _FILE.fullmatch(place[len(root) :]) if root else None
        if found is None:
            return None
        revision, path = unquote(found["revision"]), unquote(found["path"])
        return HubFile(self._endpoint, found["kind"] or "models", found["repo"], revision, path)

    def _auth(self, url: str, auth: Auth | None) -> Auth | None:
        """Return the request's credentials, else the URL's, else the operator's token."""
        if auth is not None:
            return auth
        if userinfo := parse(url).userinfo:
            user, password = userinfo
            found = password if password.get_secret_value() else SecretStr(user)
            return BearerAuth(type="bearer", token=found)
        token = self._operators_token or _cached_token()
        return BearerAuth(type="bearer", token=token) if token else None

    def _entry(self, file: HubFile, api: HubApi) -> XetFile | None:
        """Ask for what the Hub knows of a file; None where it does not say that it is in Xet."""
        question = urlencode({"paths": file.path, "expand": "False"}).encode()
        source = Source(question, len(question), "application/x-www-form-urlencoded")
        with suppress(StorageError):
            return XetFile.of(api.post(file.api("paths-info"), source))
        return None

    def _api(self, token: str | None, cancel: Cancel) -> HubApi:
        return HubApi(self._endpoint, token, self._client, cancel)


class _HubHttp(HttpBackend):
    """HTTP, with the Hub's own words for what is wrong, and for what its large files hash to."""

    def _completed(self, info: ObjectInfo, response: Response) -> ObjectInfo:
        # The Hub says it where it sends us on to the file's storage, which does not know.
        linked = _SHA256.fullmatch(response.first_headers.get("X-Linked-Etag", ""))
        return replace(info, digest=Digest("sha256", linked[1])) if linked else info

    def _send(self, *arguments: Any, **options: Any) -> Response:
        response = super()._send(*arguments, **options)
        error = error_of(response) if response.status >= 400 else None
        if error is not None:
            response.close()
            raise error
        return response


def _token(auth: Auth | None) -> str | None:
    if auth is None:
        return None
    if isinstance(auth, BearerAuth):
        return auth.token.get_secret_value()
    if isinstance(auth, BasicAuth):
        return auth.password.get_secret_value()
    raise UnsupportedURL(f"The Hub takes a token, as bearer, and no credentials of {auth.type}.")


def _cached_token() -> SecretStr | None:
    """Return the token of who is logged in on this machine, by the rules of the Hub's library."""
    try:
        from huggingface_hub import get_token
    except Exception:  # noqa: BLE001 - missing or broken, it costs this token alone
        return None
    token = get_token()
    return SecretStr(token) if token else None
