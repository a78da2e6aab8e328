"""The section Jobs: what the API does, as it happens."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

from playwright.sync_api import Locator, expect

from tests.browser.editor import Editor
from tests.browser.frontends import Frontend, only_own
from tests.browser.graphs import SIMPLE, Graph, failing, saved, waiting
from tests.comfyui.server import ComfyServer
from tests.storage.relay import relay


@contextmanager
def posting(editor: Editor, frontend: Frontend, graph: Graph, **fields: Any) -> Iterator[None]:
    """Have a caller wait for a job, who is none of this page."""
    headers = {"X-API-Key": frontend.key} if frontend.key else {}
    body = {"prompt": graph, **fields}
    done = threading.Thread(
        target=editor.server.request, args=("POST", "/api/stateless/prompt", body, headers)
    )
    done.start()
    yield
    done.join()


def job(jobs: Locator, name: str) -> Locator:
    return jobs.get_by_role("listitem").filter(has_text=name)


def test_a_job_of_another_caller_is_followed_and_cancelled(
    editor: Editor, frontend: Frontend
) -> None:
    jobs = editor.show("Jobs")
    run = f"order-{frontend.name}"
    with posting(editor, frontend, waiting(60, run), id=run):
        row = job(jobs, run)
        expect(row).to_contain_text("Running")
        expect(row).to_contain_text("TestWaits 2")
        expect(row.get_by_role("progressbar", name=f"Progress of {run}")).to_be_visible()
        expect(row.get_by_role("progressbar", name="Progress of node 2")).to_be_visible()
        expect(editor.tab("Jobs")).to_contain_text("1")
        row.get_by_role("button", name=f"Cancel {run}").click()
        expect(row).to_contain_text("Cancelled")
    expect(row.get_by_role("button", name=f"Cancel {run}")).to_be_hidden()


def test_a_job_that_is_done_has_a_thumbnail_and_its_times(
    editor: Editor, frontend: Frontend
) -> None:
    jobs = editor.show("Jobs")
    with posting(editor, frontend, saved(width=200), id="pictured"):
        row = job(jobs, "pictured").first
        expect(row).to_contain_text("Done")
    picture = row.get_by_role("img", name="Output of pictured")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 128
    expect(row).to_contain_text(re.compile(r"\d+ (ms|s|\.\d s).*(just now|ago)"))


def test_a_failed_job_leads_to_its_node(editor: Editor, frontend: Frontend) -> None:
    graph = failing("it broke <img src=x onerror=alert(1)>")
    editor.load(graph)
    jobs = editor.show("Jobs")
    with posting(editor, frontend, graph, id="broken"):
        row = job(jobs, "broken").first
        expect(row).to_contain_text("it broke <img src=x onerror=alert(1)>")
    row.get_by_role("button", name="Show node 2").click()
    assert editor.selected() == ["2"]


@only_own
def test_a_waiting_job_says_how_many_are_before_it(editor: Editor, frontend: Frontend) -> None:
    jobs = editor.show("Jobs")
    with posting(editor, frontend, waiting(60, "a"), id="first"):
        expect(job(jobs, "first")).to_contain_text("Running")
        with posting(editor, frontend, SIMPLE, id="second"):
            expect(job(jobs, "second")).to_contain_text("1 ahead")
            job(jobs, "first").get_by_role("button", name="Cancel first").click()
            expect(job(jobs, "second")).to_contain_text("Done")


@only_own
def test_what_runs_is_above_what_waits_and_that_above_what_ended(
    editor: Editor, frontend: Frontend
) -> None:
    jobs = editor.show("Jobs")
    with posting(editor, frontend, SIMPLE, id="ended-1"):
        expect(job(jobs, "ended-1")).to_contain_text("Done")
    with ExitStack() as posted:
        for name, state in (("runs", "Running"), ("waits-0", "1 ahead"), ("waits-1", "2 ahead")):
            posted.enter_context(posting(editor, frontend, waiting(60, name), id=name))
            expect(job(jobs, name)).to_contain_text(state)
        ids = jobs.locator(".st-job-id")
        expect(ids.nth(3)).to_have_text("ended-1")
        assert ids.all_text_contents()[:4] == ["runs", "waits-0", "waits-1", "ended-1"]
        job(jobs, "waits-1").get_by_role("button", name="Cancel waits-1").click()
        expect(ids.nth(2)).to_have_text("waits-1")
        expect(job(jobs, "waits-1")).to_contain_text("Cancelled")
        waiting_row = job(jobs, "waits-0")
        waiting_row.get_by_role("button", name="Cancel waits-0").focus()
        job(jobs, "runs").get_by_role("button", name="Cancel runs").click()
        expect(waiting_row).to_contain_text("Running")
        expect(ids.first).to_have_text("waits-0")
        assert ids.all_text_contents()[:4] == ["waits-0", "runs", "waits-1", "ended-1"]
        waiting_row.get_by_role("button", name="Cancel waits-0").click()


@only_own
def test_the_focus_stays_on_a_job_that_moves(editor: Editor, frontend: Frontend) -> None:
    jobs = editor.show("Jobs")
    with posting(editor, frontend, SIMPLE, id="moved"):
        expect(job(jobs, "moved")).to_contain_text("Done")
    with posting(editor, frontend, waiting(60, "before"), id="before"):
        expect(job(jobs, "before")).to_contain_text("Running")
        with posting(editor, frontend, waiting(60, "focused"), id="focused"):
            expect(job(jobs, "focused")).to_contain_text("1 ahead")
            button = job(jobs, "focused").get_by_role("button", name="Cancel focused")
            button.focus()
            editor.server.post("/api/stateless/interrupt", {"id": "before"})
            expect(job(jobs, "focused")).to_contain_text("Running")
            expect(jobs.locator(".st-job-id").first).to_have_text("focused")
            expect(button).to_be_focused()
            editor.page.keyboard.press("Enter")
            expect(job(jobs, "focused")).to_contain_text("Cancelled")


@only_own
def test_200_jobs_are_listed_and_only_what_changes_is_touched(
    editor: Editor, frontend: Frontend
) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = pool.map(
            lambda number: editor.server.prompt(saved(width=64 + number), id=f"many-{number}"),
            range(200),
        )
        assert {reply.status for reply in replies} == {200}
    jobs = editor.show("Jobs")
    rows = jobs.get_by_role("listitem")
    expect(rows).to_have_count(200)
    expect(rows.first).to_contain_text("many-")
    editor.page.evaluate(
        """() => {
          window.touched = new Set();
          const list = document.querySelector('.st-jobs');
          new MutationObserver((changes) => {
            for (const { target, addedNodes, removedNodes } of changes) {
              if (target !== list) window.touched.add(target.parentElement?.closest('.st-job'));
              for (const node of [...addedNodes, ...removedNodes]) {
                if (target === list) window.touched.add(node);
              }
            }
          }).observe(list, { subtree: true, childList: true, attributes: true });
        }"""
    )
    with posting(editor, frontend, waiting(0.5, "one-more"), id="one-more"):
        expect(rows.first).to_contain_text("one-more")
        expect(rows.first).to_contain_text("Done")
    ids = editor.page.evaluate(
        """() => [...window.touched]
          .map((row) => row?.querySelector('.st-job-id').textContent)
          .filter((id) => id && !/^many-/.test(id))"""
    )
    assert "one-more" in ids
    # One came, one went: of the other 199 only the times change, each in its own text.
    assert len(editor.page.evaluate("[...window.touched].filter((row) => !row?.isConnected)")) <= 2


@only_own
def test_the_stream_is_open_while_the_tab_is(editor: Editor) -> None:
    page = editor.page
    with page.expect_request("**/api/stateless/events"):
        editor.show("Jobs")
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/events")):
        editor.tab_button.click()
    expect(editor.panel).to_be_hidden()
    with page.expect_request("**/api/stateless/events"):
        editor.show("Jobs")


@only_own
def test_a_stream_that_breaks_off_is_taken_up_again(
    open_editor: Callable[..., Editor], server: ComfyServer, frontend: Frontend
) -> None:
    with relay(server.url) as between:
        editor = open_editor(url=between.origin)
        editor.expected.append("ERR_|WebSocket")
        jobs = editor.show("Jobs")
        with posting(editor, frontend, SIMPLE, id="before-the-break"):
            expect(job(jobs, "before-the-break")).to_contain_text("Done")
        with editor.page.expect_request("**/api/stateless/events"):
            between.break_off()
        with posting(editor, frontend, SIMPLE, id="after-the-break"):
            expect(job(jobs, "after-the-break")).to_contain_text("Done")
