"""The example worker for RunPod: what it hands on, and what it makes of failures."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from examples.runpod import handler
from tests.api.conftest import Serve, Site
from tests.fakes import graph


@pytest.fixture
async def site(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Site:
    site = await serve(api_keys="one,two")
    monkeypatch.setenv("PORT", str(site.client.port))
    monkeypatch.setenv("API_KEYS", "one,two")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    return site


@pytest.mark.usefixtures("site")
async def test_a_job_s_input_is_a_prompt_and_its_output_the_answer() -> None:
    job = {"id": "job-1", "input": {"prompt": graph()}}
    answer = await asyncio.to_thread(handler.handle, job)
    assert answer["id"] == "job-1"
    assert len(answer["images"]) == 1


@pytest.mark.usefixtures("site")
async def test_a_refusal_is_a_failed_job_with_the_reason() -> None:
    answer = await asyncio.to_thread(handler.handle, {"id": "job-2", "input": {"prompt": {}}})
    assert set(answer) == {"error"}
    assert json.loads(answer["error"])["code"] == "invalid_request"


@pytest.mark.usefixtures("site")
async def test_a_server_that_is_warm_is_healthy() -> None:
    assert await asyncio.to_thread(handler.is_healthy)


def test_a_launcher_that_ends_ends_the_worker_with_its_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORT", "9")
    with (
        subprocess.Popen([sys.executable, "-c", "raise SystemExit(2)"]) as launcher,
        pytest.raises(SystemExit) as ended,
    ):
        handler.wait_until_healthy(launcher)
    assert ended.value.code == 2
