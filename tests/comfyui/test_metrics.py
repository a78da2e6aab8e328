"""What Prometheus reads of a real ComfyUI."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from tests.comfyui.graphs import failing, saved, waiting
from tests.comfyui.server import ComfyServer, Reply
from tests.metrics.scraping import OPENMETRICS, TEXT, Scrape, complaints, read

SECRET = "planted-secret-of-a-scrape"
OUTCOMES = ("succeeded", "failed", "interrupted", "timeout")


def scraped(server: ComfyServer, accept: str = TEXT) -> Scrape:
    reply = server.get("/api/stateless/metrics", Accept=accept)
    assert reply.status == 200, reply.body
    return read(reply.body.decode(), accept)


def outcomes(scrape: Scrape) -> dict[str, float]:
    return {
        outcome: scrape.value("jobs_total", mode="synchronous", outcome=outcome)
        for outcome in OUTCOMES
    }


def interrupted(server: ComfyServer, caller_id: str) -> Reply:
    """Run a prompt that is interrupted while it runs."""
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(server.prompt, waiting(20, caller_id), id=caller_id)
        deadline = time.monotonic() + 10
        while True:
            said = server.get(f"/api/stateless/prompt/{caller_id}")
            if said.status == 200 and said.json["state"] == "running":
                break
            assert time.monotonic() < deadline, said.body
            time.sleep(0.02)
        assert scraped(server).value("live_jobs", state="running") == 1
        assert server.post("/api/stateless/interrupt", {"id": caller_id}).status == 200
        return job.result()


def test_what_was_done_is_counted_exactly_and_named_well(comfy: ComfyServer) -> None:
    before = scraped(comfy)
    waited = [comfy.prompt(waiting(0.3, f"counted {n}"), id=SECRET) for n in range(2)]
    good = [comfy.prompt(saved(n), id=SECRET) for n in range(3)]
    bad = [comfy.prompt(failing("ValueError", SECRET)) for _ in range(2)]
    late = comfy.prompt(waiting(20, "late"), timeout_s=0.3)
    stopped = interrupted(comfy, "to-be-counted")
    assert [r.status for r in (*waited, *good, *bad, late, stopped)] == [
        *[200] * 5, *[500] * 2, 504, 409,
    ]  # fmt: skip
    after = scraped(comfy, OPENMETRICS)
    ended = {name: outcomes(after)[name] - outcomes(before)[name] for name in OUTCOMES}
    assert ended == {"succeeded": 5, "failed": 2, "interrupted": 1, "timeout": 1}

    def grown(sample: str, **labels: str) -> float:
        return after.value(sample, **labels) - before.value(sample, **labels)

    assert grown("job_stage_seconds_count", stage="total") == 9
    assert grown("job_stage_seconds_count", stage="postprocess") == 5
    replies = [reply.json["stats"] for reply in (*waited, *good)]
    execution = sum(stats["comfy_execution"]["duration"] for stats in replies) / 1000
    total = sum(stats["total_time"] for stats in replies) / 1000
    # The four that failed took no more than what the one that was too late had, and a little.
    assert execution < grown("job_stage_seconds_sum", stage="execution") < execution + 15
    assert total < grown("job_stage_seconds_sum", stage="total") < total + 15
    nodes = after.all("node_seconds_sum", "class_type")
    counts = after.all("node_seconds_count", "class_type")
    assert nodes["TestWaits"] >= 0.6
    assert counts["TestWaits"] >= 2
    assert counts["TestRaises"] >= 2
    assert complaints(after) == []


def test_nothing_secret_is_in_the_text(comfy: ComfyServer) -> None:
    extra = {"api_key_comfy_org": SECRET}
    assert comfy.prompt(saved(5, SECRET), id=SECRET, extra_data=extra).status == 200
    assert comfy.get(f"/api/stateless/prompt/{SECRET}").status == 200
    for accept in (TEXT, OPENMETRICS):
        text = comfy.get("/api/stateless/metrics", Accept=accept).body.decode()
        assert SECRET not in text
        assert str(comfy.base) not in text


def test_a_server_says_which_versions_it_runs_and_that_it_has_no_gpu(comfy: ComfyServer) -> None:
    scrape = scraped(comfy)
    (sample,) = scrape.families["comfyui_stateless_build_info"].samples
    assert sample.labels["comfyui_version"] == comfy.install.version
    assert not scrape.has("gpu_memory_free_bytes")
    assert scrape.value("ready") == 1
    assert scrape.value("event_loop_lag_seconds_count") > 0
    assert scrape.families["process_resident_memory_bytes"].samples[0].value > 2**20
