from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.storage.azurite import Azurite, azurite
from tests.storage.seaweed import Seaweed, seaweed

pytest.register_assert_rewrite("tests.storage.contract")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """Give a real S3 server, which is started for the first test that needs it."""
    with seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """Give a real emulator of Azure's blobs, which is started for the first test that needs it."""
    with azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server
