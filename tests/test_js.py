"""The modules of the editor's tab that need no page, run in Node."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CALL = Path(__file__).parent / "data" / "call.mjs"
FILES = sorted((ROOT / "js").rglob("*.js"))

NASTY = "it's \"quoted\" `touch a` $(touch b) $HOME !! \\ \n\t\r\0 \x7f\x9b\u2028\u202e </script> ü 🙂 ''' JSON"


@pytest.fixture(autouse=True)
def _node() -> None:
    if shutil.which("node") is None:
        pytest.fail("node is not there: install Node.js 18 or newer")


def run(module: str, name: str, *calls: list[Any]) -> list[Any]:
    """Call a function of a module with each list of arguments; return the results."""
    done = subprocess.run(
        ["node", CALL, module, name], input=json.dumps(calls), capture_output=True, text=True,
        timeout=30, check=True,
    )  # fmt: skip
    results: list[Any] = json.loads(done.stdout)
    return results


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_each_file_is_a_module_that_parses(file: Path) -> None:
    command = ["node", "--input-type=module", "--check"]
    done = subprocess.run(command, input=file.read_bytes(), capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr.decode()


def test_all_but_the_entry_do_nothing_by_being_loaded() -> None:
    urls = json.dumps([file.as_uri() for file in FILES if file.name != "stateless.js"])
    # There is no page here: a module that touched one would fail.
    script = f"for (const url of {urls}) await import(url);"
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script], capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_a_python_literal_is_the_value() -> None:
    values: list[Any] = [
        NASTY, None, True, False, 0, -1.5, 1e21, [], {}, [1, [NASTY, None]], {NASTY: {"a": [{}]}},
        {"__proto__": 1}, "\ud83d",
    ]  # fmt: skip
    texts = run("snippets", "pythonLiteral", *[[value] for value in values])
    assert [ast.literal_eval(text) for text in texts] == values


def test_a_word_of_the_shell_is_the_text() -> None:
    words = [NASTY.replace("\0", ""), "", "-n", "~", "plain/path.json", "'"]
    for word, quoted in zip(words, run("snippets", "shell", *[[w] for w in words]), strict=True):
        done = subprocess.run(
            ["bash", "-c", f"printf %s {quoted}"], capture_output=True, timeout=10, check=True
        )
        assert done.stdout.decode() == word


def test_a_curl_pasted_into_an_interactive_shell_sends_the_value(tmp_path: Path) -> None:
    call = {"url": "http://127.0.0.1/x", "body": {"prompt": NASTY}}
    [curl] = run("snippets", "snippet", ["curl", call])
    fake = tmp_path / "curl"
    fake.write_text(f"#!/bin/sh\ncat > {tmp_path}/body\n")
    fake.chmod(0o755)
    subprocess.run(
        ["bash", "--norc", "-i"], input=curl.encode(), capture_output=True, timeout=10,
        cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)},
        start_new_session=True,
    )  # fmt: skip
    assert json.loads((tmp_path / "body").read_text()) == {"prompt": NASTY}
    assert sorted(path.name for path in tmp_path.iterdir() if path.name in ("a", "b")) == []
    assert not set("\x7f\x9b\u2028\u202e!") & set(curl)


def test_a_javascript_literal_is_the_value(tmp_path: Path) -> None:
    body = {"prompt": {"__proto__": {"a": NASTY}, "b": [NASTY]}}
    call = {"url": "http://127.0.0.1:9/x", "body": body, "isAsync": True}
    [text] = run("snippets", "snippet", ["javascript", call])
    written = text.partition("const response")[0] + "process.stdout.write(JSON.stringify(body));"
    (tmp_path / "call.mjs").write_text(written)
    done = subprocess.run(
        ["node", "call.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    assert json.loads(done.stdout) == body


@pytest.mark.parametrize("answer", ["json", "zip", "file"])
@pytest.mark.parametrize("language", ["python", "javascript"])
@pytest.mark.parametrize("key", [None, {}, {"literal": 'it\'s a "key"'}])
def test_every_form_of_a_call_parses(language: str, answer: str, key: Any, tmp_path: Path) -> None:
    call = {"url": "https://example.com/a?b='", "body": {"a": NASTY}, "answer": answer, "key": key}
    [text] = run("snippets", "snippet", [language, call])
    if language == "python":
        ast.parse(text)
    else:
        (tmp_path / "call.mjs").write_text(text)
        subprocess.run(["node", "--check", tmp_path / "call.mjs"], timeout=30, check=True)


def test_events_are_whole_however_the_bytes_come() -> None:
    stream = 'event: job\r\ndata: {"a":\r\ndata: 1}\r\n\r\n: still here\n\nid: 7\ndata: "ü"\n\nevent: x\n\n'
    script = f"""
      import {{ EventParser }} from {json.dumps((ROOT / "js/stateless/sse.js").as_uri())};
      const stream = {json.dumps(stream)};
      for (let size = 1; size <= stream.length; size += 1) {{
        const parser = new EventParser();
        const found = [];
        for (let at = 0; at < stream.length; at += size) {{
          found.push(...parser.push(stream.slice(at, at + size)));
        }}
        console.log(JSON.stringify(found));
      }}"""
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script], capture_output=True, text=True, timeout=30
    )
    expected = [{"name": "job", "data": '{"a":\n1}'}, {"name": "message", "data": '"ü"'}]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(stream)
    assert [each for each in found if each != expected] == []


@pytest.mark.parametrize(
    ("title", "marks"),
    [
        ("Sampler @seed", [("seed", None)]),
        ("@a=text @b=seed Text", [("a", "text"), ("b", "seed")]),
        ("me@example.com @1st @a-b @", []),
    ],
)
def test_marks_are_read_as_the_server_reads_them(
    title: str, marks: list[tuple[str, str | None]]
) -> None:
    from comfyui_stateless.workflows.marks import marks_of

    [found] = run("marks", "marksOf", [title])
    assert [(mark["name"], mark["widget"]) for mark in found] == marks
    server = marks_of({"_meta": {"title": title}})
    assert [(mark.name, mark.widget) for mark in server] == marks


def test_marks_are_set_and_taken_away() -> None:
    assert run("marks", "withMark", ["Text", "a", "text"], ["@a=seed X", "a", None]) == [
        "Text @a=text",
        "X @a",
    ]
    assert run("marks", "withoutMark", ["Text @a=text @b", "a"], ["Text @ab", "a"]) == [
        "Text @b",
        "Text @ab",
    ]


@pytest.mark.parametrize(
    ("path", "is_good"),
    [
        ("a", True), ("a/b c.d_e-f", True), ("", False), ("/a", False), ("a/", False),
        ("a//b", False), (".a", False), ("../a", False), ("a.json", False), ("a.", False),
        ("ä", False), ("a/../b", False),
    ],
)  # fmt: skip
def test_a_path_that_the_server_would_refuse_is_refused_at_once(path: str, is_good: bool) -> None:
    from comfyui_stateless.errors import RequestError
    from comfyui_stateless.workflows.publishing import _checked_path

    [trouble] = run("endpoint", "pathTrouble", [path])
    assert (trouble is None) == is_good
    try:
        _checked_path(Path("/workflows"), path)
    except RequestError:
        assert not is_good
    else:
        assert is_good
