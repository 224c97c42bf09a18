"""What every loss was at every step of a fit, and what it was multiplied by: ``steps.parquet``.

It travels in the training checkpoint, so that a fit that was killed goes on with the steps up to there, each once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch


class StepRecord:
    """Values and multipliers ``[steps, T]``, float32; NaN where a batch had no label for a loss."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self.begin(())

    def begin(self, names: Sequence[str]) -> None:
        """Nothing is known of these losses."""
        self.names = tuple(names)
        shape = (self._steps, len(names))
        self._seen = np.zeros(shape, bool)
        self._values, self._weights = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)

    def add(self, step: int, values: Mapping[str, float], weights: Mapping[str, float]) -> None:
        """The losses of a step that had labels; ``weights`` is empty where the step was skipped."""
        for column, name in enumerate(self.names):
            if name in values:
                self._seen[step, column] = True
                self._values[step, column] = values[name]
                self._weights[step, column] = weights.get(name, np.nan)

    def state(self, step: int) -> dict[str, Any]:
        """All before ``step``, for the training checkpoint."""
        kept = {"seen": self._seen, "values": self._values, "weights": self._weights}
        return {"names": list(self.names), **{key: torch.from_numpy(rows[:step].copy()) for key, rows in kept.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from the ``state`` of a checkpoint."""
        self.begin(state["names"])
        for rows, key in ((self._seen, "seen"), (self._values, "values"), (self._weights, "weights")):
            rows[: len(state[key])] = state[key].cpu().numpy()

    def table(self) -> pa.Table:
        """A row for each step and loss that had a label: step (from 0), loss, value, weight.

        The weight is the multiplier in the step's total; null where the step was skipped because its loss was not
        finite, or where the weighting does not say.
        """
        steps, columns = self._seen.nonzero()
        weights = self._weights[steps, columns]
        losses = pa.DictionaryArray.from_arrays(pa.array(columns, pa.int8()), pa.array(self.names, pa.string()))
        return pa.table(
            {
                "step": pa.array(steps, pa.int32()),
                "loss": losses,
                "value": pa.array(self._values[steps, columns]),
                "weight": pa.array(weights, mask=np.isnan(weights)),
            }
        )
