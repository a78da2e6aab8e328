"""Starts threads, changes how event loops are made, and takes the report of dead threads over."""

import asyncio
import threading
import time


class Policy(asyncio.DefaultEventLoopPolicy):
    """Makes a loop in any thread that asks for one."""

    def get_event_loop(self):
        if self._local._loop is None:
            self.set_event_loop(self.new_event_loop())
        return self._local._loop


def works():
    while True:
        asyncio.get_event_loop().run_until_complete(asyncio.sleep(0.05))
        time.sleep(0.05)


asyncio.set_event_loop_policy(Policy())
for number in range(3):
    threading.Thread(target=works, name=f"pack-{number}", daemon=True).start()
threading.excepthook = lambda args: None  # and tells nobody

NODE_CLASS_MAPPINGS = {}
