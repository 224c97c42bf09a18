"""What is labeled at the start and who sells more: shares, counts, both at once, and what is neither."""

import pytest

from orchestrator.active import Active, Budget, Initial, check_initial, check_start, images_of, only, start_of

TASKS = ("segmentation", "depth")


def test_a_number_is_for_all_tasks_and_a_mapping_for_each() -> None:
    assert start_of(0.4, TASKS, 50) == {"segmentation": 20, "depth": 20}
    assert start_of({"segmentation": 0.1, "depth": 30}, TASKS, 50) == {"segmentation": 5, "depth": 30}
    assert start_of({"depth": 1000}, TASKS, 50) == {"segmentation": 0, "depth": 50}
    assert (images_of(0.5, 7), images_of(3, 7), images_of(9, 7)) == (4, 3, 7)


def test_what_the_data_set_has_labeled() -> None:
    check_initial("labeled")
    assert start_of("labeled", TASKS, 50) == {"segmentation": 50, "depth": 50}  # at most
    assert only("labeled", ["depth"]) == "labeled"
    assert Active("labeled", Budget(2), 3, oracle="label_studio").buys
    assert not Active("labeled", Budget(2), 0).buys
    assert not Active(3, Budget(2), 3, oracle="label_studio").reveals
    with pytest.raises(ValueError, match="has no label left to sell; expected oracle: label_studio, or cycles: 0"):
        Active("labeled", Budget(2), 3)


def test_some_of_the_tasks() -> None:
    assert only({"segmentation": 1, "depth": 2}, ["depth"]) == {"depth": 2}
    assert only(0.3, ["depth"]) == 0.3


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        (0, "initial is 0; expected more than 0, and finite"),
        (2.5, "initial is 2.5; expected a share of the pool below 1, or a whole number"),
        ({"depth": -1}, "initial.depth is -1; expected"),
        ({"depth": 2.5}, "initial.depth is 2.5; expected a share"),
        ({"depth": 0, "segmentation": 0}, "expected labels for at least one task"),
        ({}, "expected labels for at least one task"),
        ("labeld", "initial is 'labeld'; expected a share of the pool, a number of images, or 'labeled'"),
    ],
)
def test_what_is_no_start_is_refused(initial: Initial, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_initial(initial)


def test_a_task_that_there_is_not_is_refused() -> None:
    check_initial({"depth": 0, "segmentation": 1})
    check_start({"depth": 1}, TASKS)
    with pytest.raises(ValueError, match=r"active.initial names 'pose'; expected some of the tasks"):
        check_start({"pose": 1}, TASKS)
