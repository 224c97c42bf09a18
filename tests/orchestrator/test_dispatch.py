"""The books of the dispatcher: every call once, a bound for deaths, copies of calls that take too long."""

import pytest

from orchestrator.dispatch import PATIENCE, STRAGGLES, Dispatch


def started(calls: int, workers: int, bound: int = 2) -> Dispatch:
    books = Dispatch(calls, bound)
    for worker in range(workers):
        books.free(worker)
    return books


@pytest.mark.parametrize(("calls", "workers"), [(0, 1), (1, 3), (7, 1), (7, 3)])
def test_every_call_is_made_once_and_no_worker_has_two(calls: int, workers: int) -> None:
    books, made, busy = started(calls, workers), list[int](), list[int]()
    while not books.finished:
        while (pair := books.next(0.0)) is not None:
            assert pair[0] not in busy
            busy.append(pair[0])
            made.append(pair[1])
        assert len(busy) <= workers
        assert books.answered(busy.pop(0), 1.0) is not None
    assert made == list(range(calls))


def test_a_call_whose_worker_died_is_the_next_one() -> None:
    books = started(4, 2)
    assert (books.next(0.0), books.next(0.0)) == ((0, 0), (1, 1))
    assert books.died(0) == 0
    assert books.next(0.0) is None  # the dead one is not idle, the other is busy
    books.free(0)  # its replacement
    assert books.next(0.0) == (0, 0)


def test_a_call_that_kills_again_and_again_is_poisoned_and_the_others_are_not() -> None:
    books = started(3, 1, bound=2)
    for death in range(3):
        assert books.next(0.0) == (0, 0)
        books.died(0)
        assert books.is_poisoned(0) == (death == 2)
        books.free(0)
    assert not books.is_poisoned(1)


def test_deaths_of_different_calls_do_not_add_up() -> None:
    books = started(10, 1, bound=1)
    for call in range(10):
        for _ in range(2):
            assert books.next(0.0) == (0, call)
            if books.deaths[call]:
                assert books.answered(0, 1.0) == call
                break
            books.died(0)
            books.free(0)
        assert not books.is_poisoned(call)
    assert books.finished


def test_the_slowest_call_is_made_twice_and_the_first_answer_counts() -> None:
    books = started(3, 3)
    for _ in range(3):
        books.next(0.0)
    assert books.answered(0, 30.0) == 0
    assert books.answered(1, 30.0) == 1
    late = 30.0 * STRAGGLES
    assert books.next(late) is None  # not yet
    assert books.next(late + 1) == (0, 2)
    assert books.next(late + 1) is None  # two are enough
    assert books.answered(0, late + 9) == 2
    assert books.finished
    assert books.answered(2, late + 99) is None


def test_nothing_straggles_soon_and_nothing_without_a_fellow() -> None:
    books = started(2, 2)
    books.next(0.0), books.next(0.0)
    books.free(2)
    assert books.next(1e6) is None  # nothing to compare with
    books.answered(0, 0.1)
    assert books.next(PATIENCE - 1) is None
    assert books.next(PATIENCE + 1) == (2, 1)


def test_the_death_of_a_copy_leaves_the_first_alone() -> None:
    books = started(2, 2)
    books.next(0.0), books.next(0.0)
    books.answered(0, 1.0)
    assert books.next(500.0) == (0, 1)
    books.died(0)
    books.free(0)
    assert books.answered(1, 501.0) == 1
    assert books.finished
