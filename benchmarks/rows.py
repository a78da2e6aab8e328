"""What a benchmark says: rows of figures, and the budgets of the design."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .spread import Spread


@dataclass(frozen=True)
class Budget:
    """What a row has to keep.

    Attributes:
        what: The figure that is judged: the median of our own, the median of the ratios, or the
            highest ratio.
    """

    what: Literal["ours", "ratio", "highest ratio"]
    sign: Literal["at least", "at most"]
    limit: float


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        ratio: Ours over plain, round by round.
        beside: The same of the other server that is measured, where there is one.
        beside_ratio: Ours over it, round by round.
    """

    key: str
    label: str
    unit: str
    ours: Spread
    plain: Spread | None = None
    ratio: Spread | None = None
    note: str = ""
    beside: Spread | None = None
    beside_ratio: Spread | None = None

    @property
    def is_less_better(self) -> bool:
        return self.unit not in MORE_IS_BETTER

    @property
    def budget(self) -> Budget | None:
        return BUDGETS.get(self.key)

    @property
    def met(self) -> bool | None:
        """Whether the budget is kept; None where there is none."""
        if self.budget is None:
            return None
        figure = self._judged(self.budget)
        at_least = self.budget.sign == "at least"
        return figure >= self.budget.limit if at_least else figure <= self.budget.limit

    def telling(self) -> tuple[Literal["ours", "ratio"], Spread]:
        """Return the figure to compare with other runs: the ratio, unless the budget is for ours."""
        is_of_ours = self.budget is not None and self.budget.what == "ours"
        return ("ours", self.ours) if self.ratio is None or is_of_ours else ("ratio", self.ratio)

    def _judged(self, budget: Budget) -> float:
        if budget.what == "ours":
            return self.ours.median
        if self.ratio is None:
            raise ValueError(f"The row {self.key} has no ratio to judge.")
        return self.ratio.median if budget.what == "ratio" else self.ratio.high


def compared(
    key: str,
    label: str,
    unit: str,
    ours: Spread,
    plain: Spread,
    note: str = "",
    beside: Spread | None = None,
) -> Row:
    """Return a row with the ratios of the sides, whose rounds have to be as many."""
    ratio, beside_ratio = ours.over(plain), beside and ours.over(beside)
    return Row(key, label, unit, ours, plain, ratio, note, beside, beside_ratio)


MORE_IS_BETTER = frozenset({"1/s", "/s", "MB/s", "times as fast"})
"""Units; of all others less is better."""


BUDGETS = {
    "smallest.1.rate": Budget("ratio", "at least", 2.5),
    "smallest.8.rate": Budget("ratio", "at least", 2.5),
    "smallest.1.above": Budget("ours", "at most", 1.5),
    "pictures.png.rate": Budget("ratio", "at least", 8),
    "pictures.png.size": Budget("highest ratio", "at most", 1.2),
    "pictures.jpeg.rate": Budget("ratio", "at least", 12),
    "pictures.webp.rate": Budget("ratio", "at least", 2.8),
    "worker.saver": Budget("ours", "at most", 3),
    "memory.growth": Budget("ours", "at most", 64),
    "memory.frames": Budget("ours", "at most", 768),
    "import.time": Budget("ours", "at most", 150),
    "queue.watched": Budget("ours", "at most", 50),
    "download.local": Budget("ratio", "at least", 1.3),
    "download.limited": Budget("ratio", "at least", 5),
    "gateway.added": Budget("ours", "at most", 1),
    "gateway.memory": Budget("ours", "at most", 128),
}
"""The budgets that apply so far, in the units of their rows."""
