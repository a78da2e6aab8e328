"""How long to wait before ComfyUI is started again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Waits longer from time to time, up to a limit, and begins anew after a life that lasted.

    Attributes:
        first_s: About the first wait in seconds.
        most_s: The longest.
        settled_s: How long a process has to have been up for the next wait to be the first again.
        draw: Gives a number from 0 to 1, so that many launchers do not start all at once.
    """

    first_s: float = 0.5
    most_s: float = 10.0
    settled_s: float = 60.0
    draw: Callable[[], float] = random.random
    _ends: int = field(default=0, init=False)

    def next_s(self, was_up_s: float) -> float:
        """Return the seconds to wait after a process that was up for ``was_up_s``."""
        if was_up_s >= self.settled_s:
            self._ends = 0
        whole = min(self.most_s, self.first_s * float(2**self._ends))
        self._ends = min(self._ends + 1, 30)
        return whole * (1 + self.draw()) / 2
