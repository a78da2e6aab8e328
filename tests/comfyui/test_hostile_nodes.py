"""Nodes that do to their process what no node should: each fails, or not, alone."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.comfyui.conftest import required
from tests.comfyui.graphs import Graph, node, pixels, saved, waiting
from tests.comfyui.receiver import SECRET, Receiver, receiving
from tests.comfyui.server import ComfyServer, Install, Reply

PACK = Path(__file__).parent / "hostile"

FINE = (200, None)
FAILS, DIES = (500, "execution_error"), (500, "worker_died")
ENDS = {
    "changes_folder": FINE,
    "dies_in_a_thread": FINE,
    "forks": FINE,
    "takes_stdout": FINE,
    "loses_stdout": FINE,
    "impatient": FINE,
    "strict": FINE,
    "loses_temp": FINE,
    "proxies": FINE,
    "has_no_stack": FINE,
    "makes_unreadable": FINE,
    "silences": FINE,
    "keeps_the_lock": FINE,
    "has_no_loop": FINE,
    "closes_stdout": FINE,
    "watches_threads": FINE,
    "has_no_hooks": FINE,
    "has_few_files": FINE,
    "keys": FINE,
    "odd_entries": FINE,
    "odd_dict": FINE,
    "odd_text": FINE,
    "prints": FINE,
    "many_files": FINE,
    "half_error": FAILS,
    "no_memory": (500, "out_of_memory"),
    "interrupts": FINE,
    "forges_events": FINE,
    "asks_the_api": FINE,
    "has_no_files_left": FINE,
    "keeps_descriptors": FINE,
    "closes_the_journal": FINE,
    "fears_images": FINE,
    "starts_no_thread": FINE,
    "fails_to_start_threads": FINE,
    "has_no_json": FINE,
    "writes_odd_json": FINE,
    "reads_odd_json": FINE,
    "takes_classes_away": FINE,
    "counts_wrong": FINE,
    "knows_no_client": FINE,
    "sends_nothing": DIES,
    "ends_nothing": DIES,
    "runs_nothing": FINE,
    "halves": FINE,
    "moves_tensors": FINE,
    "up": FINE,
    "absolute": FINE,
    "nul": FINE,
    "types": FINE,
    "objects": FINE,
    "cycle": FINE,
    "deep": FINE,
    "half_text": FINE,
    "many_texts": FINE,
    "wrong_ui": FAILS,
    "recursion": FAILS,
    "loud": FAILS,
    "nested": FAILS,
    "unspeakable": DIES,
    "generator": DIES,
    "cancelled": DIES,
    "bare": DIES,
}
LONGEST = 30_000
UNUSABLE = 70
"""The exit code that asks for a new process."""

MAKES = [
    "a link out",
    "a link to itself",
    "a link to nothing",
    "a link to a folder",
    "a link to endless bytes",
    "a link to the environment",
    "a pipe",
    "a socket",
    "a device",
    "a folder",
]
LEAVES = {
    "a file": ["silent.png"],
    "files in folders": ["of/mine/silent.png"],
    "a closed folder": ["closed/deep/a.png"] if os.geteuid() == 0 else [],
    "a hard link": ["hard.py"],
    "many files": [f"many-{number}.txt" for number in range(300)],
    "a way round": [],
    "a folder's file": [],
}
KEPT = "of a node/for good/note.txt"
"""What the node writes each time, without a word."""

GIVES = [
    "a link to its own",
    "a way in a circle",
    "a file in a new folder",
    "a file nobody may read",
    "two lines",
    "half a character",
    "a long name",
    "one file often",
]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture(scope="module")
def server(
    each_install: Install | None, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    env = {"HTTP_TRUSTED_ORIGINS": receiver.origin, "WEBHOOK_SECRET": SECRET}
    base = tmp_path_factory.mktemp("hostile")
    with ComfyServer(required(each_install), base, env, packs={"hostile": PACK}) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture(scope="module")
def as_told(server: ComfyServer) -> str:
    """What the process was like before any node changed it."""
    return told(server)


def does(act: str) -> Graph:
    return {"1": node("HostileDoes", act=act)}


def told(server: ComfyServer) -> str:
    """Return what a node sees of the process."""
    return "\n".join(text["text"] for text in server.prompt(does("tells")).json["texts"])


def is_fine(server: ComfyServer) -> bool:
    """Say whether the next job is run, and gives what it is to give: it brings, saves, writes."""
    graph = saved(1)
    reply = server.prompt(graph, timeout=60)
    assert reply.status == 200, reply.body
    brought = base64.b64encode(reply.images[0]).decode()
    graph["1"] = node("LoadImage", image=f"data:image/png;base64,{brought}")
    graph["8"] = node(
        "SaveAnimatedPNG", images=["1", 0], filename_prefix="moves", fps=6.0, compress_level=4
    )
    reply = server.prompt(graph, timeout=60)
    assert (reply.status, len(reply.json.get("images", []))) == (200, 2), reply.body[:500]
    return all(pixels(image).shape == (48, 64, 3) for image in reply.images)


def leaves(act: str, reports: bool = False) -> Graph:
    return {"1": node("HostileLeaves", act=act, reports=reports)}


def unnamed(reply: Reply) -> list[str]:
    """Return the names of outputs as the node wrote them, without the id."""
    names = reply.json["filenames"]
    return sorted(name.replace(f"{reply.json['id']}_", "") for name in names)


def ended(reply: Reply) -> tuple[int, str | None]:
    return reply.status, reply.json.get("code")


@pytest.mark.parametrize("act", ENDS)
def test_what_a_node_does_is_over_with_its_job(
    server: ComfyServer, receiver: Receiver, as_told: str, act: str
) -> None:
    before = server.files()
    end = ENDS[act]
    if act == "has_few_files" and server.install.numbers >= (0, 23, 0):
        end = DIES  # its cache looks into /proc/meminfo after each node
    reply = server.prompt(does(act), id=f"waits {act}")
    assert ended(reply) == end, reply.body[:500]
    assert reply.status == 200 or len(reply.body) < LONGEST
    assert reply.json.get("images", []) == []
    hook = f"{receiver.origin}/hook"
    accepted = f"goes on {act} on {server.install.version}"  # one receiver hears of both
    assert server.prompt(does(act), id=accepted, webhook_v2=hook).status == 202
    message = receiver.wait_for(accepted).body
    assert message["type"] == ("prompt.complete" if end == FINE else "prompt.failed")
    assert is_fine(server)
    assert server.get("/api/stateless/ready").status == 200
    assert server.files() == before
    assert told(server) == as_told


@pytest.mark.parametrize("reports", [True, False])
@pytest.mark.parametrize("act", MAKES)
def test_what_is_no_file_is_no_output_and_goes_with_its_job(
    server: ComfyServer, act: str, reports: bool
) -> None:
    before = server.files()
    reply = server.prompt(leaves(act, reports), timeout=20)
    assert (reply.status, unnamed(reply)) == (200, [KEPT]), reply.body[:500]
    assert server.files() == before


@pytest.mark.parametrize("act", LEAVES)
def test_what_a_node_writes_and_does_not_report_is_given_and_goes_with_its_job(
    server: ComfyServer, act: str
) -> None:
    before = server.files()
    reply = server.prompt(leaves(act), timeout=60)
    expected = sorted([*LEAVES[act], KEPT])
    assert (reply.status, unnamed(reply)) == (200, expected), reply.body[:500]
    assert server.files() == before


@pytest.mark.parametrize(
    ("act", "file"),
    [("an upload", "theirs.png"), ("a pack's own file", ".thumbnails/of-a-pack.png")],
)
def test_what_may_be_somebody_elses_stays(server: ComfyServer, act: str, file: str) -> None:
    assert server.prompt(leaves("a file"), timeout=20).status == 200  # the node is made, once
    before = server.files()
    assert server.prompt(leaves(act), timeout=20).status == 200
    left = server.base / "output" / file
    assert left.read_bytes()
    for path in (left, server.base / "output" / "mine.png"):
        path.unlink(missing_ok=True)
    if left.parent.name.startswith("."):
        left.parent.rmdir()
    assert server.files() == before


def test_what_cannot_be_deleted_is_deleted_later(server: ComfyServer, tmp_path: Path) -> None:
    if os.geteuid() or subprocess.run(["chattr", "+i", tmp_path], check=False).returncode:
        pytest.skip("only root can keep files from being deleted, and not on all file systems")
    subprocess.run(["chattr", "-i", tmp_path], check=True)
    before = server.files()
    assert server.prompt(leaves("what stays"), timeout=20).status == 200
    (stuck,) = (server.base / "output").rglob("stays.png")
    assert [path.name for path in stuck.parents[3].glob("stateless-*/**/*.png")] == ["stays.png"]
    subprocess.run(["chattr", "-i", stuck], check=True)
    deadline = time.monotonic() + 20
    while server.files() != before:
        assert time.monotonic() < deadline, server.files()
        time.sleep(0.05)
    assert server.log.count("Could not delete") == 1


@pytest.mark.parametrize("act", GIVES)
def test_what_a_node_writes_under_an_odd_name_is_one_output(server: ComfyServer, act: str) -> None:
    before = server.files()
    reply = server.prompt(leaves(act), timeout=20)
    assert reply.status == 200, reply.body[:500]
    assert [pixels(image).shape for image in reply.images] == [(4, 4, 3)]
    assert server.files() == before


def test_a_node_that_empties_the_output_folder_harms_no_later_job(server: ComfyServer) -> None:
    before = server.files()
    assert server.prompt(leaves("empties")).status == 200
    assert is_fine(server)
    assert server.files() == before


def test_what_is_there_when_a_job_begins_stays_there(server: ComfyServer) -> None:
    there = server.base / "output" / "theirs"
    there.mkdir()
    (there / "old.png").touch()
    (server.base / "output" / "note.txt").touch()
    before = server.files()
    assert server.prompt(leaves("many files")).status == 200
    assert server.files() == before
    shutil.rmtree(there)
    (server.base / "output" / "note.txt").unlink()


def test_a_node_that_holds_the_interpreter_holds_nobody_up_afterwards(server: ComfyServer) -> None:
    assert server.prompt(does("holds_the_lock")).status == 200
    assert is_fine(server)
    assert server.get("/api/stateless/ready").status == 200


def test_what_a_node_says_has_no_end(server: ComfyServer) -> None:
    reply = server.prompt(does("huge_text"))
    assert len(reply.json["texts"][0]["text"]) == 20 * 2**20


def test_a_node_that_changes_how_numbers_are_computed_changes_no_picture(
    server: ComfyServer,
) -> None:
    graph: Graph = {
        "1": node("EmptyImage", width=8, height=8, batch_size=1, color=0x102030),
        "9": node("SaveImage", images=["1", 0], filename_prefix="grey"),
    }
    before = pixels(server.prompt(graph).images[0])
    assert server.prompt(does("numbers")).status == 200
    graph["1"]["inputs"]["height"] = 9
    after = pixels(server.prompt(graph).images[0])
    assert np.array_equal(after[:8], before)


def test_savers_that_a_node_makes_alike_each_time_save_each_time(server: ComfyServer) -> None:
    before = server.files()
    for _ in range(3):
        reply = server.prompt({"1": node("HostileExpands")})
        assert (reply.status, len(reply.json.get("images", []))) == (200, 2), reply.body[:500]
    assert server.files() == before


@pytest.mark.parametrize(
    "act",
    [
        "much", "nothing", "half a character", "an object", "what cannot be said", "that it fails",
        "that it exits",
    ],
)  # fmt: skip
def test_what_a_class_says_of_its_inputs_is_a_refusal_of_some_length(
    server: ComfyServer, act: str
) -> None:
    graph: Graph = {"1": node("HostileRefuses", act=act)}
    reply = server.prompt(graph)
    assert ended(reply) == (400, "invalid_prompt"), reply.body[:500]
    checked = server.post("/api/stateless/validate", {"prompt": graph})
    assert (checked.status, checked.json["valid"]) == (200, False), checked.body[:500]
    assert max(len(reply.body), len(checked.body)) < 2 * LONGEST


def test_a_class_that_exits_when_asked_for_its_inputs_ends_nobody(server: ComfyServer) -> None:
    assert ended(server.prompt({"1": node("HostileExits")})) == (400, "invalid_prompt")
    assert is_fine(server)


def test_a_node_that_never_comes_back_ends_the_process_and_no_accepted_job(
    server: ComfyServer, receiver: Receiver
) -> None:
    before = server.files()
    assert ended(server.prompt(does("hangs"), timeout_s=0.3)) == (504, "timeout")
    hook = f"{receiver.origin}/hook"
    assert server.prompt(saved(3), id="behind it", webhook_v2=hook).status == 202
    assert server.ended(within_s=30) == UNUSABLE
    server.start()
    server.wait_until_ready()
    assert receiver.wait_for("behind it").body["type"] == "prompt.complete"
    assert is_fine(server)
    assert server.files() == before


def test_a_node_that_takes_the_journals_descriptors_leaves_it_what_it_knew(
    server: ComfyServer, receiver: Receiver
) -> None:
    hook = f"{receiver.origin}/hook"
    ids = [f"{name} on {server.install.version}" for name in ("runs", "closes", "knows")]
    graphs = waiting(0.3, "closed"), does("closes_the_journal"), saved(3)
    for caller_id, graph in zip(ids, graphs, strict=True):
        assert server.prompt(graph, id=caller_id, webhook_v2=hook).status == 202
    for caller_id in ids:
        assert receiver.wait_for(caller_id).body["type"] == "prompt.complete"
    assert "A node has closed the journal's files; it is opened anew" in server.log


def test_a_node_that_takes_all_descriptors_ends_the_process_and_no_accepted_job(
    server: ComfyServer, receiver: Receiver
) -> None:
    before = server.files()
    hook = f"{receiver.origin}/hook"
    accepted = [f"{name} on {server.install.version}" for name in ("before it", "after it")]
    assert server.prompt(waiting(1, "closes"), id=accepted[0], webhook_v2=hook).status == 202
    with ThreadPoolExecutor(1) as others:
        _ = others.submit(server.prompt, does("closes_everything"))  # its answer may be cut off
        assert server.prompt(saved(3), id=accepted[1], webhook_v2=hook).status == 202
        assert server.ended(within_s=30) == UNUSABLE
    assert "A node has closed descriptors that this process's server needs." in server.log
    server.start()
    server.wait_until_ready()
    for caller_id in accepted:
        assert receiver.wait_for(caller_id).body["type"] == "prompt.complete"
    assert is_fine(server)
    assert server.files() == before
