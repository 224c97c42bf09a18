"""When a fit is judged on the validation split, and what is found there every so many steps: ``validation.parquet``."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import nn

from orchestrator.config import Train

Judge = Callable[[nn.Module], tuple[float, dict[str, float]]]  # (what checkpoints are chosen by, all figures)
Judged = tuple[float, Mapping[str, float]]


def candidates(train: Train, steps: int) -> set[int]:
    """After how many steps a checkpoint may be kept: evenly spread, and at the end."""
    return {math.ceil(steps * (i + 1) / train.evaluations) for i in range(train.evaluations)}


def recorded(train: Train, steps: int) -> set[int]:
    """After how many steps the figures are kept: every so many, and at the end."""
    every = train.validate_every
    return set() if every is None else {*range(every, steps + 1, every), steps}


def judged(train: Train, steps: int) -> set[int]:
    """After how many steps the validation split is evaluated."""
    return recorded(train, steps) | (candidates(train, steps) if train.chooses else set())


class Validation:
    """Judges one fit. The figures travel in the training checkpoint, so a fit that goes on has each step once."""

    def __init__(self, judge: Judge, train: Train, steps: int) -> None:
        self._judge, self._chooses = judge, train.chooses
        self._candidates, self._recorded = candidates(train, steps), recorded(train, steps)
        self._judged = judged(train, steps)
        self._rows: list[tuple[int, dict[str, float]]] = []

    def look(self, model: nn.Module, step: int) -> Judged | None:
        """The score and figures of a candidate after ``step`` steps, NaN where nothing is chosen; None for others.

        What the model draws meanwhile changes nothing of the training that follows.
        """
        found: Judged = (math.nan, {})
        if step in self._judged:
            device = next(model.parameters()).device
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                score, figures = self._judge(model.eval())
            if step in self._recorded:
                self._rows.append((step, dict(figures)))
            if self._chooses:
                found = (score, figures)
        return found if step in self._candidates else None

    def state(self) -> list[tuple[int, dict[str, float]]]:
        """All that was found, for the training checkpoint."""
        return list(self._rows)

    def load(self, state: Sequence[Any]) -> None:
        """Go on from the ``state`` of a checkpoint."""
        self._rows = [(int(step), dict(figures)) for step, figures in state]

    def table(self) -> pa.Table:
        """A row for each look and figure: step (how many were taken), metric ("task.figure"), value."""
        rows = [(step, metric, value) for step, figures in self._rows for metric, value in figures.items()]
        steps, metrics, values = zip(*rows, strict=True) if rows else ((), (), ())
        return pa.table(
            {
                "step": pa.array(steps, pa.int32()),
                "metric": pa.array(metrics, pa.string()).dictionary_encode(),
                "value": pa.array(values, pa.float64()),
            }
        )
