"""The section ``teacher``: a network that is shown more than the arm's own, and labels what nobody has labeled."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.components import Component
from tasks import LABEL_INPUTS, SENSORS

KNOWN = ("rgb", *SENSORS, *LABEL_INPUTS)  # what a network may be shown


@dataclass(frozen=True)
class Teacher:
    """Who labels images for the arm's network, before each of its fits."""

    task: str | tuple[str, ...]  # what it labels
    inputs: tuple[str, ...]  # what it is shown: rgb, depth (a sensor), segmentation (labels, where people gave them)
    threshold: float = 0.9  # the class of a pixel counts where its probability is above it
    steps: int | None = None  # of each of its fits; None = those of train
    model: Mapping[str, Any] = field(default_factory=dict)  # options of the model that only it has, such as fusion
    weight: float = 1.0  # what the loss of a pseudo-label counts; 1 = as much as that of a human one
    depth_conf: Literal["flip"] | None = None  # keep metres that the mirror image gives, too, within a tenth; None: all

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"task is {list(self.tasks)}; expected at least one, each once")
        if not self.inputs or len(set(self.inputs)) != len(self.inputs) or not set(self.inputs) <= set(KNOWN):
            raise ValueError(f"inputs is {list(self.inputs)}; expected some of {', '.join(KNOWN)}, each once")
        if both := [task for task in self.tasks if task in self.inputs]:
            raise ValueError(f"inputs names {both[0]!r}, which is what it labels; expected other inputs: take it out")
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}; expected a probability from 0 to below 1")
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight is {self.weight}; expected 0 or more, and finite")
        if self.steps is not None and self.steps <= 0:
            raise ValueError(f"steps is {self.steps}; expected a positive number of steps")

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it labels."""
        return (self.task,) if isinstance(self.task, str) else self.task

    @property
    def reads(self) -> tuple[str, ...]:
        """The tasks whose labels it is shown: it sees images where people gave them, and no others."""
        return tuple(name for name in self.inputs if name in LABEL_INPUTS)

    @property
    def sensors(self) -> tuple[str, ...]:
        """The sensors that it is shown."""
        return tuple(name for name in self.inputs if name in SENSORS)

    @property
    def is_mirrored(self) -> bool:
        """Whether it is asked about the mirror image, too."""
        return self.depth_conf == "flip" and "depth" in self.tasks

    def plain(self) -> dict[str, Any]:
        """Itself as YAML data."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    def of(self, model: Component) -> Component:
        """The teacher's network: the arm's own, with its inputs and options."""
        inputs = {} if self.inputs == ("rgb",) and "inputs" not in model.options else {"inputs": list(self.inputs)}
        return Component(model.name, {**model.options, **self.model, **inputs})


def check_teacher(teacher: Teacher | None, tasks: Collection[str]) -> None:
    """ValueError where a teacher labels or reads a task that the experiment does not have."""
    for what, names in (("task", teacher.tasks), ("inputs", teacher.reads)) if teacher is not None else ():
        for name in names:
            if name not in tasks:
                raise ValueError(
                    f"teacher.{what} names {name!r}; expected some of the tasks, which are {', '.join(tasks)}: correct "
                    "it, or add the task"
                )
