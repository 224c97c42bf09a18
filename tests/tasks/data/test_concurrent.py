"""Results come in the order of the items, a bounded number ahead, and an error stops what has not been begun with."""

import threading
from collections.abc import Iterator

import pytest

from tasks.data.concurrent import in_order


def test_results_come_in_the_order_of_the_items() -> None:
    later = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert later.wait(30)  # the first one ends after others
        if item == 2:
            later.set()
        return item * item

    assert list(in_order(range(40), work, 3)) == [(i, i * i) for i in range(40)]


def test_a_stream_is_taken_a_bounded_number_of_items_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(1000):
            taken.append(i)
            yield i

    stream = in_order(items(), str, 2)
    assert next(stream) == (0, "0")
    assert len(taken) == 8
    stream.close()  # type: ignore[attr-defined]
    assert len(taken) == 8


def test_an_error_comes_in_its_turn_and_ends_the_work() -> None:
    done: list[int] = []

    def work(item: int) -> int:
        done.append(item)
        return 1 // (5 - item)

    found: list[int] = []
    with pytest.raises(ZeroDivisionError):
        for item, _ in in_order(range(1000), work, 2):
            found.append(item)
    assert found == [0, 1, 2, 3, 4]
    assert len(done) < 20
