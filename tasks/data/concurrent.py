"""Work on a stream of items by several threads, a few items ahead: decoding, and waiting for servers."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def in_order(items: Iterable[A], work: Callable[[A], B], threads: int) -> Iterator[tuple[A, B]]:
    """Each item with ``work(item)``, in the order of the items, of which at most ``4 * threads`` are under way.

    Without threads, the work is done here.
    """
    if not threads:
        yield from ((item, work(item)) for item in items)
        return
    waiting: deque[tuple[A, Future[B]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) >= 4 * threads:
                    first, found = waiting.popleft()
                    yield first, found.result()
            while waiting:
                first, found = waiting.popleft()
                yield first, found.result()
        finally:  # nobody takes what has not been begun with
            pool.shutdown(wait=False, cancel_futures=True)
