"""The README names what there is: every setting, route and error code, with its true default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from comfyui_stateless import errors
from comfyui_stateless.api.app import ROUTES
from comfyui_stateless.config import Settings
from comfyui_stateless.launcher.settings import LauncherSettings

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def rows() -> dict[str, str]:
    """Return the README's table rows by their first cell."""
    cells = [line.strip("|").split("|") for line in README.splitlines() if line.startswith("| `")]
    return {first.strip().strip("`"): "|".join(rest).strip() for first, *rest in cells}


FIELDS = {**LauncherSettings.model_fields, **Settings.model_fields}


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_has_its_row_and_default(name: str) -> None:
    default = FIELDS[name].default
    text = str(default).lower() if isinstance(default, bool) else str(default)
    assert rows()[name.upper()].startswith("none" if default is None else f"`{text}`")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_every_route_is_named(route: object) -> None:
    path = re.sub(r"\{(\w+):[^}]+\}", r"{\1}", str(getattr(route, "path"))).rstrip("/")  # noqa: B009
    assert path.startswith("/docs/") or f"{getattr(route, 'method')} {path}`" in README  # noqa: B009


def test_every_error_code_that_a_route_answers_is_named() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type)]
    codes = {c.code for c in classes if issubclass(c, errors.StatelessError)}
    assert {code for code in codes if f"`{code}`" not in README} == set()
