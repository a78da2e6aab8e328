"""The journal is locked by another, or damaged while nobody has it open."""

from __future__ import annotations

import fcntl
import random
import shutil
import sqlite3
import time
from contextlib import closing

from tests.chaos.arena import Arena
from tests.chaos.checker import Checker, until_none
from tests.chaos.traffic import HOOK, MADE, Traffic

LOCKED_S = 8.0
COMMIT_S = (0.5, 3.0)
DATABASE = "journal.sqlite3"


def test_another_process_locks_the_database(
    arena: Arena, traffic: Traffic, checker: Checker
) -> None:
    with traffic.flowing():
        time.sleep(1.0)
        with closing(_opened(arena)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(LOCKED_S)
            other.execute("ROLLBACK")
        time.sleep(1.0)
    checker.require(traffic, {"journal_busy"})


def test_the_disk_of_the_journal_is_slow_for_a_while(
    arena: Arena, traffic: Traffic, checker: Checker
) -> None:
    with traffic.flowing():
        time.sleep(0.5)
        for seconds in COMMIT_S:
            with arena.clock.slow_commits(seconds):
                time.sleep(2 * seconds)
                checker.comfyui_is_itself()  # and as quick as ever
    checker.require(traffic, set())


def test_a_start_while_the_database_is_locked_is_told_and_loses_nothing(
    arena: Arena, traffic: Traffic, checker: Checker
) -> None:
    with traffic.flowing():
        time.sleep(1.5)
        arena.server.stop()
    with closing(_opened(arena)) as other:
        other.execute("BEGIN EXCLUSIVE")
        arena.server.start()
        until_none(lambda: [] if "waits for its journal" in arena.server.log else ["ready"], 30)
        reason = arena.server.get("/api/stateless/ready").json["reason"]
        assert "locked" in reason
        assert str(arena.folder("state")) in reason
        arena.server.stop()
    checker.require(traffic, {"crashed", "unavailable"})


def test_a_start_while_another_has_the_folder_leaves_what_is_due_to_the_next(
    arena: Arena, traffic: Traffic, checker: Checker
) -> None:
    traffic.kinds = ((MADE, HOOK),)
    with traffic.flowing():
        time.sleep(1.5)
        arena.server.stop()
    with (arena.folder("state") / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        arena.up()
        with traffic.flowing():
            time.sleep(1.0)
        arena.server.stop()
    checker.require(traffic, {"crashed", "unavailable"})


def test_a_damaged_journal_is_told_and_in_nobodys_way(
    arena: Arena, traffic: Traffic, checker: Checker, chance: random.Random
) -> None:
    with traffic.flowing():
        time.sleep(1.5)
        arena.server.stop()
    database = arena.folder("state") / DATABASE
    content = bytearray(database.read_bytes())
    for at in (chance.randrange(16, len(content)) for _ in range(len(content) // 40)):
        content[at] ^= 0xFF
    database.write_bytes(content)
    arena.up()
    (aside,) = arena.folder("state").glob("damaged-*")
    try:
        assert f"it lies in {aside} now" in arena.server.log
        assert arena.server.get("/api/stateless/status").json["journal"]["damaged"] == aside.name
        later = Traffic(arena)
        with later.flowing():
            time.sleep(2.0)
        checker.require(later, set())
    finally:
        shutil.rmtree(aside)


def _opened(arena: Arena) -> sqlite3.Connection:
    path = arena.folder("state") / DATABASE
    return sqlite3.connect(path, isolation_level=None, timeout=30)
