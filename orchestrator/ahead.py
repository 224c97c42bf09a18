"""Items made one step ahead on a thread, so that reading overlaps with the network."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


@contextmanager
def ahead(make: Callable[[A], B], over: Sequence[A]) -> Iterator[Iterator[tuple[A, B]]]:
    """An iterator of (item, make(item)) in order; the next one is being made while the caller uses this one."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")

    def iterate() -> Iterator[tuple[A, B]]:
        upcoming: Future[B] | None = pool.submit(make, over[0]) if over else None
        for i, item in enumerate(over):
            assert upcoming is not None
            made = upcoming.result()
            if i + 1 < len(over):
                upcoming = pool.submit(make, over[i + 1])
            yield item, made

    try:
        yield iterate()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
