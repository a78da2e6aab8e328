from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from comfyui_stateless.uploads import Uploads
from tests.uploads.receiver import Receiver, receiving
from tests.uploads.uploading import backends


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def make() -> Iterator[Callable[..., Uploads]]:
    """Give uploads over HTTP that do not wait between tries, and close them."""
    made = []

    def new(**how: Any) -> Uploads:
        uploads = Uploads(backends(), **{"retry_delays": (0.0, 0.0), **how})
        made.append(uploads)
        return uploads

    yield new
    for uploads in made:
        uploads.close()


@pytest.fixture
def uploads(make: Callable[..., Uploads]) -> Uploads:
    return make()
