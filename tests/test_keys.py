"""Keys are compared in a time that says nothing about them."""

from __future__ import annotations

import hmac

import pytest

from comfyui_stateless.keys import accepts, encoded, shown

KEYS = encoded(["first", "s\u00e9cond", "third"])


@pytest.mark.parametrize("texts", [["first"], ["third"], ["none"], [""], ["none", "s\u00e9cond"]])
def test_each_text_is_compared_with_each_key_in_constant_time(
    texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def noted(one: bytes, other: bytes) -> bool:
        assert isinstance(one, bytes)
        assert isinstance(other, bytes)
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", noted)
    found = accepts(KEYS, texts)
    assert found is any(text.encode() in KEYS for text in texts)
    assert compared == [(text.encode(), key) for text in texts for key in KEYS]


@pytest.mark.parametrize(
    "text", ["\udcff", "first\0", "FIRST", " first", "first,third", "f" * 10**6]
)
def test_nothing_near_a_key_is_one(text: str) -> None:
    assert not accepts(KEYS, [text])


def test_both_headers_are_looked_at_whatever_is_in_the_other() -> None:
    assert shown({"Authorization": "Bearer a", "X-API-Key": "b"}) == ["a", "b"]
