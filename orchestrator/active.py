"""The active learning loop of a configuration: what is labeled at the start, what is bought, and from whom."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

# A share of the pool (below 1), a number of images, one of these for each task, or whatever the data set has labeled.
Initial: TypeAlias = float | Mapping[str, float] | str
LABELED = "labeled"


@dataclass(frozen=True)
class Budget:
    """What a cycle may buy. An amount below 1 is a share of the whole pool."""

    amount: float
    unit: Literal["images"] = "images"

    def __post_init__(self) -> None:
        if not 0 <= self.amount < math.inf:
            raise ValueError(f"amount is {self.amount}; expected 0 or more images, or a share of the pool below 1")
        if self.amount > 1 and self.amount != int(self.amount):
            raise ValueError(
                f"amount is {self.amount}; expected a share of the pool below 1, or a whole number of images"
            )


@dataclass(frozen=True)
class Active:
    """The active learning loop: ``cycles`` purchases, hence one fit more."""

    initial: Initial  # labeled at the start: a share of the pool (below 1), images, {task: either}, or "labeled"
    budget: Budget
    cycles: int
    warm_start: bool = True  # False: every cycle starts from fresh weights
    oracle: Literal["known", "label_studio"] = (
        "known"  # who labels: the data set; or people (mtal label), who are awaited
    )
    pool_subset: int | None = None  # unlabeled images that a cycle scores, drawn anew each time; null = all of them

    def __post_init__(self) -> None:
        check_initial(self.initial)
        if self.pool_subset is not None and self.pool_subset < max(1, self.budget.amount):
            raise ValueError(
                f"pool_subset is {self.pool_subset}; expected at least the budget of {self.budget.amount:g}, or null"
            )
        if self.cycles < 0:
            raise ValueError(f"cycles is {self.cycles}; expected 0 or more purchases")
        if self.reveals and self.initial == LABELED:
            raise ValueError(
                "initial is 'labeled', so that the data set has no label left to sell; expected oracle: label_studio, "
                "or cycles: 0"
            )

    @property
    def buys(self) -> bool:
        """Whether labels are bought at all."""
        return self.cycles > 0 and self.budget.amount > 0

    @property
    def reveals(self) -> bool:
        """Whether they are bought from the data set itself."""
        return self.buys and self.oracle == "known"


def check_initial(initial: Initial) -> None:
    """ValueError for what is no share and no number of images. A task may start with none, but not all of them."""
    if isinstance(initial, str):
        if initial != LABELED:
            raise ValueError(
                f"initial is {initial!r}; expected a share of the pool, a number of images, or {LABELED!r}"
            )
        return
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
    """The images of a pool of ``total`` that each task starts with; none for one that ``initial`` does not name.

    At most: only images that the data set has labeled are drawn.
    """
    if isinstance(initial, str):
        return dict.fromkeys(tasks, total)
    each = initial if isinstance(initial, Mapping) else dict.fromkeys(tasks, initial)
    return {task: images_of(each.get(task, 0), total) for task in tasks}


def only(initial: Initial, tasks: Collection[str]) -> Initial:
    """The same for some of the tasks."""
    return {t: n for t, n in initial.items() if t in tasks} if isinstance(initial, Mapping) else initial
