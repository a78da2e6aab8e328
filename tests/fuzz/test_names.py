"""Names, patterns and addresses of any spelling: what is made of them has the promised form."""

from __future__ import annotations

import base64
import json
import posixpath
import re
import time
import unicodedata
from functools import lru_cache
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from standardwebhooks import Webhook

from comfyui_stateless.access import check_secret
from comfyui_stateless.cache import names
from comfyui_stateless.errors import UnsupportedURL
from comfyui_stateless.journal import Content
from comfyui_stateless.media import HEAD_BYTES
from comfyui_stateless.naming import (
    MAX_ID_BYTES,
    ImageNames,
    UniqueNames,
    header_id,
    leaves_folder,
    output_prefix,
    redacted,
    safe_id,
)
from comfyui_stateless.repositories import urls
from comfyui_stateless.storage.auth import BearerAuth, Credential, auth_for
from comfyui_stateless.storage.base import ObjectInfo
from comfyui_stateless.webhooks import Signer
from tests.fuzz.strategies import IDS, TOKEN, around
from tests.wiring import settings_in

TOKENS = ["%width%", "%height%", "%batch_num%", "%year%", "%second%", "%date:yyyy%", "%", "%%"]
PREFIXES = st.lists(
    st.one_of(IDS, st.sampled_from([*TOKENS, "/", "..", ".", "\\", "a", "_00001_", "C:", "~"])),
    max_size=6,
).map("".join)


@given(text=IDS)
def test_a_safe_id_is_a_plain_name_on_any_file_system(text: str) -> None:
    safe = safe_id(text)
    assert 0 < len(safe.encode()) <= MAX_ID_BYTES
    assert not set('/\\:*?"<>|') & set(safe)
    assert not safe.startswith(".")
    assert {unicodedata.category(c)[0] for c in safe} <= set("LMNPSZ")
    assert safe_id(safe) == safe
    assert header_id(text).isascii()
    assert header_id(text).isprintable()
    assert len(header_id(text)) == len(safe)


@example("./\\/", "a", True, [])
@given(prefix=PREFIXES, text=IDS, prepend=st.booleans(), batches=st.lists(st.integers(0, 99)))
def test_images_are_named_inside_their_folder_and_each_name_once(
    prefix: str, text: str, prepend: bool, batches: list[int]
) -> None:
    image_names = ImageNames()
    try:
        base = image_names.base(output_prefix(prefix, safe_id(text), prepend=prepend), 4, 8)
    except ValueError:
        # As it is, or as a path that says the same: "./\\x" is "\\x".
        forms = (prefix, posixpath.normpath(prefix))
        begins = [form[:1] in "/\\" or form[1:3] in (":/", ":\\") for form in forms]
        assert ".." in prefix or "\0" in prefix or any(begins)
        return
    named = [image_names.next(base, number) for number in batches]
    assert len(set(named)) == len(named)
    for name in named:
        assert not leaves_folder(name)
        assert posixpath.normpath(f"/out/{name}").startswith("/out/")
        assert name.endswith("_.png")


@given(name=IDS, count=st.integers(0, 12))
def test_a_name_that_is_taken_gets_another(name: str, count: int) -> None:
    names, taken = UniqueNames(), set[str]()
    for _ in range(count):
        found = names.give(name)
        assert found not in taken
        assert ("/" in found) == ("/" in name)
        taken.add(found)


GLOBS = st.text("ab/*?.\n[é", max_size=12)


@given(pattern=GLOBS.filter(bool), url=st.text("ab/.\n[é", max_size=12))
def test_credentials_go_where_their_pattern_says(pattern: str, url: str) -> None:
    auth = BearerAuth.model_validate({"type": "bearer", "token": "t"})
    credential = Credential(url_pattern=pattern, auth=auth)
    assert (auth_for(url, [credential]) is auth) == _fits(pattern, url)


@lru_cache(maxsize=10_000)
def _fits(pattern: str, url: str) -> bool:
    """Say what the documentation says, in the slowest way."""
    if pattern.startswith("**"):
        return any(_fits(pattern[2:], url[n:]) for n in range(len(url) + 1))
    if pattern.startswith("*"):
        within = len(url.partition("/")[0])
        return any(_fits(pattern[1:], url[n:]) for n in range(within + 1))
    if not pattern or not url:
        return pattern == url
    return pattern[0] in ("?", url[0]) and _fits(pattern[1:], url[1:])


FORMS = {
    "github.com": ("/tree/{}", "/commit/{}", "/releases/tag/{}", "@{}", ".git@{}"),
    "gitlab.com": ("/-/tree/{}", "/-/commit/{}", "@{}"),
    "bitbucket.org": ("/src/{}", "/commits/{}", "@{}"),
    "git.example": ("/tree/{}", "/-/tree/{}", "/src/{}", "@{}"),
}
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", fullmatch=True).filter(
    lambda name: not name.endswith((".", ".lock", ".git")) and ".." not in name
)


@given(
    place=st.sampled_from([(host, form) for host, forms in FORMS.items() for form in forms]),
    owner=NAMES,
    name=NAMES,
    ref=st.lists(NAMES, min_size=1, max_size=3).map("/".join),
    login=st.sampled_from(["", "user@", "user:secret@", ":@"]),
    ending=st.sampled_from(["", "/", "?a=b", "#readme"]),
)
def test_every_form_of_a_repositorys_address_gives_its_ref(
    place: tuple[str, str], owner: str, name: str, ref: str, login: str, ending: str
) -> None:
    host, form = place
    found = urls.parse(f"https://{login}{host}/{owner}/{name}{form.format(ref)}{ending}")
    suffix = ".git" if form.startswith(".git") else ""
    assert found.clone_url == f"https://{host}/{owner}/{name}{suffix}"
    assert found.ref == ref


@given(
    host=st.sampled_from([*FORMS, "huggingface.co"]),
    path=st.lists(
        st.one_of(IDS.map(lambda text: quote(text, errors="replace")), st.text("a/@-.%20", max_size=6),
                  st.sampled_from(["/tree/", "/-/", "/commit/", "--upload-pack=x", "%2d%2dx", "%0a"])),
        max_size=6,
    ).map("".join),
)  # fmt: skip
def test_no_repositorys_address_gives_git_an_option(host: str, path: str) -> None:
    try:
        found = urls.parse(f"https://{host}/{path}")
    except UnsupportedURL:
        return
    assert found.clone_url.startswith("https://")
    assert found.clone_url.isascii()
    assert not re.search(r"[\s\0]", found.clone_url)
    if found.ref is not None:
        # Git takes whatever is no ASCII, spaces of Unicode too.
        assert re.fullmatch(r"[^-/.~^:?*\[\\\x00-\x20\x7f][^~^:?*\[\\\x00-\x20\x7f]*", found.ref)


@given(url=st.one_of(IDS, IDS.map("https://a.b/{}".format)), head=st.binary(max_size=64), name=IDS)
def test_a_cached_file_has_a_plain_name_that_is_the_caches(
    url: str, head: bytes, name: str
) -> None:
    info = ObjectInfo(filename=name)
    ending = names.extension_for(url, info, head[:HEAD_BYTES])
    assert re.fullmatch(r"\.[A-Za-z0-9_]{1,15}", ending)
    key = names.key_of(url)
    assert names.key_in(key + ending) == key
    assert names.is_content(key + ending)
    shown = names.readable_name(url, name, f"-12345678{ending}")
    assert not set("/\\\0\r\n") & set(shown)
    assert not shown.startswith(".")
    assert len(shown.encode()) <= 255


@given(key=st.binary(min_size=24, max_size=64), said=st.text(),
       marked=st.booleans())  # fmt: skip
def test_any_secret_signs_what_a_receiver_verifies(key: bytes, said: str, marked: bool) -> None:
    text = ("whsec_" if marked else "") + base64.b64encode(key).decode()
    found = check_secret(text)
    assert found == key
    content = json.dumps(said).encode()
    body = Content(len(content), content)
    headers = Signer(found).headers("msg_1", int(time.time()), body, is_signed=True)
    assert Webhook(text).verify(content, headers) == said


@given(text=around(TOKEN))
def test_a_secret_that_is_none_is_not_repeated(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        settings_in(tmp_path_factory.getbasetemp(), webhook_secret=text)
    assert TOKEN not in str(raised.value)


PASSWORDS = st.text(st.sampled_from("ab0/?#@:%!=&;é "), max_size=6)


@given(
    scheme=st.sampled_from(["http", "https", "HTTPS", "s3", "ftp"]),
    user=st.sampled_from(["", "user", "a.b", "é", "u%40"]),
    before=PASSWORDS,
    after=PASSWORDS,
    path=st.sampled_from(["", "/", "/a/b.png", "/a@b", "/a:b"]),
    ending=st.sampled_from(["", "?a={}", "?{}", "#{}", "?a=b#{}", "?a=/@{}", "#/?{}"]),
)
def test_no_address_that_is_shown_holds_its_secrets(
    scheme: str, user: str, before: str, after: str, path: str, ending: str
) -> None:
    # With digits after the colon it may as well be a host and its port, and the rest a path.
    assume(not re.match(r"\d{0,5}[/?#]", before))
    url = f"{scheme}://{user}:{before}{TOKEN}{after}@host{path}{ending.format(TOKEN)}"
    assert TOKEN not in redacted(url)
