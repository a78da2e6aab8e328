"""A manifest is read whole, or all that is wrong with it is told, line by line."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.errors import ConfigError, ManifestError
from comfyui_stateless.manifest import Manifest, read
from tests.manifest.installing import NAME, manifest_of

WHOLE = """\
apt:
  - ffmpeg
  - libgl1=1.6.0-1
pip:
  - "torchao>=0.9; python_version >= '3.10'"
  - git+https://github.com/a/b@v1
custom_nodes:
  - comfyui-impact-pack
  - comfyui-kjnodes@1.1.0
  - https://github.com/a/pack/tree/feat/x
models:
  before_start:
    - url: https://example.com/a.safetensors?key=1
      local_path: models/checkpoints/a.safetensors
      sha256: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
  after_start:
    - url: s3://bucket/path/b.safetensors
      local_path: /opt/ComfyUI/models/loras/b.safetensors
"""


def problems(text: str, name: str = NAME) -> str:
    with pytest.raises(ManifestError) as caught:
        read(text, name=name)
    return caught.value.message


def test_every_field_is_read_with_its_line() -> None:
    found = manifest_of(WHOLE)
    assert [(e.text, e.line, e.path) for e in found.apt + found.pip] == [
        ("ffmpeg", 2, "apt[0]"),
        ("libgl1=1.6.0-1", 3, "apt[1]"),
        ("torchao>=0.9; python_version >= '3.10'", 5, "pip[0]"),
        ("git+https://github.com/a/b@v1", 6, "pip[1]"),
    ]
    assert [(n.name, n.clone_url, n.ref, n.line) for n in found.custom_nodes] == [
        ("comfyui-impact-pack", None, None, 8),
        ("comfyui-kjnodes", None, "1.1.0", 9),
        ("pack", "https://github.com/a/pack", "feat/x", 10),
    ]
    (before,), (after,) = found.before_start, found.after_start
    assert (before.text, before.line) == ("https://example.com/a.safetensors?key=1", 13)
    assert before.sha256 == "a" * 64
    assert before.path_in(Path("/c")) == Path("/c/models/checkpoints/a.safetensors")
    assert after.path_in(Path("/c")) == Path("/opt/ComfyUI/models/loras/b.safetensors")
    assert found.warnings == ()


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n", "{}", "~", "apt:\npip: null\ncustom_nodes: []\nmodels:\n",
     "models:\n  before_start:\n  after_start: []\n"],
)  # fmt: skip
def test_every_field_may_be_left_out_or_empty(text: str) -> None:
    assert manifest_of(text) == Manifest(NAME)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("apt: ffmpeg", "line 1, apt: it is a text, and has to be a list."),
        ("apt: {a: b}", "line 1, apt: it is a mapping, and has to be a list."),
        ("apt:\n- 7", "line 2, apt[0]: it is a number (in quotes it is a text)"),
        ("apt:\n- yes", "line 2, apt[0]: it is true or false"),
        ("apt:\n- a1\n-", "line 3, apt[1]: it is empty, and has to be a text."),
        ("apt:\n- ''", "line 2, apt[0]: it is empty."),
        ("apt:\n- [x]", "line 2, apt[0]: it is a list, and has to be a text."),
        ("apt:\n- --allow-x", "line 2, apt[0]: '--allow-x' is an option"),
        ("apt:\n- ffmpeg vlc", "line 2, apt[0]: 'ffmpeg vlc' is no apt package"),
        ("apt:\n- bash-", "line 2, apt[0]: 'bash-' is no apt package"),
        ("apt:\n- FFmpeg", "line 2, apt[0]: 'FFmpeg' is no apt package"),
        ("pip: torch", "line 1, pip: it is a text"),
        ("pip:\n- 1.5", "line 2, pip[0]: it is a number"),
        ("pip:\n- -r x.txt", "line 2, pip[0]: '-r x.txt' is an option"),
        ("pip:\n- --index-url https://u:hush@h/x?t=hush", "'--index-url https://h/x?…' is an option"),
        ("pip:\n- torch --pre", "line 2, pip[0]: 'torch --pre' is no requirement"),
        ("pip:\n- six idna", "line 2, pip[0]: 'six idna' is no requirement"),
        ("pip:\n- six=1", "line 2, pip[0]: 'six=1' is no requirement"),
        ('pip:\n- "six\\n-r x"', "line 2, pip[0]: it holds a line break"),
        ("custom_nodes: a", "line 1, custom_nodes: it is a text"),
        ("custom_nodes:\n- {url: x}", "line 2, custom_nodes[0]: it is a mapping"),
        ("custom_nodes:\n- --x", "line 2, custom_nodes[0]: '--x' is no custom node"),
        ("custom_nodes:\n- git@github.com:a/b", "custom_nodes[0]: 'git@github.com:a/b' is no cust"),
        ("custom_nodes:\n- u:hush@h/a?t=hush", "custom_nodes[0]: '…@h/a?…' is no custom node"),
        ("custom_nodes:\n- https:/u:hush@h/a", "custom_nodes[0]: '…@h/a' is no custom node"),
        ("custom_nodes:\n- git@h:a/b?t=hush", "custom_nodes[0]: 'git@h:a/b?…' is no custom node"),
        ("pip:\n- git+https:/u:hush@h/a", "pip[0]: '…@h/a' is no requirement"),
        ("pip:\n- --index-url=//u:hush@h/a", "pip[0]: '…@h/a' is an option"),
        ("custom_nodes:\n- ssh://git@h/a/b", "line 2, custom_nodes[0]: 'ssh://h/a/b' is no repo"),
        ("custom_nodes:\n- https://h/a@--upload-pack=x", "custom_nodes[0]: 'https://h/a@--upl"),
        ("custom_nodes:\n- https://h/a/%2e%2e", "ends in nothing that can name a folder"),
        ("custom_nodes:\n- https://h/a/b\n- https://i/B.git", "line 3, custom_nodes[1]: it is the same"),
        ("models: []", "line 1, models: it is a list, and has to be a mapping of before_start"),
        ("models:\n  before_start: x", "line 2, models.before_start: it is a text"),
        ("models:\n  after_start:\n  - x", "line 3, models.after_start[0]: it is a text, and has to"),
        ("models:\n  after_start:\n  - ", "line 3, models.after_start[0]: it is empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_list_is_told(text: str, expected: str) -> None:
    assert expected in problems(text)
    assert "hush" not in problems(text)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"local_path": "a/b"}, "models.before_start[0]: it has no url"),
        ({"url": "https://h/a"}, "models.before_start[0]: it has no local_path"),
        ({"url": "", "local_path": "a"}, "models.before_start[0].url: it is empty."),
        ({"url": None, "local_path": "a"}, "models.before_start[0].url: it is empty, and has to"),
        ({"url": 3, "local_path": "a"}, "models.before_start[0].url: it is a number"),
        ({"url": "h/a", "local_path": "a"}, "models.before_start[0].url: 'h/a' is no URL"),
        ({"url": "ftp://u:hush@h/a?hush", "local_path": "a"}, "url: 'ftp://h/a?…' is no URL"),
        ({"url": "file:///etc/x", "local_path": "a"}, "'file:///etc/x' is no URL"),
        ({"url": "https://", "local_path": "a"}, "'https://' is no URL"),
        ({"url": "s3://bucket", "local_path": "a"}, "'s3://bucket' is no object"),
        ({"url": "https://h/a", "local_path": ""}, "[0].local_path: it is empty."),
        ({"url": "https://h/a", "local_path": "a/"}, "[0].local_path: 'a/' names a folder"),
        ({"url": "https://h/a", "local_path": ".."}, "[0].local_path: '..' names a folder"),
        ({"url": "https://h/a", "local_path": ["a"]}, "[0].local_path: it is a list"),
        ({"url": "https://h/a", "local_path": "a\0"}, "[0].local_path: it holds a line break"),
        ({"url": "https://h/a", "local_path": "a", "sha256": "12"}, "[0].sha256: it is no SHA-256"),
        ({"url": "https://h/a", "local_path": "a", "sha265": "1"}, "sha265: there is no such key"),
        ({"url": "https://h/a", "locl_path": "a"}, "locl_path: there is no such key; local_path"),
    ],
)
def test_what_is_wrong_with_a_model_is_told(model: dict[str, Any], expected: str) -> None:
    text = json.dumps({"models": {"before_start": [model]}}, indent=1)
    found = problems(text, "MANIFEST_JSON")
    assert expected in found
    assert "MANIFEST_JSON, line " in found
    assert "hush" not in found


def test_all_wrong_entries_are_told_at_once_in_the_order_of_their_lines() -> None:
    text = "pip: [-x]\napt: [-y]\nmodels:\n  after_start:\n  - url: z\n    local_path: z\n"
    message = problems(text)
    places = [line.split(":")[0] for line in message.splitlines()[1:]]
    assert places == [
        f"{NAME}, line 1, pip[0]",
        f"{NAME}, line 2, apt[0]",
        f"{NAME}, line 5, models.after_start[0].url",
    ]
    assert issubclass(ManifestError, ConfigError)


def test_a_reason_ends_in_one_full_stop() -> None:
    assert problems("custom_nodes: [ftp://h/a]").endswith("begin with http:// or https://.")


def test_two_models_may_not_have_the_same_path() -> None:
    text = """
models:
  before_start:
  - {url: https://h/a, local_path: models/x}
  after_start:
  - {url: https://h/b, local_path: models/../models/x}
"""
    expected = "line 6, models.after_start[0]: its local_path is that of models.before_start[0]"
    assert expected in problems(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("apt: [ffmpeg]\napt: [vlc]", "line 2, apt: it stands there a second time, after line 1."),
        ("model: {}", "line 1, model: there is no such key; models may be meant."),
        ("custom-nodes: []", "line 1, custom-nodes: there is no such key; custom_nodes may"),
        ("models: {before-start: []}", "line 1, models.before-start: there is no such key"),
        ("1: []", "line 1, (all): a number"),
        ("- apt", "line 1, (all): it is a list, and has to be a mapping of apt, pip"),
        ("just words", "line 1, (all): it is a text, and has to be a mapping"),
        ("apt: !x []", "line 1, apt: it is of the unknown type !x"),
    ],
)
def test_keys_that_cannot_be_meant_are_told(text: str, expected: str) -> None:
    assert expected in problems(text)


def test_an_unknown_key_is_told_and_has_no_effect(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = manifest_of("apt: [ffmpeg]\nsettings: {x: 1}\n")
    assert [e.text for e in found.apt] == ["ffmpeg"]
    (warning,) = found.warnings
    assert warning.startswith(f"{NAME}, line 2, settings: the key is unknown and has no effect")
    assert warning in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("apt:\n\t- ffmpeg", "cannot be read as YAML: line 2, column 1: found character '\\t'"),
        ("apt: [ffmpeg\npip: []", "cannot be read as YAML: line 2, column 4"),
        ("apt: 'x\n", "cannot be read as YAML: line 2, column 1"),
        ("apt: []\n---\npip: []", "cannot be read as YAML: line 2, column 1"),
        ("apt:\n- *x", "cannot be read as YAML: line 2, column 3: found undefined alias"),
        ("apt:\n- a\x01", "cannot be read as YAML: line 2: special characters are not allowed"),
        ("models: {after_start: [{url: https://h/a?b}]}", "a URL with a ? has to stand in quotes"),
        ('{"apt": ["a"\n "b"]}', "cannot be read as JSON: line 2, column 2: Expecting ','"),
        ('{"apt": ["a"]', "cannot be read as JSON: line 1, column 14"),
        ("apt: " + "[" * 100_000, "is nested too deep"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(text: str, expected: str) -> None:
    assert expected in problems(text)


def test_json_means_what_json_means() -> None:
    url, path = "https:\\/\\/h\\/a", "m/\\ud83d\\ude00\\u00e9😀\u2028/x"
    text = f'{{\t"apt":\t["ffmpeg"],\n\t"models":{{"after_start":[{{"url":"{url}","local_path":"{path}"}}]}}}}'
    expected = json.loads(text)["models"]["after_start"][0]
    assert "line 2, models.after_start[0].local_path: it holds a line break" in problems(text)
    (model,) = manifest_of(text.replace("\u2028", "")).after_start
    assert model.text == expected["url"] == "https://h/a"
    assert model.local_path == expected["local_path"].replace("\u2028", "")
    assert "line 1, pip[0]: it is a number" in problems('{"pip": [1e5]}')


def test_a_mapping_may_take_over_another() -> None:
    text = """
models:
  before_start:
  - &first {url: "https://h/a", local_path: a}
  - {<<: *first, local_path: b}
"""
    assert [m.local_path for m in manifest_of(text).before_start] == ["a", "b"]


def test_a_secret_is_in_no_text_of_an_entry() -> None:
    text = """
pip: ["git+https://u:hush@h/a@v1", "x @ https://h/x.whl?token=hush"]
custom_nodes: ["https://u:hush@h/a/b@v1"]
models: {before_start: [{url: "https://u:hush@h/a?hush", local_path: a}]}
"""
    found = manifest_of(text)
    assert "hush" not in repr(found)
    shown = [*map(str, found.pip), *map(str, found.custom_nodes), *map(str, found.models)]
    assert "hush" not in " ".join(shown)
    assert str(found.custom_nodes[0]) == "https://h/a/b@v1"
