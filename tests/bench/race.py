"""Two ways to the same values, timed in turns; and how many operations one of them takes."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch.utils._python_dispatch import TorchDispatchMode

ROUNDS = 7
SPAN = 0.2  # seconds: a shorter work is called more often
PATIENCE = 90.0  # seconds after which a side is not timed again


@dataclass(frozen=True)
class Race:
    """The best time of either side, in seconds for what is counted (an image, a pair, a centre)."""

    loop: float
    product: float
    rounds: tuple[int, int]

    @property
    def ratio(self) -> float:
        return self.loop / self.product

    def figures(self, unit: float = 1e3, name: str = "ms an image") -> str:
        """The ratio and both times, with ``unit`` of ``name`` in a second."""
        rounds = "" if min(self.rounds) == ROUNDS else f", best of {self.rounds[0]} and {self.rounds[1]}"
        return f"{self.ratio:,.3g}x ({self.loop * unit:,.4g} -> {self.product * unit:,.3g} {name}{rounds})"

    def against(self, target: float, unit: float = 1e3, name: str = "ms an image") -> str:
        """The same, and whether the target is met."""
        verdict = "met" if self.ratio >= target else "MISSED"
        return f"{self.figures(unit, name)} [target {target:,.0f}x {verdict}]"


def race(loop: Callable[[], object], looped: float, product: Callable[[], object], produced: float) -> Race:
    """Both in turns; ``looped`` and ``produced`` are how many of what is counted either does in one call."""
    sides = (loop, product)
    calls = [repeats(work) for work in sides]
    best, spent, rounds = [np.inf, np.inf], [0.0, 0.0], [0, 0]
    for _ in range(ROUNDS):
        for side, work in enumerate(sides):
            if spent[side] < PATIENCE:
                took = seconds(work, calls[side])
                best[side], spent[side], rounds[side] = min(best[side], took), spent[side] + took, rounds[side] + 1
    return Race(best[0] / calls[0] / looped, best[1] / calls[1] / produced, (rounds[0], rounds[1]))


def repeats(work: Callable[[], object]) -> int:
    """How many calls make a span that can be measured."""
    work()  # the first call of some operations costs more
    return max(1, int(SPAN / max(seconds(work, 1), 1e-6)))


def seconds(work: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        work()
    return time.process_time() - start


class Operations(TorchDispatchMode):
    """Counts the operations that are dispatched, and those among them that hand a number to Python."""

    def __init__(self) -> None:
        super().__init__()
        self.count = self.syncs = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += 1
        self.syncs += "local_scalar_dense" in str(func)
        return func(*args, **(kwargs or {}))
