"""How many images are labeled at the start: the same for all tasks, or a number for each of them."""

import math
from collections.abc import Collection, Mapping
from typing import TypeAlias

Initial: TypeAlias = float | Mapping[str, float]  # a share of the pool (below 1) or a number of images


def check_initial(initial: Initial) -> None:
    """ValueError for what is no share and no number of images. A task may start with none, but not all of them."""
    if not isinstance(initial, Mapping):
        _check("initial", initial, at_least_some=True)
        return
    for task, value in initial.items():
        _check(f"initial.{task}", value, at_least_some=False)
    if not any(initial.values()):
        raise ValueError(f"initial is {dict(initial)}; expected labels for at least one task: raise one of its numbers")


def _check(name: str, value: float, at_least_some: bool) -> None:
    if not 0 <= value < math.inf or (at_least_some and not value):
        raise ValueError(f"{name} is {value}; expected more than 0, and finite")
    if value > 1 and value != int(value):
        raise ValueError(f"{name} is {value}; expected a share of the pool below 1, or a whole number of images")


def check_start(initial: Initial, tasks: Collection[str]) -> None:
    """ValueError where ``initial`` names a task that the experiment does not have."""
    for task in initial if isinstance(initial, Mapping) else ():
        if task not in tasks:
            raise ValueError(
                f"active.initial names {task!r}; expected some of the tasks, which are {', '.join(tasks)}: correct it, "
                "or add the task"
            )


def images_of(share_or_count: float, total: int) -> int:
    """Images of a pool of ``total``: a share of it below 1, else a number."""
    return min(total, round(share_or_count * total) if share_or_count < 1 else int(share_or_count))


def start_of(initial: Initial, tasks: Collection[str], total: int) -> dict[str, int]:
    """The images of a pool of ``total`` that each task starts with; none for one that ``initial`` does not name."""
    each = initial if isinstance(initial, Mapping) else dict.fromkeys(tasks, initial)
    return {task: images_of(each.get(task, 0), total) for task in tasks}


def only(initial: Initial, tasks: Collection[str]) -> Initial:
    """The same for some of the tasks."""
    return {t: n for t, n in initial.items() if t in tasks} if isinstance(initial, Mapping) else initial
