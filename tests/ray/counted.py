"""Parts that behave as the ones they are made of and append a line to a file for all that they compute.

The lines are what a run computed, not what it kept: work that was lost with a killed process is in them. Results do not
change; nothing of the product knows of the file.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from strategies.base import Score, Seen
from strategies.boxmask import BoxMask
from strategies.uniform import Random
from tasks.classes import ClassMap
from tasks.nets.model import MultiTaskNet
from tasks.nets.presets import small
from tasks.weighting.fixed import Equal

STEP, IMAGE = 0.15, 0.05  # seconds: a step of a fit and a score take longer than they need, so that kills hit them


def note(log: str, kind: str, *key: object) -> None:
    """Append a line at once, whoever else does: kind, process, second, and what was computed."""
    words = [kind, os.getpid(), f"{time.time():.3f}", *key]
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, (" ".join(str(word) for word in words) + "\n").encode())
    finally:
        os.close(handle)


class CountedWeighting(Equal):
    """A line for each step of a fit: the seed of torch (it is drawn from seed and cycle) and the step."""

    def __init__(self, log: str) -> None:
        super().__init__()
        self._log = log

    def total(self, losses: Any, **options: Any) -> Tensor:
        note(self._log, "fit", torch.initial_seed(), options["step"])
        time.sleep(STEP)
        return super().total(losses, **options)


def picture(image: Tensor) -> str:
    """What names the pixels of an image ``[3, H, W]``."""
    return hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=8).hexdigest()


def counted_small(classes: ClassMap, tasks: Sequence[str], *, log: str, width: int = 16) -> MultiTaskNet:
    """``small``, with a line for each image that is predicted."""
    net = small(classes, tasks, width=width)
    predict = net.predict

    def counted(images: Tensor, *arguments: Any, **options: Any) -> Any:
        for image in images:
            note(log, "predict", picture(image))
        return predict(images, *arguments, **options)

    net.predict = counted  # type: ignore[method-assign]
    return net


@dataclass(frozen=True)
class CountedBoxMask(BoxMask):
    """A line for each image that is scored."""

    log: str = ""
    cycle: int = -1

    def at(self, cycle: int) -> "CountedBoxMask":
        return replace(self, cycle=cycle)

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[np.random.Generator]) -> list[Score]:
        for one in seen:
            note(self.log, "score", "boxmask", self.cycle, one.id)
            time.sleep(IMAGE)
        return super().score_batch(seen, rngs)


@dataclass(frozen=True)
class CountedRandom(Random):
    """A line for each image that is scored."""

    log: str = ""
    cycle: int = -1

    def at(self, cycle: int) -> "CountedRandom":
        return replace(self, cycle=cycle)

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[np.random.Generator]) -> list[Score]:
        for one in seen:
            note(self.log, "score", "random", self.cycle, one.id)
            time.sleep(IMAGE)
        return super().score_batch(seen, rngs)
