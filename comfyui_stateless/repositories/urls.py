"""Reads the URLs of repositories: where to clone from, and which branch, tag or commit."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from ..errors import UnsupportedURL
from ..storage import policy
from ..storage.auth import BasicAuth

_GITLAB = re.compile(r"(?P<repo>/.+?)/-/(?:tree|commit)/(?P<ref>.+)")
_GITHUB = re.compile(r"(?P<repo>/[^/@]+/[^/@]+)/(?:tree|commit|releases/tag)/(?P<ref>.+)")
_BITBUCKET = re.compile(r"(?P<repo>/[^/@]+/[^/@]+)/(?:src|commits)/(?P<ref>.+)")
_HUB = re.compile(
    r"(?P<repo>(?:/(?:datasets|spaces)/[^/@]+)?/[^/@]+(?:/[^/@]+)?)/(?:tree|commit)/(?P<ref>.+)"
)
_AT = re.compile(r"(?P<repo>.*[^/@])@(?P<ref>[^@]+)")

_OF_HOST = {
    "github.com": (_GITHUB,),
    "gitlab.com": (_GITLAB,),
    "bitbucket.org": (_BITBUCKET,),
    "huggingface.co": (_HUB,),
    "hf.co": (_HUB,),
}
"""The forms of a page's address that name a ref; another host may run any of the products."""

_OF_OTHERS = (_GITLAB, _GITHUB, _BITBUCKET)

_NO_REF = re.compile(r"^[-/.]|[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|[/.]$|\.lock(?:/|$)|^@$")
"""What git takes in no name of a branch or tag, and what it would take for an option."""


class RepositoryURL(NamedTuple):
    """Where a repository is.

    Attributes:
        clone_url: Without user, password, query and fragment.
        ref: A branch, a tag or a commit; None is the default branch.
        auth: The user and password that stood in the URL, if any.
    """

    clone_url: str
    ref: str | None = None
    auth: BasicAuth | None = None


def parse(url: str) -> RepositoryURL:
    """Read the URL of a repository, or of its page for a branch, a tag or a commit.

    Raises:
        UnsupportedURL: It is not http or https, names no repository, or no ref that git takes.
    """
    target = policy.parse(url)
    path, ref = _path_and_ref(target)
    if not path.strip("/"):
        raise UnsupportedURL(f"{target.redacted} names no repository.")
    if ref is not None and _NO_REF.search(ref):
        raise UnsupportedURL(f"{target.redacted} names no branch, tag or commit that git takes.")
    return RepositoryURL(f"{target.origin}{path}", ref, _auth(target))


def _path_and_ref(target: policy.Target) -> tuple[str, str | None]:
    path = target.path.partition("?")[0].rstrip("/")
    for form in (*_OF_HOST.get(target.host, _OF_OTHERS), _AT):
        if found := form.fullmatch(path):
            return found["repo"], unquote(found["ref"])
    return path, None


def _auth(target: policy.Target) -> BasicAuth | None:
    if target.userinfo is None:
        return None
    user, password = target.userinfo
    return BasicAuth(type="basic", username=user, password=password)
