"""Put in front of a process's path: its clock is ahead, and SQLite slow, by what files say.

Only the clock on the wall: time that is measured (``time.monotonic``) goes on as it does where an
operator, or a time server, sets a clock.
"""

import functools
import mmap
import os
import sqlite3
import struct
import time


def _number_in(variable):
    """Return a function that gives the number in the file that a variable names."""
    file = os.open(os.environ[variable], os.O_RDONLY)
    content = mmap.mmap(file, 8, access=mmap.ACCESS_READ)
    os.close(file)
    return lambda: struct.unpack_from("<d", content)[0]


_ahead_s = _number_in("CHAOS_CLOCK")
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + _ahead_s()
time.time_ns = lambda: _time_ns() + int(_ahead_s() * 1e9)

if "CHAOS_COMMITS" in os.environ:
    _commit_s = _number_in("CHAOS_COMMITS")

    class _Slow(sqlite3.Connection):
        def execute(self, sql, *values):
            if sql == "COMMIT":
                time.sleep(_commit_s())
            return super().execute(sql, *values)

    sqlite3.connect = functools.partial(sqlite3.connect, factory=_Slow)
