"""The Kubernetes example, as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.package.tools import CHECKOUT

FOLDER = CHECKOUT / "examples" / "kubernetes"


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.yaml"))


def objects(kind: str) -> list[Any]:
    """Return all objects of a kind."""
    found = [each for path in files() for each in yaml.safe_load_all(path.read_text())]
    return [each for each in found if each["kind"] == kind]


def only(kind: str) -> Any:
    (found,) = objects(kind)
    return found


def container() -> Any:
    """Return the container of the deployment."""
    (found,) = only("Deployment")["spec"]["template"]["spec"]["containers"]
    return found


def variables() -> dict[str, str]:
    """Return the variables of the container that are written down as they are."""
    return {each["name"]: each["value"] for each in container()["env"]}


def before_stop() -> str:
    """Return the script that runs before a container is told to stop."""
    shell, flag, script = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert (shell, flag) == ("/bin/sh", "-c")
    return str(script)
