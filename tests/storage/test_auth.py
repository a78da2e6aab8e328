"""Which credentials a URL gets, how long finding out may take, and what shows of a secret."""

from __future__ import annotations

import random
import re
import time
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from comfyui_stateless.storage.auth import (
    MAX_PATTERN_CHARACTERS,
    MAX_URL_CHARACTERS,
    Auth,
    BearerAuth,
    Credential,
    auth_for,
)

SECRET = "s3cr3t-value"

KINDS: list[dict[str, Any]] = [
    {"type": "bearer", "token": SECRET},
    {"type": "basic", "username": "me", "password": SECRET},
    {"type": "header", "header_name": "X-Key", "header_value": SECRET},
    {"type": "query", "query_param": "sig", "query_value": SECRET},
    {"type": "s3", "access_key_id": "id", "secret_access_key": SECRET, "session_token": SECRET},
]


def credential(pattern: str, token: str = "t") -> Credential:
    return Credential.model_validate(
        {"url_pattern": pattern, "auth": {"type": "bearer", "token": token}}
    )


def fits(pattern: str, url: str) -> bool:
    return auth_for(url, [credential(pattern)]) is not None


@pytest.mark.parametrize(
    ("pattern", "url", "expected"),
    [
        ("https://example.com/*", "https://example.com/file.txt", True),
        ("https://example.com/*", "https://example.com/a/file.txt", False),
        ("https://example.com/*", "https://example.com/", True),
        ("https://example.com/**", "https://example.com/a/b/file.txt", True),
        ("https://*.example.com/**", "https://a.example.com/b", True),
        ("https://*.example.com/**", "https://a.b.example.com/c", True),
        ("https://*.example.com/**", "https://example.com/c", False),
        ("https://*.example.com/**", "https://evil.com/x.example.com/c", False),
        ("https://example.com/v?/a", "https://example.com/v1/a", True),
        ("https://example.com/v?/a", "https://example.com/v/a", False),
        ("https://example.com?a=1", "https://example.com/a=1", True),
        ("https://example.com/a.b", "https://example.com/aXb", False),
        ("https://example.com/(a|b)[c]+^$", "https://example.com/(a|b)[c]+^$", True),
        ("https://example.com", "https://example.com/", False),
        ("**", "", True),
        ("*", "", True),
        ("?", "", False),
        ("**", "https://example.com/a\nb", True),
        ("***", "a/b/c", True),
        ("****", "a/b/c", True),
        ("a***c", "a/b/c", True),
        ("a**/*c", "a/b/c", True),
        ("**/*/**", "a/b/c", True),
        ("*?", "a", True),
        ("*?", "/", True),
        ("?*", "ab/", False),
        ("**?", "/", True),
        ("a*b*c", "abbbcbc", True),
        ("a*b*c", "abbb/c", False),
        ("\U0001f600?", "\U0001f600\U0001f600", True),
    ],
)
def test_a_pattern_describes_a_whole_url(pattern: str, url: str, expected: bool) -> None:
    assert fits(pattern, url) is expected


def as_expression(pattern: str) -> str:
    wild = {"**": ".*", "*": "[^/]*", "?": "."}
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    return "".join(wild.get(part, re.escape(part)) for part in parts)


def test_short_patterns_say_what_a_regular_expression_of_them_says() -> None:
    chance = random.Random(3)
    said = set()
    for _ in range(20_000):
        pattern = "".join(chance.choices("ab/?**", k=chance.randrange(1, 7)))
        url = "".join(chance.choices("ab/", k=chance.randrange(7)))
        expected = re.fullmatch(as_expression(pattern), url, re.DOTALL) is not None
        assert fits(pattern, url) is expected, (pattern, url)
        said.add(expected)
    assert said == {True, False}


def test_the_first_pattern_that_fits_wins() -> None:
    credentials = [
        credential("https://other/**", "other"),
        credential("https://host/a/*", "first"),
        credential("**", "last"),
    ]

    def token(url: str) -> str:
        auth = auth_for(url, credentials)
        assert isinstance(auth, BearerAuth)
        return auth.token.get_secret_value()

    assert token("https://host/a/b") == "first"
    assert token("https://host/a/b/c") == "last"
    assert auth_for("https://host/a", credentials[:2]) is None
    assert auth_for("https://host/a", []) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "*a" * 1024,
        "**a" * 680 + "!",
        "**" * 1023 + "!",
        "*?" * 1023 + "!",
        "**/" * 680 + "!",
        "?" * 1000 + "**!",
    ],
    ids=lambda pattern: pattern[:6],
)
def test_no_pattern_makes_the_search_long(pattern: str) -> None:
    url = "a" * (MAX_URL_CHARACTERS - 2) + "/b"
    before = time.process_time()
    assert not fits(pattern, url)
    # With a way back, a hundred characters would take longer than the age of the universe.
    assert time.process_time() - before < 2


def test_a_url_that_no_server_would_take_fits_nothing() -> None:
    assert fits("**", "a" * MAX_URL_CHARACTERS)
    assert not fits("**", "a" * (MAX_URL_CHARACTERS + 1))


@pytest.mark.parametrize("pattern", ["", "*" * (MAX_PATTERN_CHARACTERS + 1)])
def test_a_pattern_has_a_length(pattern: str) -> None:
    with pytest.raises(ValidationError, match="url_pattern"):
        credential(pattern)
    credential("*" * MAX_PATTERN_CHARACTERS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["type"])
def test_no_secret_shows(kind: dict[str, Any]) -> None:
    class Request(BaseModel):
        credentials: list[Credential]

    found = Credential.model_validate({"url_pattern": "**", "auth": kind})
    request = Request(credentials=[found])
    shown = [repr(found), str(found), repr(found.auth), str(request), found.model_dump_json()]
    assert all(SECRET not in text for text in shown)


WRONG = [
    *({**kind, "type": "unheard-of"} for kind in KINDS),
    *({**kind, next(name for name in kind if name != "type"): None} for kind in KINDS),
    *({"type": kind["type"], SECRET: SECRET} for kind in KINDS),
    {"type": "header", "header_name": "no header", "header_value": SECRET},
    {"type": "bearer", "token": [SECRET]},
    {"type": "basic", "username": [SECRET], "password": SECRET},
    {"token": SECRET},
    SECRET,
    [SECRET],
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_the_error_about_wrong_credentials_does_not_show_them(wrong: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Credential.model_validate({"url_pattern": "**", "auth": wrong})
    assert SECRET not in str(caught.value)
    with pytest.raises(ValidationError) as alone:
        TypeAdapter(Auth).validate_python(wrong)
    told = [(e["loc"], e["msg"], e.get("ctx")) for e in alone.value.errors(include_input=False)]
    assert SECRET not in str(told)
