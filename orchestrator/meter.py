"""What a process takes: seconds by phase, memory, bytes. Always on: a clock that is read a few times a batch."""

import resource
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import psutil

T = TypeVar("T")
STEPS = 1000  # training steps whose seconds are kept
PEAK = 1 if sys.platform == "darwin" else 1024  # bytes of the unit in which the system tells the peak


@dataclass(frozen=True)
class Reading:
    """What one process took since its meter began."""

    seconds: Mapping[str, float]  # by phase
    steps: tuple[float, ...]  # of training steps, the first of a fit apart
    rss: int  # bytes held at the highest since the process began
    pss: int | None  # bytes held now, pages shared with others in shares; None where the system does not tell
    read: int | None  # bytes that came out of files, from disk or from the system's cache; None as above
    written: int | None


class Meter:
    """Adds up the seconds of phases, from any thread: phases of several threads run beside each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """Forget what was counted."""
        self._seconds: dict[str, float] = defaultdict(float)
        self._steps: deque[float] = deque(maxlen=STEPS)
        self._stepped: float | None = None
        self._moved = _moved()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of the block as this phase's."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._seconds[name] += time.perf_counter() - start

    def waiting(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """The items; the time until each is there is this phase's."""
        stream = iter(items)
        while True:
            with self.phase(name):
                found = next(((item,) for item in stream), None)
            if found is None:
                return
            yield found[0]

    def fit(self) -> None:
        """A fit begins: its first step is not counted, because it waits for what the others find ready."""
        self._stepped = None

    def step(self) -> None:
        """A training step is done."""
        now = time.perf_counter()
        if self._stepped is not None:
            self._steps.append(now - self._stepped)
        self._stepped = now

    def reading(self) -> Reading:
        """What was taken until now."""
        read, written = _moved()
        before = self._moved
        return Reading(
            dict(self._seconds),
            tuple(self._steps),
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK,
            getattr(psutil.Process().memory_full_info(), "pss", None),
            None if read is None or before[0] is None else read - before[0],
            None if written is None or before[1] is None else written - before[1],
        )


def _moved() -> tuple[int | None, int | None]:
    """Bytes that this process has read from files and written to files; None where the system does not tell."""
    try:
        count = psutil.Process().io_counters()
    except (AttributeError, psutil.Error, OSError):
        return None, None
    return getattr(count, "read_chars", None), getattr(count, "write_chars", None)
