"""Splits that are drawn by hashing."""

import pytest

from tasks.data.splits import check_shares, drawn_split


def test_shares_are_about_what_was_asked_and_only_of_train() -> None:
    drawn = [drawn_split("train", f"scene {i}", 0.2, 0.3) for i in range(1500)]
    assert drawn == [drawn_split("train", f"scene {i}", 0.2, 0.3) for i in range(1500)]
    assert abs(drawn.count("val") / 1500 - 0.2) < 0.04
    assert abs(drawn.count("test") / 1500 - 0.3) < 0.04
    assert {drawn_split("val", f"scene {i}", 0.2, 0.3) for i in range(50)} == {"val"}
    assert {drawn_split("train", f"scene {i}", 0.0, 0.0) for i in range(50)} == {"train"}


def test_a_larger_share_keeps_what_a_smaller_one_drew() -> None:
    small = {i for i in range(500) if drawn_split("train", str(i), 0.1, 0) == "val"}
    assert small < {i for i in range(500) if drawn_split("train", str(i), 0.2, 0) == "val"}


@pytest.mark.parametrize("shares", [(-0.1, 0.0), (0.5, 0.5), (float("nan"), 0.0)])
def test_shares_that_leave_nothing_to_train_on_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"foo: validation is .*expected shares of train"):
        check_shares("foo", *shares)
