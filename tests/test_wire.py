"""What is written as JSON says what it was given, in the bytes that a client would write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comfyui_stateless.wire import escaped, own_json, to_json


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a": [1, 2.5, None, True]}, '{"a":[1,2.5,null,true]}'),
        ("caf\u00e9 \u65e5\u672c \U0001f600 \u2028", '"caf\u00e9 \u65e5\u672c \U0001f600 \u2028"'),
        ('\x00\n"\\', '"\\u0000\\n\\"\\\\"'),
        ([float("nan"), (float("inf"), "\u00e9")], '[null,[null,"\u00e9"]]'),
        ({"a": json}, json.dumps({"a": str(json)}, separators=(",", ":"))),
    ],
)
def test_values_are_written_as_utf8(value: Any, written: str) -> None:
    assert to_json(value) == written.encode()


def test_half_characters_are_escaped_as_utf8_cannot_say_them() -> None:
    value = {"\u00e9": "\ud83d", "number": float("nan")}
    assert json.loads(to_json(value)) == {"\u00e9": "\ud83d", "number": None}
    assert to_json("\ud83d") == b'"\\ud83d"'


def test_a_text_can_be_had_in_ascii() -> None:
    assert escaped('\u00e9"\U0001f600') == '\\u00e9\\"\\ud83d\\ude00'


def test_what_we_wrote_is_read_whatever_a_pack_has_made_of_json(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("dumps", "loads", "detect_encoding"):
        monkeypatch.setattr(json, name, lambda *_, **__: "nonsense")
    assert own_json(to_json({"é": [1, None]})) == {"é": [1, None]}
    with pytest.raises(ValueError, match="Expecting"):
        own_json(b"{")
