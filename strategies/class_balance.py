"""CALD's second stage: of the images that were found best, those whose classes are rare among the labels.

The reference distribution is not updated while images are chosen: the authors' program leaves that out, so the choice
is a plain top-k of a divergence (Yu et al. 2022 can be read as a sequential one).
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from strategies.base import Candidates
from strategies.candidates import summaries

Target = Literal["labeled", "uniform"]
Place = Literal["first", "last"]


def balanced_ids(
    candidates: Candidates, surplus: float = 1.2, target: Target = "labeled", empty: Place = "first"
) -> list[str]:
    """Ids within the budget, best first: of the ``surplus * budget`` best values, the best balanced.

    Needs a class vector ``summary [C]`` of each image, and holds no more rows than ``surplus * budget``. ValueError
    where vectors and ``label_counts`` are of different lengths.
    """
    budget = int(candidates.budget.amount)
    ids = candidates.top_k(candidate_count(budget, surplus))
    if not ids:
        return []
    rows = candidates.rows(ids)
    vectors = summaries(rows["summary"])
    mean = mean_counts(candidates, vectors.shape[1])
    keys = rows["key"].to_numpy().astype(np.uint64)
    return [ids[row] for row in class_balance(vectors, mean, keys, budget, target, empty)]


def candidate_count(budget: int, surplus: float = 1.2) -> int:
    """How many images enter the second stage, rounded down."""
    return int(round(surplus * budget, 6))  # 1.15 * 100 is 114.99999999999999


def mean_counts(candidates: Candidates, classes: int) -> NDArray[np.float64]:
    """How many objects of each class a labeled image holds on average, ``[classes]``; 0 where nothing is labeled."""
    counts = np.asarray(candidates.label_counts, dtype=np.float64)
    if len(counts) == 0:
        return np.zeros(classes)
    if len(counts) != classes:
        raise ValueError(
            f"class balance: {len(counts)} label counts for class vectors of {classes}; expected one count a class"
        )
    mean: NDArray[np.float64] = counts / max(candidates.labeled_images, 1)
    return mean


def class_balance(
    vectors: NDArray[np.floating],
    labeled: NDArray[np.floating],
    keys: NDArray[np.uint64],
    budget: int,
    target: Target = "labeled",
    empty: Place = "first",
) -> NDArray[np.int64]:
    """Rows of at most ``budget`` images, in order.

    ``vectors [N, C]`` of the candidates, ``labeled [C]`` the mean object counts of a labeled image, ``keys [N]`` for
    ties. ``"labeled"`` takes those first whose classes differ most from the labeled ones; ``"uniform"`` those that
    bring the labeled ones nearest to a uniform distribution. Images with a zero vector (nothing was detected) come
    before all others, as in the authors' program (which exceeds the budget for them), or with ``empty="last"`` after.
    """
    found: NDArray[np.float64] = np.ascontiguousarray(vectors, dtype=np.float64)
    mean: NDArray[np.float64] = np.asarray(labeled, dtype=np.float64)
    if target == "uniform":
        classes = found.shape[1]
        gain = -js_divergence(np.full(classes, 1 / max(classes, 1)), softmax(mean + found))
    else:
        gain = js_divergence(softmax(mean), softmax(found))
    gain[~found.any(1)] = np.inf if empty == "first" else -np.inf
    order: NDArray[np.int64] = np.lexsort((keys, -gain)).astype(np.int64)
    return order[: max(0, budget)]


def js_divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Jensen-Shannon divergence in nats, ``[...]``, of distributions ``[..., C]`` that broadcast."""
    middle = np.maximum((p + q) / 2, np.finfo(np.float64).tiny)  # half of the least number is 0, and x / 0 is inf
    found: NDArray[np.float64] = (rel_entr(p, middle) + rel_entr(q, middle)).sum(-1) / 2
    return found


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The softmax over the last axis."""
    powers = np.exp(x - x.max(-1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return shares
