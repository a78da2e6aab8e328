"""The launcher's variables, flags and manifests with odd values: told in a line, never broken."""

from __future__ import annotations

import io
import json
import os
import typing
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from comfyui_stateless.config import Settings
from comfyui_stateless.launcher.cli import main
from comfyui_stateless.launcher.settings import LauncherSettings
from tests.fuzz.strategies import TOKEN
from tests.launcher.running import environment

FIELDS = {**LauncherSettings.model_fields, **Settings.model_fields}
NAMES = sorted(FIELDS)
SECRETS = [n for n in NAMES if SecretStr in typing.get_args(FIELDS[n].annotation)]

ODD = (
    "", " ", "0", "-1", "1.5", "1e999", "nan", "inf", "-0", "9" * 5000, "\u0663", "1_000", "0x10", "+1",
    "true", "True ", "yes", "\u00e9", "\udcff", "a\nb", "\r", "\x1b[31m", "/", "~", "~no.such.user/x", ".",
    "x" * 5000, "a/" * 3000, "http://[", "http://[::1", "http://a:99999", "http://a:b", "http://\u2100.a",
    "//a", "[::1]:80", "::1%eth0", "*", ",", ",,a", "'", '"', "$(x)", "{}", "[]", "null", "None", "\u2028",
    f"http://u:{TOKEN}@", f"https://u:{TOKEN}@a:x/", f"u:{TOKEN}@host", f"u:{TOKEN}@[",
)  # fmt: skip
ADDRESSES = (
    "allowed_hosts", "aws_endpoint_url", "hf_endpoint", "http_auth_allowed_origins",
    "http_trusted_origins", "no_proxy", "salad_metadata_url",
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(ODD),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
)
SURELY_WRONG = {
    "port": "x", "max_queue_depth": "-1", "log_level": "loud", "expose_comfyui": "maybe", "cmd": "'",
    "startup_check_max_tries": "0", "allowed_hosts": "a b", "webhook_secret": "\u00e9", "api_keys": ",",
    "manifest": "/no/such/file", "http_trusted_origins": "ftp://a", "result_ttl_s": "nan",
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a ComfyUI."""
    home = tmp_path_factory.mktemp("home")
    for file in ("main.py", "folder_paths.py", "comfy/cli_args.py"):
        (home / file).parent.mkdir(exist_ok=True)
        (home / file).touch()
    return home


def told(home: Path, variables: Mapping[str, str], flags: Sequence[str] = ()) -> tuple[int, str]:
    """Ask what the launcher would do; return its exit code and all that it wrote."""
    written, wrong = io.BytesIO(), io.BytesIO()
    said = io.TextIOWrapper(written, "utf-8", "strict")
    complained = io.TextIOWrapper(wrong, "utf-8", "backslashreplace")
    given = {name.upper(): value for name, value in variables.items()}
    env = {**environment(home), "COMFY_HOME": str(home), **given}
    patched = mock.patch.dict(os.environ, env, clear=True)
    with patched, redirect_stdout(said), redirect_stderr(complained):
        try:
            code: object = main(["--dry-run", *flags])
        except SystemExit as end:
            code = end.code
    said.flush()
    complained.flush()
    text = (written.getvalue() + wrong.getvalue()).decode()
    assert code in (0, 2), text
    assert "Traceback" not in text
    return int(str(code)), text


@given(variables=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5))
@example(variables={"manifest": "x" * 5000})
@example(variables={"comfy_home": "x" * 5000})
@example(variables={"comfy_home": "a\nb"})
@example(variables={"comfy_home": "a\udcff"})
@example(variables={"cache_dir": "~no.such.user/x"})
def test_any_variables_are_taken_or_told_of_in_a_line(
    home: Path, variables: dict[str, str]
) -> None:
    code, text = told(home, variables)
    if code == 2:
        assert len(text.splitlines()) == 1 or "MANIFEST_JSON" in text, text
        assert any(name.upper() in text for name in variables), text


@given(names=st.lists(st.sampled_from(sorted(SURELY_WRONG)), min_size=1, max_size=4, unique=True))
def test_every_wrong_variable_is_named(home: Path, names: list[str]) -> None:
    code, text = told(home, {name: SURELY_WRONG[name] for name in names})
    assert code == 2
    assert all(name.upper() in text for name in names), text


@given(
    name=st.sampled_from([*SECRETS, *ADDRESSES]),
    value=st.sampled_from([v for v in ODD if TOKEN in v]),
)
def test_no_secret_in_a_variable_is_told(home: Path, name: str, value: str) -> None:
    assert TOKEN not in told(home, {name: value})[1]


@given(
    flags=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(NAMES), VALUES).map(
                lambda pair: f"--{pair[0].replace('_', '-')}={pair[1]}"
            ),
            st.sampled_from(
                ["--", "--dry-run", "--version", "-h", "--no-such", "x", "--port", "-"]
            ),
        ),
        max_size=4,
    )
)
@example(flags=["--", "\udcff"])
@example(flags=["--input-dir=~no.such.user/x"])
def test_any_flags_are_taken_or_told_of(home: Path, flags: list[str]) -> None:
    told(home, {}, flags)


@given(text=VALUES)
def test_any_manifest_is_taken_or_told_of(home: Path, text: str) -> None:
    file = home / "manifest.yml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    told(home, {"manifest": str(file)})


@given(path=VALUES.filter(lambda text: "\udcff" not in text))
@example(path="~no.such.user/x")
@example(path="x" * 300)
def test_any_place_for_a_model_is_taken_or_told_of(home: Path, path: str) -> None:
    model = {"url": "http://127.0.0.1:1/a", "local_path": path}
    code, text = told(home, {"manifest_json": json.dumps({"models": {"before_start": [model]}})})
    assert code == 0 or "models.before_start[0]" in text, text
