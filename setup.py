"""Says what pyproject.toml cannot: the root's entry and scripts go into the wheel too.

There they are ``comfyui_stateless/custom_node``, from where the launcher links them into a ComfyUI.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithEntry(build_py):
    """Builds the package, with what ComfyUI imports and serves."""

    def run(self) -> None:
        """Build."""
        super().run()
        if self.editable_mode:
            return
        place = Path(self.build_lib, "comfyui_stateless", "custom_node")
        place.mkdir(exist_ok=True)
        for name in ("__init__.py", "requirements.txt"):
            shutil.copyfile(ROOT / name, place / name)
        if (ROOT / "js").is_dir():
            shutil.copytree(ROOT / "js", place / "js", dirs_exist_ok=True)


setup(
    packages=find_packages(include=["comfyui_stateless*"]),
    package_data={"comfyui_stateless": ["workflows/node/*.js*"]},
    cmdclass={"build_py": BuildWithEntry},
)
