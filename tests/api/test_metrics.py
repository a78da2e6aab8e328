"""GET /metrics."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.cache import Held
from comfyui_stateless.engine import DeviceMemory
from comfyui_stateless.errors import ExecutionError, StorageError
from comfyui_stateless.metrics.metrics import SOURCES
from comfyui_stateless.readiness import Phase
from tests.accepting import loading_engine, loading_graph, soon
from tests.api.conftest import Serve, Site
from tests.cache.origin import serving
from tests.fakes import FakeEngine, Gate, Play, eventually, graph
from tests.metrics.scraping import OPENMETRICS, TEXT, Scrape, complaints, read
from tests.webhooks.receivers import Receiver

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"

SECRET = "planted-secret-value"


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    receiver = await Receiver().start()
    yield receiver
    await receiver.stop()


async def scraped(site: Site, accept: str = TEXT, **headers: str) -> Scrape:
    async with site.client.get("/metrics", headers={"Accept": accept, **headers}) as response:
        assert response.status == 200, await response.text()
        return read(await response.text(), response.content_type)


async def run(site: Site, **fields: Any) -> int:
    async with site.prompt(**fields) as response:
        await response.read()
        return int(response.status)


# The form


@pytest.mark.parametrize("accept", [TEXT, OPENMETRICS, "*/*"])
async def test_every_format_can_be_read_and_its_names_are_as_they_should_be(
    serve: Serve, accept: str
) -> None:
    engine = FakeEngine(two_nodes)
    engine.devices = (DeviceMemory("cuda:0", 1, 2),)
    site = await serve(engine)
    await run(site)
    scrape = await scraped(site, accept)
    assert complaints(scrape) == []
    assert len(scrape.ours) > 25
    assert {"process_resident_memory_bytes", "python_info"} <= set(scrape.families)


def test_a_bad_name_would_be_found() -> None:
    text = (
        "# TYPE comfyui_stateless_wait_ms gauge\ncomfyui_stateless_wait_ms 1\n"
        "# HELP comfyui_stateless_bytes_held Held.\n# TYPE comfyui_stateless_bytes_held gauge\n"
        "comfyui_stateless_bytes_held 1\n"
    )
    assert len(complaints(read(text, TEXT))) == 3


async def test_openmetrics_is_for_those_who_ask_for_it(serve: Serve) -> None:
    site = await serve()
    prometheus = f"{OPENMETRICS};version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    for accept, media_type in (("*/*", TEXT), (prometheus, OPENMETRICS)):
        async with site.client.get("/metrics", headers={"Accept": accept}) as response:
            assert response.content_type == media_type
            assert (await response.text()).endswith("# EOF\n") is (media_type == OPENMETRICS)


async def test_it_is_compressed_for_those_who_ask_for_it(serve: Serve) -> None:
    site = await serve()
    for asked, encoding in (("gzip", "gzip"), ("identity", None)):
        headers = {"Accept-Encoding": asked}
        async with site.client.get("/metrics", headers=headers) as response:
            assert response.headers.get("Content-Encoding") == encoding
            assert "comfyui_stateless_build_info" in await response.text()


async def test_head_has_the_headers_alone(serve: Serve) -> None:
    site = await serve()
    async with site.client.head("/metrics") as response:
        assert (response.status, response.content_type) == (200, TEXT)
        assert int(response.headers["Content-Length"]) > 1000
        assert await response.read() == b""


async def test_it_needs_a_key_where_others_do(serve: Serve) -> None:
    site = await serve(api_keys="k1")
    async with site.client.get("/metrics") as response:
        assert response.status == 401
    async with site.client.get("/metrics", headers={"Authorization": "Bearer k1"}) as response:
        assert response.status == 200


async def test_the_versions_are_told(serve: Serve) -> None:
    scrape = await scraped(await serve())
    (sample,) = scrape.families["comfyui_stateless_build_info"].samples
    assert set(sample.labels) == {"version", "comfyui_version", "python_version"}
    assert sample.labels["comfyui_version"] == "0.0.0"


async def test_every_metric_is_documented_and_nothing_else(serve: Serve) -> None:
    engine = FakeEngine()
    engine.devices = (DeviceMemory("cuda:0", 1, 2),)
    scrape = await scraped(await serve(engine))
    suffixes = {"counter": "_total", "info": "_info"}
    told = {family.name + suffixes.get(family.type, "") for family in scrape.ours}
    rows = [line for line in OPERATIONS.read_text().splitlines() if line.startswith("| `")]
    metrics = [
        row for row in rows if re.search(r"\| (counter|gauge|histogram|summary|info) \|", row)
    ]
    names = {name for row in metrics for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert {name.removeprefix("comfyui_stateless_") for name in told} == names


# What is counted


async def two_nodes(play: Play) -> None:
    play.event("executing", node="1")
    await asyncio.sleep(0.02)
    play.event("executing", node="2")
    play.event("executing", node=None)
    play.image()


async def test_jobs_count_by_outcome(serve: Serve, there: Receiver) -> None:
    goes_wrong = {"bad"}

    async def script(play: Play) -> None:
        if play.prompt.id in goes_wrong:
            raise ExecutionError("No.")
        if play.prompt.id == "long":
            await asyncio.Event().wait()
        play.image()

    site = await serve(FakeEngine(script))
    for _ in range(3):
        assert await run(site) == 200
    for _ in range(2):
        assert await run(site, id="bad") == 500
    assert await run(site, id="long", timeout_s=0.05) == 504
    asking = asyncio.ensure_future(run(site, id="long"))
    await eventually(lambda: site.services.jobs.interrupt("long"))
    assert await asking == 409
    assert await run(site, webhook_v2=there.url) == 202
    await eventually(lambda: bool(there.received))
    scrape = await scraped(site)
    counted = scrape.families["comfyui_stateless_jobs"].samples
    assert {tuple(s.labels.values()): s.value for s in counted} == {
        ("synchronous", "succeeded"): 3, ("synchronous", "failed"): 2,
        ("synchronous", "interrupted"): 1, ("synchronous", "timeout"): 1,
        ("accepted", "succeeded"): 1, ("accepted", "failed"): 0,
        ("accepted", "interrupted"): 0, ("accepted", "timeout"): 0,
    }  # fmt: skip
    assert scrape.all("job_failures_total", "code") == {"execution_error": 2}
    assert scrape.value("job_stage_seconds_count", stage="total") == 8
    assert scrape.value("job_stage_seconds_count", stage="postprocess") == 4
    assert scrape.value("webhook_deliveries_total", outcome="delivered") == 1


async def test_a_histogram_has_what_the_reply_says(serve: Serve) -> None:
    site = await serve(FakeEngine(two_nodes))
    async with site.prompt() as response:
        stats = (await response.json())["stats"]
    scrape = await scraped(site)
    sums = scrape.all("job_stage_seconds_sum", "stage")
    for stage in ("queue", "preprocess", "postprocess", "upload", "total"):
        assert sums[stage] == pytest.approx(stats[f"{stage}_time"] / 1000, abs=0.002)
    assert sums["execution"] == pytest.approx(stats["comfy_execution"]["duration"] / 1000, abs=0.01)
    ends = scrape.families["comfyui_stateless_job_stage_seconds"].samples
    at_most_an_hour = [s for s in ends if s.labels == {"stage": "total", "le": "3600.0"}]
    assert [s.value for s in at_most_an_hour] == [1]


async def test_node_seconds_count_by_class(serve: Serve) -> None:
    site = await serve(FakeEngine(two_nodes))
    for _ in range(2):
        await run(site)
    scrape = await scraped(site)
    assert scrape.all("node_seconds_count", "class_type") == {"EmptyImage": 2, "SaveImage": 2}
    assert scrape.value("node_seconds_sum", class_type="EmptyImage") >= 0.04


async def test_the_queue_and_live_jobs_are_of_this_moment(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    asking = [asyncio.ensure_future(run(site)) for _ in range(5)]
    await eventually(lambda: site.services.jobs.depth() == 5 and len(site.engine.ran) == 1)
    scrape = await scraped(site)
    assert scrape.value("queue_depth") == 5
    assert scrape.all("live_jobs", "state") == {
        "preparing": 0, "queued": 4, "running": 1, "delivering": 0,
    }  # fmt: skip
    gate.is_open.set()
    await asyncio.gather(*asking)
    scrape = await scraped(site)
    assert scrape.value("queue_depth") == 0
    assert sum(scrape.all("live_jobs", "state").values()) == 0


async def test_the_cache_counts_what_it_was_asked_for_and_what_it_fetched(serve: Serve) -> None:
    with serving() as origin:
        content = b"\x89PNG\r\n\x1a\n" + bytes(5000)
        origin.put("/a.png", content)
        site = await serve(loading_engine(), lru_cache_size_gb=1.0)
        prompt = loading_graph(origin.url("/a.png"))
        for _ in range(3):
            assert await run(site, prompt=prompt) == 200
        assert await run(site, prompt=loading_graph(origin.url("/missing.png"))) == 400
    scrape = await scraped(site)
    assert scrape.all("cache_requests_total", "result") == {"hit": 2, "miss": 1}
    assert scrape.all("downloads_total", "outcome") == {"succeeded": 1, "failed": 1}
    assert scrape.value("download_received_bytes_total") == len(content)
    assert scrape.value("cache_files") == 1
    assert scrape.value("cache_bytes") == len(content)
    assert scrape.value("downloads_under_way") == 0
    assert scrape.value("cache_evictions_total") == 0


async def test_evictions_count(serve: Serve) -> None:
    with serving() as origin:
        names = ("/a.png", "/b.png")
        for name in names:
            origin.put(name, b"\x89PNG\r\n\x1a\n" + bytes(5000))
        site = await serve(loading_engine(), lru_cache_size_gb=6000 / 1024**3)
        for name in names:
            assert await run(site, prompt=loading_graph(origin.url(name))) == 200
        assert await run(site, prompt=loading_graph(origin.url("/a.png"))) == 200
    scrape = await scraped(site)
    assert scrape.value("cache_evictions_total") >= 1
    evictions = scrape.value("cache_evictions_total")
    assert scrape.value("cache_evicted_bytes_total") == evictions * 5008


async def test_messages_that_are_due_have_an_age_and_failed_ones_are_listed(
    serve: Serve, there: Receiver
) -> None:
    there.answers = [500] * 2
    site = await serve(accepting={"sleep": soon}, prompt_webhook_retries=1)
    assert await run(site, webhook_v2=there.url) == 202
    await eventually(lambda: site.background.deliveries().get("given_up") == 1)
    deadline = time.monotonic() + 5
    while (scrape := await scraped(site)).value("webhooks_failed") != 1:
        assert time.monotonic() < deadline
    assert scrape.value("webhooks_due") == 0
    assert scrape.value("webhooks_oldest_due_seconds") == 0
    outcomes = scrape.all("webhook_deliveries_total", "outcome")
    assert outcomes == {"delivered": 0, "retried": 1, "failed": 1, "thinned": 0, "dropped": 0}


async def test_a_message_that_waits_grows_older(serve: Serve, there: Receiver) -> None:
    there.answers = [500] * 10
    asleep = asyncio.Event()

    async def wait(_: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    site = await serve(accepting={"sleep": wait})
    assert await run(site, webhook_v2=there.url) == 202
    await asleep.wait()
    deadline = time.monotonic() + 5
    while (scrape := await scraped(site)).value("webhooks_oldest_due_seconds") < 0.1:
        assert time.monotonic() < deadline
    assert scrape.value("webhooks_due") == 1


async def test_requests_count_by_the_template_of_their_route(serve: Serve) -> None:
    site = await serve(below="/api/stateless")
    client = site.client
    for path in ("/prompt/a", "/prompt/b", "/prompt/c%2Fd", "/nowhere/1", "/nowhere/2"):
        async with client.get(f"/api/stateless{path}") as response:
            assert response.status == 404
    async with client.request("PURGE", "/api/stateless/models") as response:
        assert response.status == 405
    async with client.head("/api/stateless/models") as response:
        assert response.status == 200
    async with client.get("/api/stateless/metrics") as response:
        scrape = read(await response.text(), response.content_type)
    samples = scrape.families["comfyui_stateless_http_requests"].samples
    assert {tuple(s.labels.values()): s.value for s in samples} == {
        ("GET", "/prompt/{id}", "404"): 3,
        ("HEAD", "/models", "200"): 1,
        ("other", "other", "404"): 2,
        ("other", "other", "405"): 1,
    }


async def test_devices_are_there_only_where_there_are_any(serve: Serve) -> None:
    engine = FakeEngine()
    site = await serve(engine)
    assert not (await scraped(site)).has("gpu_memory_free_bytes")
    engine.devices = (DeviceMemory("cuda:0", 3 * 1024**3, 8 * 1024**3),)
    scrape = await scraped(site)
    assert scrape.value("gpu_memory_free_bytes", device="cuda:0") == 3 * 1024**3
    assert scrape.value("gpu_memory_total_bytes", device="cuda:0") == 8 * 1024**3


@pytest.mark.parametrize(
    ("phase", "ready", "healthy"),
    [(Phase.WARMING, 0, 0), (Phase.READY, 1, 1), (Phase.DRAINING, 0, 1)],
)
async def test_readiness_is_what_the_probes_say(
    serve: Serve, phase: Phase, ready: int, healthy: int
) -> None:
    scrape = await scraped(await serve(phase=phase))
    assert (scrape.value("ready"), scrape.value("healthy")) == (ready, healthy)


async def test_the_loop_is_measured(serve: Serve) -> None:
    site = await serve()
    site.metrics.start()
    deadline = time.monotonic() + 5
    while not (scrape := await scraped(site)).value("event_loop_lag_seconds_count"):
        assert time.monotonic() < deadline
    assert scrape.value("event_loop_lag_seconds_sum") < 5


# What must not be


async def test_nothing_that_callers_send_is_in_the_text(serve: Serve, there: Receiver) -> None:
    async def fails(play: Play) -> None:
        play.event("executing", node="1")
        raise ExecutionError(SECRET, location=SECRET, details={"x": SECRET})

    site = await serve(FakeEngine(fails))
    fields = {
        "id": SECRET,
        "webhook_v2": f"{there.url}?token={SECRET}",
        "extra_data": {"api_key_comfy_org": SECRET},
        "credentials": [
            {"url_pattern": f"http://{SECRET}/**", "auth": {"type": "bearer", "token": SECRET}}
        ],
        "prompt": {**graph(SECRET), SECRET: graph()["1"]},
    }
    assert await run(site, **fields) == 202
    await eventually(lambda: bool(there.received))
    for path in (f"/prompt/{SECRET}", f"/{SECRET}", f"/docs/{SECRET}", f"/models?key={SECRET}"):
        async with site.client.get(path, headers={"X-API-Key": SECRET}) as response:
            await response.read()
    for accept in (TEXT, OPENMETRICS):
        async with site.client.get("/metrics", headers={"Accept": accept}) as response:
            assert SECRET not in await response.text()


async def test_one_source_that_fails_costs_its_own_numbers_only(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await serve()
    whole = await scraped(site)

    async def broken() -> Any:
        raise StorageError("No.")

    monkeypatch.setattr(site.background, "stats", broken)
    scrape = await scraped(site)
    gone = set(whole.families) - set(scrape.families)
    assert gone == {
        f"comfyui_stateless_{name}"
        for name in (
            "webhooks_due", "webhooks_oldest_due_seconds", "webhooks_failed", "accepted_jobs",
            "state_bytes",
        )
    }  # fmt: skip
    assert scrape.all("scrape_failures_total", "source") == {
        **dict.fromkeys(SOURCES, 0),
        "journal": 1,
    }


async def test_a_scrape_before_the_journal_is_open_has_the_rest(serve: Serve) -> None:
    site = await serve(phase=Phase.STARTING)
    await site.background.close()
    scrape = await scraped(site)
    assert scrape.value("ready") == 0
    assert not scrape.has("webhooks_due")


async def test_the_loop_goes_on_while_the_text_is_made(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comfyui_stateless.metrics import page as pages  # what only a scrape imports

    made, may_go_on = threading.Event(), threading.Event()
    page = pages.page

    def slow(*said: Any) -> pages.Page:
        made.set()
        assert may_go_on.wait(10)
        return page(*said)

    monkeypatch.setattr(pages, "page", slow)
    site = await serve()
    scraping = asyncio.ensure_future(scraped(site))
    await eventually(made.is_set)
    async with site.client.get("/health") as response:
        assert response.status == 200
    may_go_on.set()
    assert (await scraping).value("healthy") == 1


async def test_a_disk_that_hangs_holds_no_scrape_up(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comfyui_stateless.metrics import sources

    monkeypatch.setattr(sources, "WITHIN_S", 0.05)
    site = await serve()
    let_go, held = threading.Event(), site.services.cache.held

    async def hanging() -> Held:
        await asyncio.to_thread(let_go.wait, 10)
        return await held()

    monkeypatch.setattr(site.metrics._cache, "_ask", hanging)
    scrape = await scraped(site)
    assert not scrape.has("cache_bytes")
    assert scrape.value("queue_depth") == 0
    let_go.set()


async def test_the_library_s_own_registry_is_left_alone(serve: Serve) -> None:
    import prometheus_client

    await scraped(await serve())
    text = prometheus_client.generate_latest().decode()
    assert "comfyui_stateless" not in text


async def test_many_scrapes_at_once_are_all_answered(serve: Serve) -> None:
    site = await serve()
    scrapes = await asyncio.gather(*(scraped(site) for _ in range(30)))
    assert len(scrapes) == 30
