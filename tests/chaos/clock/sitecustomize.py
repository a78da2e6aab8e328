"""Put in front of a process's path: its clock is ahead by the seconds that a file says.

Only the clock on the wall: time that is measured (``time.monotonic``) goes on as it does where an
operator, or a time server, sets a clock.
"""

import mmap
import os
import struct
import time

_file = os.open(os.environ["CHAOS_CLOCK"], os.O_RDONLY)
_ahead = mmap.mmap(_file, 8, access=mmap.ACCESS_READ)
os.close(_file)
_time, _time_ns = time.time, time.time_ns


def _seconds():
    return struct.unpack_from("<d", _ahead)[0]


time.time = lambda: _time() + _seconds()
time.time_ns = lambda: _time_ns() + int(_seconds() * 1e9)
