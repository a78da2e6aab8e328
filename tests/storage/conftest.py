from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.storage.contract")

# What these import has to be rewritten first.
from tests.storage.azurite import Azurite, azurite  # noqa: E402 - as said
from tests.storage.s3_store import WRONG_SECRET, S3Store, from_environment  # noqa: E402 - as said
from tests.storage.seaweed import ADMIN, STRANGER, Seaweed, seaweed  # noqa: E402 - as said


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """Give a real S3 server, which is started for the first test that needs it."""
    with seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="module")
def no_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the settings of the machine that runs the tests out of them."""
    nowhere = str(tmp_path_factory.getbasetemp() / "nowhere")
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        environment.setenv("AWS_CONFIG_FILE", nowhere)
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="module")
def by_environment(s3_server: Seaweed, no_aws: None) -> S3Store:
    origin = s3_server.origin
    refused = {
        "a stranger": from_environment(STRANGER, origin),
        "a wrong secret": from_environment(WRONG_SECRET, origin),
        "nobody": from_environment(None, origin),
    }
    return S3Store(
        s3_server,
        origin,
        from_environment(ADMIN, origin),
        refused={what: (backend, None) for what, backend in refused.items()},
    )


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """Give a real emulator of Azure's blobs, which is started for the first test that needs it."""
    with azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server
