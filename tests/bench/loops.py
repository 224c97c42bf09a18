"""Plain loops for what the strategies compute: one box, one pair, one pixel at a time, as the authors' programs do it.

What the products are measured against (bench_arithmetic.py); each gives the same values. ``cald_image`` issues the kind
and number of small torch operations that the original does for a pair of boxes, which the benchmark counts.
"""

from collections.abc import Callable, Sequence
from math import ceil, floor, isfinite

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import entropy
from torch import Tensor

from tasks.types import Detections

Floats = NDArray[np.float64]


# ---- CALD ------------------------------------------------------------------------------------------------------------


def cald_image(
    base: Detections,
    mapped: Sequence[Tensor],
    answers: Sequence[Detections],
    sure: Sequence[Tensor],
    relative_entropy: Callable[[Floats, Floats], float] = entropy,
    beta: float = 1.3,
) -> tuple[float, list[float], Floats]:
    """M, M_v of each view and the class vector of one image, box by box.

    ``mapped[v] [N, 4]`` are the boxes in each view, ``sure`` the largest class score ``[N]`` of the boxes of the image
    and of each answer (a detector of the authors' delivers it). ``relative_entropy`` is scipy's, as there; its checks
    take longer than all else, hence ``short_entropy`` can be given.
    """
    sigma, per_view, vectors = sure[0], [], [best_of_class(base)]
    for boxes, answer, sure_there in zip(mapped, answers, sure[1:], strict=True):
        vectors.append(best_of_class(answer))
        if len(answer.boxes) == 0:
            per_view.append(0.0)
            continue
        nearest, stable = 1.0, []
        for box, vector, sure_here in zip(boxes, base.probs, sigma, strict=True):
            overlap = overlaps(box, answer.boxes)
            p = vector.cpu().numpy()
            q = answer.probs[torch.argmax(overlap)].cpu().numpy()
            divergence = max(0.0, 0.5 * relative_entropy(p, (p + q) / 2) + 0.5 * relative_entropy(q, (p + q) / 2))
            both = sure_here + sure_there[torch.argmax(overlap)]
            nearest = min(nearest, torch.abs(torch.max(overlap) + 0.5 * (1 - divergence) * both - beta).item())
            # the authors keep this value of each box as well
            both = sure_here + sure_there[torch.argmax(overlap)]
            stable.append(torch.abs(torch.max(overlap) + 0.5 * (1 - divergence) * both).item())
        per_view.append(nearest)
    return float(np.mean(per_view)), per_view, np.mean(vectors, axis=0)


def short_entropy(p: Floats, q: Floats) -> float:
    """The relative entropy of two positive vectors, without scipy's checks."""
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


def overlaps(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union ``[D]`` of one box ``[4]`` with others ``[D, 4]``."""
    width = torch.min(box[2], others[:, 2]) - torch.max(box[0], others[:, 0])
    height = torch.min(box[3], others[:, 3]) - torch.max(box[1], others[:, 1])
    own = (box[2] - box[0]) * (box[3] - box[1])
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    common = width * height
    found = common / (own + areas - common)
    found[width < 0] = 0.0
    found[height < 0] = 0.0
    return found


def best_of_class(found: Detections) -> list[float]:
    """The best score of each of the 10 classes, detection by detection."""
    best = [0.0] * 10
    for score, label in zip(found.scores, found.labels + 1, strict=True):
        best[label - 1] = max(best[label - 1], score.item())
    return best


# ---- CDAL ------------------------------------------------------------------------------------------------------------


def context_divergence(a: Floats, b: Floats) -> float:
    """The distance of two images: flattened contexts ``[R * R]``, class by class."""
    regions = int(len(a) ** 0.5)
    p, q = a.reshape(regions, regions), b.reshape(regions, regions)
    found = []
    for c in range(regions):
        there = np.sum(p[c] * np.log(p[c] / q[c]))
        back = np.sum(q[c] * np.log(q[c] / p[c]))
        if isfinite(there) and isfinite(back):  # a class that one of them lacks is NaN
            found.append(there / 2 + back / 2)
    return float(np.mean(found)) if found else 0.0


def pairwise(rows: Floats, centres: Floats, metric: Callable[[Floats, Floats], float]) -> Floats:
    """``[n, m]``, a Python call a pair, as scikit-learn does with a metric that is a function."""
    found = np.empty((len(rows), len(centres)))
    with np.errstate(divide="ignore", invalid="ignore"):
        for i, row in enumerate(rows):
            for j, centre in enumerate(centres):
                found[i, j] = metric(row, centre)
    return found


# ---- EquAL -----------------------------------------------------------------------------------------------------------


def equal_image(plain: Tensor, mirrored: Tensor, patches: tuple[int, int]) -> tuple[float, Floats]:
    """The sum of both entropies from logits ``[K, h, w]``: mean over the image, and over each patch of a grid."""
    total = torch.zeros(plain.shape[1:])
    for logits in (plain, mirrored.flip(-1)):
        p = torch.softmax(logits, 0)
        log_p = torch.log(p)
        log_p[p == 0] = 0.0
        log_p[log_p == -torch.inf] = 0.0
        log_p[log_p == torch.inf] = 0.0
        log_p[log_p != log_p] = 0.0
        total -= (p * log_p).sum(0)
    high, wide = total.shape[0] // patches[0], total.shape[1] // patches[1]
    found = np.zeros(patches)
    for y in range(patches[0]):
        for x in range(patches[1]):
            found[y, x] = total[y * high : (y + 1) * high, x * wide : (x + 1) * wide].mean().item()
    return float(total.mean()), found


# ---- core-set --------------------------------------------------------------------------------------------------------


def euclidean(rows: Floats, centres: Floats, norms: Floats | None = None) -> Floats:
    """Distances ``[n, m]`` as scikit-learn takes them: it looks for NaN, and squares the rows, in every call.

    ``norms [n]`` are the squared lengths of rows that were looked at before.
    """
    if norms is None:
        assert np.isfinite(rows.sum())
        norms = np.einsum("ij,ij->i", rows, rows)
    squared = -2 * (rows @ centres.T)
    squared += norms[:, None]
    squared += np.einsum("ij,ij->i", centres, centres)[None]
    np.maximum(squared, 0, out=squared)
    return np.sqrt(squared, out=squared)


def k_center_greedy(features: Floats, labeled: NDArray[np.bool_], k: int, norms: Floats | None = None) -> list[int]:
    """k picks, one column of distances a round; ``norms`` as in ``euclidean``."""
    nearest = euclidean(features, features[labeled], norms).min(1)[:, None]
    picks: list[int] = []
    for _ in range(k):
        picks.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, euclidean(features, features[picks[-1], None], norms))
    return picks


# ---- BoxMask ---------------------------------------------------------------------------------------------------------

TAU, EPS = 0.3, 1e-6


def box_rectangle(box: Floats, height: int, width: int) -> tuple[int, int, int, int]:
    """The pixels left, top, right, bottom (both ends exclusive) that a box touches."""
    left, top = floor(box[0]), floor(box[1])
    right, bottom = max(ceil(box[2]), left + 1), max(ceil(box[3]), top + 1)
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def boxmask_image(
    log_probs: Floats,
    boxes: Floats,
    labels: Sequence[int],
    dists: Floats,
    crops: Floats,
    windows: Floats,
    objects: set[int],
) -> tuple[float, float, float]:
    """S_seg, and S_loc and S_cls of the worst box, of one image: box by box and pixel by pixel.

    ``log_probs [K, h, w]`` and ``crops [N, s, s]`` (of the box's own class) are logarithms, ``dists [N, K]`` the
    probabilities of the boxes on the segmentation's classes, ``windows`` left, top and side in the map's pixels.
    """
    seg, crops = np.exp(log_probs, dtype=np.float64), np.exp(crops, dtype=np.float64)
    height, width = seg.shape[1:]
    union = np.zeros((height, width), dtype=bool)
    worst = (0.0, 0.0)
    for box, label, dist, crop, window in zip(boxes, labels, dists, crops, windows, strict=True):
        q = np.maximum(dist, EPS)
        q = q / q.sum()
        hits = area = 0
        divergence = 0.0
        left, top, right, bottom = box_rectangle(box, height, width)
        for y in range(top, bottom):
            for x in range(left, right):
                if in_crop(crop, window, x, y) <= TAU:
                    continue
                union[y, x] = True
                area += 1
                p = seg[:, y, x]
                hits += int(np.argmax(p) == label)
                p = np.maximum(p, EPS)
                p = p / p.sum()
                divergence += 0.5 * float(np.sum(p * np.log(p / q)) + np.sum(q * np.log(q / p)))
        if area and (area - hits) / area + divergence / area > sum(worst):
            worst = ((area - hits) / area, divergence / area)
    claimed = free = 0
    for y in range(height):
        for x in range(width):
            if not union[y, x]:
                free += 1
                claimed += int(np.argmax(seg[:, y, x])) in objects
    return claimed / max(free, 1), *worst


def in_crop(crop: Floats, window: Floats, x: int, y: int) -> float:
    """A crop ``[s, s]`` at the centre of a pixel, bilinear."""
    size = len(crop)
    u = min(max((x + 0.5 - window[0]) * size / window[2] - 0.5, 0.0), size - 1.0)
    v = min(max((y + 0.5 - window[1]) * size / window[2] - 0.5, 0.0), size - 1.0)
    u0, v0 = int(u), int(v)
    u1, v1 = min(u0 + 1, size - 1), min(v0 + 1, size - 1)
    a, b = u - u0, v - v0
    upper = (1 - a) * crop[v0, u0] + a * crop[v0, u1]
    return float((1 - b) * upper + b * ((1 - a) * crop[v1, u0] + a * crop[v1, u1]))


def boxmask_image_by_arrays(
    log_probs: Floats,
    boxes: Floats,
    labels: Sequence[int],
    dists: Floats,
    crops: Floats,
    windows: Floats,
    objects: set[int],
) -> tuple[float, float, float]:
    """The same with a loop over the boxes only; all pixels of a box at once."""
    seg, crops = np.exp(log_probs, dtype=np.float64), np.exp(crops, dtype=np.float64)
    height, width = seg.shape[1:]
    union = np.zeros((height, width), dtype=bool)
    top_class = seg.argmax(0)
    worst = (0.0, 0.0)
    for box, label, dist, crop, window in zip(boxes, labels, dists, crops, windows, strict=True):
        q = np.maximum(dist, EPS)
        q = q / q.sum()
        left, top, right, bottom = box_rectangle(box, height, width)
        part = slice(top, max(bottom, top)), slice(left, max(right, left))
        y, x = np.mgrid[part]
        mask = crops_at(crop, window, x, y) > TAU
        union[part] |= mask
        area = int(mask.sum())
        if not area:
            continue
        p = np.maximum(seg[:, *part][:, mask], EPS)
        p = p / p.sum(0)
        wrong = float((top_class[part][mask] != label).mean())
        divergence = float(((p - q[:, None]) * (np.log(p) - np.log(q)[:, None])).sum()) / (2 * area)
        if wrong + divergence > sum(worst):
            worst = (wrong, divergence)
    claimed = np.isin(top_class, list(objects)) & ~union
    return float(claimed.sum() / max((~union).sum(), 1)), *worst


def crops_at(crop: Floats, window: Floats, x: NDArray[np.int64], y: NDArray[np.int64]) -> Floats:
    """``in_crop`` at many pixels."""
    size = len(crop)
    u = np.clip((x + 0.5 - window[0]) * size / window[2] - 0.5, 0.0, size - 1.0)
    v = np.clip((y + 0.5 - window[1]) * size / window[2] - 0.5, 0.0, size - 1.0)
    u0, v0 = u.astype(int), v.astype(int)
    u1, v1 = np.minimum(u0 + 1, size - 1), np.minimum(v0 + 1, size - 1)
    a, b = u - u0, v - v0
    upper = (1 - a) * crop[v0, u0] + a * crop[v0, u1]
    found: Floats = (1 - b) * upper + b * ((1 - a) * crop[v1, u0] + a * crop[v1, u1])
    return found
