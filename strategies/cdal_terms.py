"""The arithmetic of CDAL: what each class of an image looks like on average, and how far two images are apart in that.

The context of a class is the mean class distribution over the pixels (or boxes) that are called that class, the unsure
ones counting more. Two images are compared class by class, over the classes that both hold (Agarwal et al. 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

Aggregate = Literal["mean", "sum"]
NoCommon = Literal["zero", "skip"]
Floats = NDArray[np.float64]

FLOOR = 1e-8  # no probability of a class that is there lies below: its logarithm stays finite
_LOG_ZERO = -1e4  # stands for log 0: its exp is exactly 0, and 0 times it is 0 (0 times -inf would be NaN)
_NO_WEIGHT = 1e-30  # a region whose weights add up to less holds certain pixels only: they count alike
_PIECE = 32  # rows summed in float32 before a sum goes on in float64
_ROUNDING = 1e-13  # of the terms of a distance; a difference below is nothing but their rounding
_EVERY_PAIR, _ROW_BY_ROW = ("nk,mk->nm", "nck,nck->nc"), ("nk,nk->n", "nck,nck->nc")


# ---- what an image looks like ----------------------------------------------------------------------------------------


def segmentation_means(log_probs: Sequence[Tensor]) -> Tensor:
    """Context of each segmentation class ``[B, K, K]`` from log-probabilities ``[K, h, w]`` of B images of any sizes.

    Row c is the mean distribution of the pixels whose most probable class is c, weighted by their entropy; zeros where
    there is none. The later program of CDAL's authors computes it at the size of the image, we at that of the head.
    """
    classes = log_probs[0].shape[0]
    pixels = torch.cat([one.float().flatten(1).T for one in log_probs]).contiguous()
    top = torch.cat([one.max(0).indices.flatten() for one in log_probs])  # the first of equals
    image = _owners([one[0].numel() for one in log_probs], top.device)
    return region_means(pixels, image * classes + top, len(log_probs) * classes).view(-1, classes, classes)


def box_means(probs: Tensor, labels: Tensor, image: Tensor, images: int) -> Tensor:
    """Context of each detection class ``[images, C, C]``: as of the segmentation, with boxes in place of pixels.

    ``probs [N, C]`` are the scores of the classes without a background, ``labels`` and ``image`` ``[N]`` the class and
    the image of each box. The paper describes regions of boxes; the authors' program takes all cells of the dense head.
    """
    classes = probs.shape[1]
    share = probs.float().clamp(min=FLOOR)
    log_share = (share / share.sum(1, keepdim=True)).log()
    return region_means(log_share, image * classes + labels, images * classes).view(images, classes, classes)


def dense_means(logits: Sequence[Tensor]) -> Tensor:
    """The one context ``[B, 1, C]`` of all cells of the dense head, from class logits ``[A, C]`` without a background.

    As in the authors' program: a softmax over the classes, also where the head was trained with sigmoids; every cell
    counts, and those on the background outweigh the others.
    """
    cells = torch.log_softmax(torch.cat(list(logits)).float(), 1)
    image = _owners([len(one) for one in logits], cells.device)
    return region_means(cells, image, len(logits)).view(len(logits), 1, -1)


def region_means(log_probs: Tensor, region: Tensor, regions: int) -> Tensor:
    """Mean distribution ``[regions, K]`` of rows ``[N, K]``, weighted by entropy; 0 in regions without rows.

    Where all rows of a region are certain, hence weigh nothing, their plain mean. ``region [N]`` int64. No other value
    is below FLOOR.
    """
    if not len(region):
        return log_probs.new_zeros(regions, log_probs.shape[1])
    logs = log_probs.clamp(min=_LOG_ZERO)
    probs = logs.exp()
    bags = _bags(region, regions)
    weight, one = -(probs * logs).sum(1).clamp(max=0), torch.ones_like(probs[:, :1])
    certain = _summed(one, weight, bags)[:, 0] < _NO_WEIGHT
    weight = torch.where(certain[region], 1.0, weight)
    total = _summed(one, weight, bags)
    means = (_summed(probs, weight, bags) / total.clamp(min=_NO_WEIGHT)).clamp(min=FLOOR)
    return torch.where(bags.filled[:, None], means, 0.0).float()


def entropy(log_probs: Tensor) -> Tensor:
    """Entropy in nats ``[N]`` of log-probabilities ``[N, K]``."""
    logs = log_probs.float().clamp(min=_LOG_ZERO)
    return -(logs.exp() * logs).sum(1)


@dataclass(frozen=True)
class _Bags:
    """Rows sorted by region, in pieces of equal length that start anew with each region.

    So the sums of a region depend on its own rows only, to the last bit, and are as exact as pairwise sums.
    """

    order: Tensor  # [N]: rows, region by region
    starts: Tensor  # [P]: where in order each piece starts
    first: Tensor  # [regions]: the first piece of each
    filled: Tensor  # [regions] bool: it has rows


def _bags(region: Tensor, regions: int) -> _Bags:
    counts = torch.bincount(region, minlength=regions)
    pieces = (counts + _PIECE - 1) // _PIECE
    owner = torch.repeat_interleave(torch.arange(regions, device=region.device), pieces)
    first = pieces.cumsum(0) - pieces
    place = torch.arange(len(owner), device=region.device) - first[owner]
    starts = (counts.cumsum(0) - counts)[owner] + place * _PIECE
    return _Bags(torch.argsort(region.int(), stable=True), starts, first, counts > 0)


def _summed(rows: Tensor, weight: Tensor, bags: _Bags) -> Tensor:
    parts = embedding_bag(bags.order, rows, bags.starts, mode="sum", per_sample_weights=weight[bags.order]).double()
    every = torch.arange(len(parts), device=parts.device)
    return embedding_bag(every, parts, bags.first, mode="sum")


def _owners(sizes: Sequence[int], device: torch.device) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(device)


# ---- how far two images are apart ------------------------------------------------------------------------------------


def profiles(means: Tensor) -> Tensor:
    """Contexts ``[B, R, K]`` as rows ``[B, 2 R K]`` that distances are taken of: the contexts, then their logarithms.

    Both are 0 in a class that is absent. A class with an exact 0 in its context counts as absent, as in the authors'
    program, where it drops out as an infinite divergence. NaN stays NaN, to be found.
    """
    present = (means != 0).all(-1, keepdim=True)
    contexts = torch.where(present, means, 0.0)
    logs = torch.where(present, means.clamp(min=FLOOR).log(), 0.0)
    return torch.cat([contexts.flatten(1), logs.flatten(1)], 1)


def contextual_distance(
    rows: Floats, centres: Floats, regions: int, aggregate: Aggregate = "mean", no_common: NoCommon = "zero"
) -> Floats:
    """Distances ``[n, m]`` >= 0 of profiles ``[n, S]`` and ``[m, S]`` with ``regions`` classes each.

    The symmetric KL divergence, half of either direction, in each class that both hold; over them the ``mean`` (the
    authors' k-centre program) or the ``sum`` (the paper, and their reinforcement learning). Images without a common
    class are at distance 0 (``zero``, as in the program: such a centre makes an image look like a duplicate), or at
    infinity (``skip``: the centre is left out of the minimum), save rows that hold no class at all: they stay at 0.

    With h the sum of p log p in a class and m its presence, the sum over common classes is half of
    ``h_i m_j + m_i h_j - p_i log p_j - log p_i p_j``: inner products only. They are taken by einsum, pair by pair over
    contiguous numbers: a matrix product of BLAS gives other bits for other numbers of rows. That costs nothing with one
    centre at a time (both wait for memory), and five to seven times the time of BLAS with many. Equal profiles are at
    exactly 0. No triangle inequality holds.
    """
    return _distance(rows, centres, regions, aggregate, no_common, _EVERY_PAIR)


def paired_distance(
    rows: Floats, others: Floats, regions: int, aggregate: Aggregate = "mean", no_common: NoCommon = "zero"
) -> Floats:
    """``contextual_distance`` of each row and the other in its place, ``[n]``."""
    return _distance(rows, others, regions, aggregate, no_common, _ROW_BY_ROW)


def _distance(
    rows: Floats, others: Floats, regions: int, aggregate: Aggregate, no_common: NoCommon, along: tuple[str, str]
) -> Floats:
    product, by_class = along
    (held, inner), (other_held, other_inner) = _classes(rows, regions, by_class), _classes(others, regions, by_class)
    common = np.einsum(product, held, other_held)
    crossed = np.einsum(product, rows, _turned(others))  # <= 0, as is what it is taken from
    total: Floats = (np.einsum(product, inner, other_held) + np.einsum(product, held, other_inner) - crossed) / 2
    total[total <= _ROUNDING * -crossed] = 0.0
    if aggregate == "mean":
        total /= np.maximum(common, 1)
    if no_common == "skip":
        anything = np.einsum(product, held, np.ones_like(other_held))
        total[(common == 0) & (anything > 0)] = np.inf
    return total


def _bound(
    rows: NDArray[np.floating],
    terms: NDArray[np.floating],
    centres: NDArray[np.floating],
    centre_terms: NDArray[np.floating],
    aggregate: Aggregate,
    no_common: NoCommon,
    side: int,
) -> NDArray[np.floating]:
    """Bounds ``[n, m]`` of one task's distances: all terms are <= 0, so sums err by a share of what they are."""
    width, regions = rows.shape[1], terms.shape[1] // 2
    number = np.finfo(rows.dtype)
    slack = side * ((width / 2 + 16) * float(number.eps) + _ROUNDING)
    found: NDArray[np.floating] = rows @ (-(1 + slack) / 2 * _turned(centres)).T.astype(rows.dtype)
    found += terms @ ((1 - slack) / 2 * _turned(centre_terms)).T.astype(rows.dtype)
    found += side * float(number.tiny) * width
    if aggregate == "sum" and no_common == "zero":
        return found
    held = terms[:, :regions]
    common = held @ centre_terms[:, :regions].T
    if aggregate == "mean":
        found /= np.maximum(common, 1)
    if no_common == "skip":
        found[(common == 0) & (held.sum(axis=1, keepdims=True) > 0)] = np.inf
    return found


def _turned(rows: NDArray[Any]) -> NDArray[Any]:
    """The two halves of each row in the other order."""
    half = rows.shape[1] // 2
    return np.concatenate([rows[:, half:], rows[:, :half]], axis=1)


def _classes(rows: Floats, regions: int, by_class: str) -> tuple[Floats, Floats]:
    """Which classes are there (0 or 1), and the sum of p log p of each: ``[n, R]`` both."""
    width = rows.shape[1] // (2 * regions)
    contexts, logs = rows.reshape(len(rows), 2, regions, width).swapaxes(0, 1)
    return (contexts[..., 0] > 0).astype(np.float64), np.einsum(by_class, contexts, logs)


@dataclass(frozen=True)
class Block:
    """One task's profile in a summary, and what its distances are divided by."""

    start: int  # its first column
    regions: int
    width: int  # numbers in a context
    scale: float = 1.0

    @property
    def columns(self) -> slice:
        return slice(self.start, self.start + 2 * self.regions * self.width)


@dataclass(frozen=True)
class ContextDistance:
    """The distance for a farthest-first traversal over summaries: the sum of the blocks' distances over their scales.

    The same bits for a pair whatever else is asked with it. With ``skip`` a pair is at infinity if it is in any block.
    """

    blocks: tuple[Block, ...]
    aggregate: Aggregate = "mean"
    no_common: NoCommon = "zero"

    def __call__(self, rows: Floats, centres: Floats) -> Floats:
        """Distances ``[n, m]`` of summaries ``[n, S]`` and ``[m, S]``."""
        found = np.zeros((len(rows), len(centres)))
        for block in self.blocks:
            pair = rows[:, block.columns], centres[:, block.columns]
            found += contextual_distance(*pair, block.regions, self.aggregate, self.no_common) / block.scale
        return found

    def terms(self, rows: NDArray[np.floating]) -> NDArray[np.floating]:
        """What of a row enters its bounds, ``[n, T]``: which classes are there, and the sum of p log p of each."""
        parts = [
            _classes(np.asarray(rows[:, block.columns], np.float64), block.regions, "nck,nck->nc")
            for block in self.blocks
        ]
        return np.concatenate([column for pair in parts for column in pair], axis=1).astype(rows.dtype)

    def bound(
        self,
        rows: NDArray[np.floating],
        terms: NDArray[np.floating],
        centres: NDArray[np.floating],
        centre_terms: NDArray[np.floating],
        side: int,
    ) -> NDArray[np.floating]:
        """Bounds ``[n, m]`` of the distances, from above with ``side`` 1, from below with -1, by matrix products."""
        found = np.zeros((len(rows), len(centres)), rows.dtype)
        start = 0
        for block in self.blocks:
            some = slice(start, start + 2 * block.regions)
            pair = rows[:, block.columns], terms[:, some], centres[:, block.columns], centre_terms[:, some]
            found += _bound(*pair, self.aggregate, self.no_common, side) / block.scale
            start = some.stop
        return found

    def scaled(self, rows: Floats, others: Floats) -> "ContextDistance":
        """The same, each block's scale its mean distance over these pairs ``[P, S]`` (1 where all of them are 0)."""
        blocks = []
        for block in self.blocks:
            pair = rows[:, block.columns], others[:, block.columns]
            found = paired_distance(*pair, block.regions, self.aggregate, self.no_common)
            found = found[np.isfinite(found)]
            mean = float(found.mean()) if len(found) else 0.0
            blocks.append(Block(block.start, block.regions, block.width, mean or 1.0))
        return ContextDistance(tuple(blocks), self.aggregate, self.no_common)
