from __future__ import annotations

import pytest

from comfyui_stateless import naming
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


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain-id_1.2", "plain-id_1.2"),
        ("a/b\\c", "a_b_c"),
        ('a:b*c?d"e<f>g|h', "a_b_c_d_e_f_g_h"),
        ("..", "__"),
        (".hidden", "_hidden"),
        ("a\nb\0c\x7f", "a_b_c_"),
        ("rtl\u202e\u200f", "rtl__"),
        ("\u2028\ud800\ue000\uffff", "____"),
        ("\u00e9\u4e2d\U0001f600", "\u00e9\u4e2d\U0001f600"),
    ],
    ids=ascii,
)
def test_a_safe_id_names_a_file_on_every_system(text: str, safe: str) -> None:
    assert safe_id(text) == safe


@pytest.mark.parametrize("text", ["x" * 255, "\U0001f600" * 255, "\u00e9" * 255])
def test_a_safe_id_has_a_bounded_size_and_ends_with_a_whole_character(text: str) -> None:
    safe = safe_id(text)
    assert MAX_ID_BYTES - 4 < len(safe.encode()) <= MAX_ID_BYTES
    assert text.startswith(safe)


def test_a_header_id_is_printable_ascii() -> None:
    assert header_id("caf\u00e9 \U0001f600\r\nSet-Cookie: x") == "caf_ ___Set-Cookie_ x"


@pytest.mark.parametrize(
    ("prefix", "prepended"),
    [("b", "id_b"), ("a/b", "a/id_b"), ("a/b/c", "a/b/id_c"), ("a/", "a/id_"), ("", "id_")],
)
def test_the_id_goes_in_front_of_the_last_component_or_replaces_all(
    prefix: str, prepended: str
) -> None:
    assert output_prefix(prefix, "id", prepend=True) == prepended
    assert output_prefix(prefix, "id", prepend=False) == "id"


@pytest.mark.parametrize(
    "path",
    ["..", "../a", "a/../../b", "a\\..\\b", "/a", "\\a", "\\\\host\\a", "c:/a", "c:\\a", "a\0"],
)
def test_a_path_that_could_leave_its_folder_is_seen(path: str) -> None:
    assert leaves_folder(path)


@pytest.mark.parametrize("path", ["a", "a/b", "..a", "a..b/c", "%date:yyyy/MM%/a", ""])
def test_a_path_that_stays_is_let_through(path: str) -> None:
    assert not leaves_folder(path)


def test_a_taken_name_gets_the_next_free_counter() -> None:
    names = UniqueNames({"a_00001_.png", "a_00002_.png"})
    assert names.give("a_00001_.png") == "a_00003_.png"
    assert names.give("b_00001_.png") == "b_00001_.png"
    assert names.give("a_00001_.png") == "a_00004_.png"


def test_many_equal_names_are_changed_in_a_few_steps_each(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    original = naming._next_name

    def counted(name: str) -> str:
        nonlocal steps
        steps += 1
        return original(name)

    monkeypatch.setattr(naming, "_next_name", counted)
    names, wanted = UniqueNames(), [f"a_{number:05}_.png" for number in range(1, 1001)]
    given = [names.give(name) for _ in range(3) for name in [*wanted, "a_00001_.png"]]
    assert len(set(given)) == len(given)
    assert steps < 3 * len(given)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("a.png", "a_00002.png"),
        ("a", "a_00002"),
        ("f/a_09_.png", "f/a_10_.png"),
        ("a_99.glb", "a_100.glb"),
        ("a.tar.gz", "a.tar_00002.gz"),
    ],
)
def test_a_taken_name_of_another_form_is_still_changed_readably(name: str, other: str) -> None:
    assert UniqueNames({name}).give(name) == other


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/a?sig=hush#hush", "https://h/a?…"),
        ("https://u:hush@h/a", "https://h/a"),
        ("https://u:hu@sh@h/a", "https://h/a"),
        ("https://u:hush@h.example/a@v1?x=@hush", "https://h.example/a@v1?…"),
        ("https://u:hush@h/a?x=/@hush", "https://…"),
        ("https://u:hu/sh@h/a", "https://…"),
        ("https://u:hu?sh@h/a?x=@hush", "https://…"),
        ("https://u:hu@s/h@h/a", "https://…"),
        ("https://[::1]:80/a@b", "https://[::1]:80/a@b"),
        ("https://h:80/a@b?hush", "https://h:80/a@b?…"),
        ("//u:hush@h/a", "//h/a"),
        (" https://u:hush@h/a", " https://h/a"),
        ("u:hush@h/a?hush", "h/a?…"),
        ("x?hush://h", "x?…"),
        ("a/b.png", "a/b.png"),
    ],
)
def test_nothing_secret_is_in_an_address_that_is_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize("prefix", ["./\\/a", ".//C:/a", "a/../C:\\a"])
def test_a_prefix_that_becomes_absolute_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="inside the output folder"):
        ImageNames().base(prefix, 4, 4)
