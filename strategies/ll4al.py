"""LL4AL: label first where the network expects to be wrong by most (Yoo & Kweon 2019).

The modules that predict a task's loss belong to the model, as does their training; here is only how images are ranked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from strategies.base import Candidates, Direction, Pick, Score, Seen, Strategy
from strategies.candidates import unlabeled
from strategies.selection import top_k

_NAMES = {"both": ("detection", "segmentation"), "det": ("detection",), "seg": ("segmentation",)}


@dataclass(frozen=True)
class LL4AL(Strategy):
    """The sum of the predicted losses of both tasks, or that of one of them; unbounded, of no unit.

    ``sum="raw"`` adds them up as they are, as Hekimoglu et al. 2023 do for two tasks. The ranking loss fixes the order
    of a task's predictions but not their scale, so one task may drown the other: ``sum="zscore"`` first brings each to
    mean 0 and deviation 1 over the unlabeled images. That needs the whole pool, hence happens in ``select``; the value
    of a score is the raw sum in either case.
    """

    tasks: Literal["both", "det", "seg"] = "both"
    sum: Literal["raw", "zscore"] = "raw"

    @property
    def reads(self) -> tuple[str, ...]:
        return ("predicted_loss",)

    @property
    def prefers(self) -> Direction:
        return "unsure"

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[np.random.Generator]) -> list[Score]:
        if not seen:
            return []
        names = _NAMES[self.tasks]
        found = torch.stack([_predicted(one, name) for one in seen for name in names]).view(-1, len(names))
        return [Score(sum(row), dict(zip(names, row, strict=True))) for row in found.tolist()]  # one copy to the host

    def select(self, candidates: Candidates, rng: np.random.Generator) -> Sequence[Pick]:
        if self.sum == "raw" or self.tasks != "both":  # one task's order does not depend on its scale
            return [Pick(id, candidates.tasks) for id in candidates.top_k()]
        pool = unlabeled(candidates.table(["id", "key", "labeled", *(f"parts.{name}" for name in _NAMES["both"])]))
        if not pool.num_rows:
            return []
        keys = pool["key"].to_numpy().astype(np.uint64)
        losses = np.stack([pool[f"parts.{name}"].to_numpy().astype(np.float64) for name in _NAMES["both"]], axis=1)
        rows = top_k(zscored_sum(losses, keys), keys, int(candidates.budget.amount))
        return [Pick(id, candidates.tasks) for id in pool["id"].take(pa.array(rows, pa.int64())).to_pylist()]


def zscored_sum(values: NDArray[np.floating], keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """``[N]``: the sum of the columns of ``values [N, T]``, each brought to mean 0 and population deviation 1.

    Sums run in the order of ``keys [N]``, so no bit depends on the order of the rows. A column that is the same
    everywhere counts 0. -inf is left out of mean and deviation and stays -inf. ValueError for NaN and +inf.
    """
    columns = np.asarray(values, dtype=np.float64).T
    if np.isnan(columns).any() or (columns == np.inf).any():
        raise ValueError("zscored_sum: a value is NaN or +inf; expected finite values or -inf: mend what scored them")
    order = np.argsort(keys, kind="stable")
    total = np.zeros(len(keys))
    for column in columns:  # one a task
        known = column[order]
        known = np.ascontiguousarray(known[np.isfinite(known)])
        if len(known) and known.min() < known.max():
            total += (column - known.mean()) / known.std()
        else:
            total += np.where(np.isfinite(column), 0.0, column)
    return total


def _predicted(seen: Seen, task: str) -> torch.Tensor:
    losses = seen.plain.predicted_loss
    if task not in losses:
        raise ValueError(
            f"LL4AL: image {seen.id!r} has no predicted loss of {task!r} (there is {', '.join(losses) or 'none'}); "
            "train the model with loss_prediction and that task, or set tasks to 'det' or 'seg'"
        )
    return losses[task].float().reshape(())
