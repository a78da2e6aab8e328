"""The launcher as a process: what it answers, what it makes of signals, and how it ends."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.launcher.running import PRETEND, Launched, is_alive, until

ON = {"ALWAYS_RESTART_COMFYUI": "true"}


def test_it_serves_comfyui_once_it_is_up_and_ends_in_order(tmp_path: Path) -> None:
    with Launched(tmp_path, {"forks": True}) as launcher:
        launcher.until_ready()
        assert launcher.status("/health") == 200
        assert launcher.request("/models").json["pids"] == launcher.pids
        launcher.tell(signal.SIGTERM)
        assert launcher.ended() == 0
        until(lambda: not any(map(is_alive, launcher.pids)), "nothing left", 5)
        assert "draining" in launcher.log


def test_probes_answer_before_comfyui_does(tmp_path: Path) -> None:
    with Launched(tmp_path, {"silent": True}) as launcher:
        until(lambda: launcher.status("/health") == 500, "unhealthy")
        assert launcher.request("/ready").json["reason"] == "ComfyUI is starting."
        assert launcher.status("/models") == 503


@pytest.fixture
def hang_ups_count() -> Iterator[None]:
    """Have programs hear SIGHUP though the tests run under nohup: what is ignored is inherited."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hang_ups_count")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_request_that_runs_is_answered_before_the_end(
    tmp_path: Path, number: signal.Signals
) -> None:
    with Launched(tmp_path) as launcher, ThreadPoolExecutor() as pool:
        launcher.until_ready()
        reply = pool.submit(launcher.request, "/prompt?held", b"{}")
        until((tmp_path / "running").exists, "running")
        launcher.tell(number)
        until(lambda: "draining" in launcher.log, "draining")
        assert launcher.status("/ready") == 503
        assert launcher.request("/models").json["error"] == "The server is shutting down."
        (tmp_path / "released").touch()
        assert reply.result().status == 200
        assert launcher.ended() == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with Launched(tmp_path, {"deaf": True, "forks": True}) as launcher:
        launcher.until_ready()
        launcher.tell(signal.SIGTERM)
        until(lambda: "ending" in launcher.log, "the first is heard")
        launcher.tell(signal.SIGINT)
        assert launcher.ended(5) == 130


def test_sigterm_while_comfyui_starts_ends_it_promptly(tmp_path: Path) -> None:
    with Launched(tmp_path, {"silent": True}) as launcher:
        until(lambda: launcher.pids, "started")
        launcher.tell(signal.SIGTERM)
        assert launcher.ended(5) == 0


def test_sigterm_while_it_waits_to_start_again_ends_it_promptly(tmp_path: Path) -> None:
    with Launched(tmp_path, {"die": 3}, ON) as launcher:
        until(lambda: launcher.log.count("It is started again") >= 3, "some starts")
        launcher.tell(signal.SIGTERM)
        assert launcher.ended(5) == 0


def test_it_ends_with_comfyuis_code_and_last_words(tmp_path: Path) -> None:
    with Launched(tmp_path, {"die": 3}) as launcher:
        assert launcher.ended() == 3
        message = launcher.log.partition("ERROR: ")[2]
        assert message.startswith("ComfyUI has ended with exit code 3 while it was starting.")
        assert "WARNING: asked for die" in message


@pytest.mark.parametrize(("command", "code"), [("no-such-program --x", 127), ("/dev/null", 126)])
def test_a_command_that_cannot_be_run_is_not_tried_again(
    tmp_path: Path, command: str, code: int
) -> None:
    with Launched(tmp_path, settings={**ON, "CMD": command}) as launcher:
        assert launcher.ended() == code
        assert f"{command.split()[0]} cannot be run" in launcher.log


def test_it_ends_with_the_signal_that_comfyui_died_of(tmp_path: Path) -> None:
    with Launched(tmp_path, {"forks": True}) as launcher:
        launcher.until_ready()
        os.kill(launcher.pids[0], signal.SIGKILL)
        assert launcher.ended() == 137
        assert "ComfyUI has ended of SIGKILL (is there enough memory?)." in launcher.log


def test_a_comfyui_that_is_killed_is_started_again_and_works(tmp_path: Path) -> None:
    with Launched(tmp_path, {"forks": True}, ON) as launcher:
        launcher.until_ready()
        first = launcher.pids
        os.kill(first[0], signal.SIGKILL)
        until(lambda: len(launcher.pids) > len(first), "started again")
        launcher.until_ready()
        until(lambda: not any(map(is_alive, first)), "nothing left", 5)
        assert launcher.status("/health") == 200


def test_a_comfyui_that_hangs_is_killed_and_started_again(tmp_path: Path) -> None:
    with Launched(tmp_path, {"forks": True}, {**ON, "COMFYUI_HANG_S": "1"}) as launcher:
        launcher.until_ready()
        first = launcher.pids
        os.kill(first[0], signal.SIGSTOP)
        until(lambda: len(launcher.pids) > len(first), "started again")
        launcher.until_ready()
        assert "ComfyUI has not answered for 1 s and is killed." in launcher.log


def test_a_comfyui_that_hangs_ends_the_launcher_where_it_is_not_restarted(tmp_path: Path) -> None:
    with Launched(tmp_path, settings={"COMFYUI_HANG_S": "1"}) as launcher:
        launcher.until_ready()
        os.kill(launcher.pids[0], signal.SIGSTOP)
        assert launcher.ended() == 1


def test_a_comfyui_that_never_answers_is_given_up(tmp_path: Path) -> None:
    settings = {**ON, "STARTUP_CHECK_MAX_TRIES": "3"}
    with Launched(tmp_path, {"silent": True}, settings) as launcher:
        assert launcher.ended() == 1
        assert "has not answered within 3 tries, 0.1 s apart" in launcher.log
        assert "STARTUP_CHECK_MAX_TRIES" in launcher.log


def test_a_warm_up_that_failed_ends_the_launcher_with_its_reason(tmp_path: Path) -> None:
    with Launched(tmp_path, settings=ON) as launcher:
        launcher.say("warming")
        until(lambda: launcher.log.count("is starting") == 1, "starting")
        until(lambda: launcher.pids, "started")
        until(lambda: "is starting" not in launcher.request("/ready").json["reason"], "up")
        assert launcher.status("/health") == 500
        launcher.say("failed")
        assert launcher.ended() == 1
        assert "The stateless API cannot work: It is failed." in launcher.log


@pytest.mark.parametrize("variable", ["PORT", "COMFYUI_PORT_HOST"])
def test_a_port_that_is_taken_is_named(tmp_path: Path, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with Launched(tmp_path, settings={variable: port}) as launcher:
            assert launcher.ended() == 1
            assert port in launcher.log
            assert launcher.pids == []


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_processes_that_left_comfyuis_group_end_with_it(tmp_path: Path) -> None:
    with Launched(tmp_path, {"forks": True, "strays": True}) as launcher:
        launcher.until_ready()
        os.kill(launcher.pids[0], signal.SIGKILL)
        launcher.ended()
        until(lambda: not any(map(is_alive, launcher.pids)), "nothing left", 5)


def test_comfyui_does_not_outlive_a_launcher_that_is_killed(tmp_path: Path) -> None:
    with Launched(tmp_path, {"forks": True, "deaf": True}) as launcher:
        launcher.until_ready()
        launcher.process.kill()
        launcher.process.wait()
        until(lambda: not any(map(is_alive, launcher.pids)), "nothing left", 5)


def test_a_launcher_that_is_killed_while_comfyui_starts_leaves_nothing(tmp_path: Path) -> None:
    with Launched(tmp_path, {"silent": True}) as launcher:
        until(lambda: launcher.pids, "started")
        launcher.process.kill()
        launcher.process.wait()
        until(lambda: not any(map(is_alive, launcher.pids)), "nothing left", 5)


def test_a_comfyui_killed_while_it_drains_ends_the_launcher(tmp_path: Path) -> None:
    with Launched(tmp_path) as launcher, ThreadPoolExecutor() as pool:
        launcher.until_ready()
        reply = pool.submit(launcher.request, "/prompt?held", b"{}")
        until((tmp_path / "running").exists, "running")
        launcher.tell(signal.SIGTERM)
        until(lambda: "draining" in launcher.log, "draining")
        os.kill(launcher.pids[0], signal.SIGKILL)
        assert reply.result().status == 502
        assert launcher.ended() == 137


def test_a_script_that_runs_comfyui_lets_it_drain(tmp_path: Path) -> None:
    script = tmp_path / "init.sh"
    script.write_text(f"{shlex.join([sys.executable, str(PRETEND)])}\nexit 9\n")
    settings = {"CMD": f"sh {script}"}
    with Launched(tmp_path, settings=settings) as launcher, ThreadPoolExecutor() as pool:
        launcher.until_ready()
        reply = pool.submit(launcher.request, "/prompt?held", b"{}")
        until((tmp_path / "running").exists, "running")
        launcher.tell(signal.SIGTERM)
        until(lambda: "draining" in launcher.log, "draining")
        (tmp_path / "released").touch()
        assert reply.result().status == 200
        assert launcher.ended() == 0


def test_flags_reach_comfyui_through_its_environment_alone(tmp_path: Path) -> None:
    arguments = ("--max-queue-depth", "7", "--hf-token=hush", "--reject-when-full")
    with Launched(tmp_path, arguments=arguments) as launcher:
        launcher.until_ready()
        told = launcher.request("/models").json
        assert told["environment"]["MAX_QUEUE_DEPTH"] == "7"
        assert told["environment"]["HF_TOKEN"] == "hush"
        assert told["environment"]["REJECT_WHEN_FULL"] == "true"
        assert told["argv"] == []
        assert "hush" not in launcher.log


def test_everything_wrong_is_said_in_one_message(tmp_path: Path) -> None:
    settings = {"PORT": "many", "MAX_QUEUE_DEPTH": "-1", "WEBHOOK_SECRET": "*", "CMD": "'"}
    with Launched(tmp_path, settings=settings, arguments=("--log-level", "loud")) as launcher:
        assert launcher.ended() == 2
        (line,) = launcher.log.splitlines()
        assert all(name in line for name in (*settings, "LOG_LEVEL"))


def test_a_dry_run_starts_nothing(tmp_path: Path) -> None:
    with Launched(tmp_path, arguments=("--dry-run",)) as launcher:
        assert launcher.ended() == 0
        assert "pretend_comfyui.py" in launcher.log
        assert launcher.pids == []
        assert list((tmp_path / "home" / "custom_nodes").iterdir()) == []


def test_a_json_log_has_an_object_in_each_line(tmp_path: Path) -> None:
    with Launched(tmp_path, settings={"LOG_FORMAT": "json"}) as launcher:
        launcher.until_ready()
        launcher.tell(signal.SIGTERM)
        launcher.ended()
        entries = [json.loads(line) for line in launcher.log.splitlines()]
    assert {entry["source"] for entry in entries} == {"launcher", "comfyui"}
    assert ("comfyui", "warn", "WARNING: asked for folder") in {
        (entry["source"], entry["level"], entry["message"]) for entry in entries
    }
    assert all(entry["time"].endswith("+00:00") for entry in entries)


def test_much_output_is_read_and_cut(tmp_path: Path) -> None:
    with Launched(tmp_path, {"bytes": 5_000_000}) as launcher:
        launcher.until_ready()
        launcher.tell(signal.SIGTERM)
        assert launcher.ended() == 0
        assert "bytes left out)" in launcher.log
        assert len(launcher.log) < 100_000


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        with Launched(tmp_path, {"lines": 200_000}, log_to=writing) as launcher:
            launcher.until_ready()
            assert launcher.status("/models") == 200
            launcher.tell(signal.SIGTERM)
            assert launcher.ended() == 0
    finally:
        os.close(reading)
        os.close(writing)


def test_a_reboot_by_comfyui_manager_starts_comfyui_again(tmp_path: Path) -> None:
    with Launched(tmp_path) as launcher:
        launcher.until_ready()
        session = launcher.request("/models").json["environment"]["__COMFY_CLI_SESSION__"]
        Path(f"{session}.reboot").touch()
        os.kill(launcher.pids[0], signal.SIGTERM)
        until(lambda: len(launcher.pids) == 2, "started again")
        launcher.until_ready()
        assert "ComfyUI has ended for a reboot." in launcher.log


def unsharing() -> tuple[str, ...]:
    program = shutil.which("unshare")
    options = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
    command = (str(program), *options)
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return ()
    return command


@pytest.fixture
def apart() -> tuple[str, ...]:
    """A command whose child is the first process of a container of its own."""
    return unsharing() or pytest.skip("this system does not let us make namespaces")


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ended_children(pid: int) -> list[int]:
    return [child for child in children(pid) if not is_alive(child)]


def first_of(launcher: Launched) -> int:
    """Return the number that the first process of the container has out here."""
    until(lambda: children(launcher.process.pid), "unshared")
    return children(launcher.process.pid)[0]


def comfyui_of(launcher: Launched) -> int:
    """Return the number that the ComfyUI of the container has out here."""
    (program,) = children(first_of(launcher))[:1]
    return next(
        p for p in children(program) if b"pretend" in Path(f"/proc/{p}/cmdline").read_bytes()
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_the_first_process_it_hands_signals_on(
    tmp_path: Path, apart: tuple[str, ...], number: signal.Signals
) -> None:
    with Launched(tmp_path, {"forks": True}, before=apart) as launcher:
        launcher.until_ready()
        os.kill(first_of(launcher), number)
        assert launcher.ended() == 0
        assert "draining" in launcher.log


def test_as_the_first_process_it_reaps_what_is_left_to_it(
    tmp_path: Path, apart: tuple[str, ...]
) -> None:
    asked = {"orphans": 20}
    with Launched(tmp_path, asked, ON, before=apart) as launcher:
        launcher.until_ready()
        first = first_of(launcher)
        until(lambda: not ended_children(first), "reaped")
        os.kill(comfyui_of(launcher), signal.SIGKILL)
        until(lambda: launcher.log.count("is starting, as process") == 2, "started again")
        launcher.until_ready()
        until(lambda: not ended_children(first), "reaped")
        assert launcher.process.poll() is None


def test_as_the_first_process_it_has_comfyuis_exit_code(
    tmp_path: Path, apart: tuple[str, ...]
) -> None:
    with Launched(tmp_path, {"die": 3}, before=apart) as launcher:
        assert launcher.ended() == 3
