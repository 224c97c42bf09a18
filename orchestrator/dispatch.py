"""Which call of many is made by which worker: retries with a bound, copies of calls that take too long.  No Ray here.

The dispatcher of ``RayWorkers`` asks and tells; this module only keeps the books, so that every fault can be played
through without a cluster. At most one call a worker is under way, however many there are: memory stays bounded.
"""

import statistics
from collections import Counter, deque
from dataclasses import dataclass, field

STRAGGLES = 4.0  # times the median of its fellows: a call that takes so long is given to a second worker as well
PATIENCE = 60.0  # seconds: nothing straggles before


@dataclass
class Dispatch:
    """The books over ``calls`` calls. A worker is idle when it is told so by ``free``, and busy from ``next`` on."""

    calls: int
    bound: int  # deaths of workers that one call may cost
    deaths: Counter[int] = field(default_factory=Counter)  # of workers, a call

    def __post_init__(self) -> None:
        self._open = deque(range(self.calls))
        self._idle: deque[int] = deque()
        self._busy: dict[int, tuple[int, float]] = {}  # worker: call, since when
        self._took: list[float] = []
        self._done: set[int] = set()

    @property
    def finished(self) -> bool:
        """Whether every call has an answer; copies may still be under way."""
        return len(self._done) == self.calls

    def free(self, worker: int) -> None:
        """This worker has nothing to do."""
        self._busy.pop(worker, None)
        self._idle.append(worker)

    def next(self, now: float) -> tuple[int, int] | None:
        """(worker, call) to be made now, or None: open calls first, then the slowest one once more."""
        if not self._idle:
            return None
        call = self._open.popleft() if self._open else self._straggler(now)
        if call is None:
            return None
        worker = self._idle.popleft()
        self._busy[worker] = (call, now)
        return worker, call

    def answered(self, worker: int, now: float) -> int | None:
        """The call that this worker has answered, None where a copy of it was faster. The worker is free."""
        call, since = self._busy[worker]
        self.free(worker)
        if call in self._done:
            return None
        self._took.append(now - since)
        self._done.add(call)
        return call

    def died(self, worker: int) -> int:
        """The call that this worker died of; first in line again. The worker is neither busy nor idle."""
        call, _ = self._busy.pop(worker)
        self.deaths[call] += 1
        self.again(call)
        return call

    def failed(self, worker: int) -> int:
        """The call that this worker could not make; first in line again. The worker is free."""
        call, _ = self._busy[worker]
        self.free(worker)
        self.again(call)
        return call

    def again(self, call: int) -> None:
        """Put a call first in line, unless it is answered or made elsewhere."""
        if call not in self._done and call not in self._open and call not in self._made():
            self._open.appendleft(call)

    def is_poisoned(self, call: int) -> bool:
        """Whether this call cost more workers than it may."""
        return call not in self._done and self.deaths[call] > self.bound

    def _made(self) -> list[int]:
        return [call for call, _ in self._busy.values()]

    def _straggler(self, now: float) -> int | None:
        """The slowest of the calls that are made by one worker alone and take too long."""
        if not self._took:
            return None
        limit = max(PATIENCE, STRAGGLES * statistics.median(self._took))
        made = Counter(self._made())
        slow = [
            (since, call)
            for call, since in self._busy.values()
            if made[call] == 1 and call not in self._done and now - since > limit
        ]
        return min(slow)[1] if slow else None
