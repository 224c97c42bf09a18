"""EquAL: does the segmentation of the mirrored image, mirrored back, agree with that of the image?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from strategies.base import Direction, Score, Seen, Strategy, View
from strategies.batches import by_shape
from strategies.views import HFlip

Form = Literal["kl", "entropy"]
Divergence = Literal["sym", "fwd", "js"]

_PIECE = 1 << 15  # numbers of a map that are worked on at once
_LOG_ZERO = -1e4  # stands for log 0: its exp is exactly 0, and 0 times it is 0 (0 times -inf would be NaN)


@dataclass(frozen=True)
class Equal(Strategy):
    """Mean over the pixels of how unsure, or how inconsistent, the two answers are.

    ``form="entropy"`` is the score of the authors' program: the sum of both entropies (Golestaneh & Kitani 2020; the
    divergence of the views is a training loss there). ``form="kl"`` is how Hekimoglu et al. 2023 describe their EquAL
    baseline: a KL divergence between the views. They leave its direction open; we take the symmetric one, as in their
    Eq. 2.
    """

    form: Form = "kl"
    kl: Divergence = "sym"

    @property
    def reads(self) -> tuple[str, ...]:
        return ("segmentation",)

    @property
    def views(self) -> tuple[View, ...]:
        return (HFlip(reads=("segmentation",)),)

    @property
    def prefers(self) -> Direction:
        return "unsure"

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[np.random.Generator]) -> list[Score]:
        scores: list[Score | None] = [None] * len(seen)
        for rows in by_shape([s.plain.log_probs for s in seen]):
            plain, back = _both([seen[row] for row in rows])
            for row, value in zip(rows, equal_scores(plain, back, self.form, self.kl).tolist(), strict=True):
                scores[row] = Score(value)
        return [score for score in scores if score is not None]

    def explain(self, seen: Seen) -> Mapping[str, Tensor]:
        plain, back = _both([seen])
        caption = "entropy of both views" if self.form == "entropy" else f"divergence when mirrored ({self.kl})"
        return {caption: _terms(plain, back, self.form, self.kl)[0].sum(0)}


def equal_scores(plain: Tensor, back: Tensor, form: Form = "kl", kl: Divergence = "sym") -> Tensor:
    """Mean score of each image, ``[B]``, from log-probabilities ``[B, K, h, w]`` of it and of the view put back."""
    height, width = plain.shape[-2:]
    a, b = plain.reshape(-1, width), back.reshape(-1, width)
    # a CPU takes most of the time to get memory, hence pieces that stay in its cache
    step = max(1, _PIECE // width if a.device.type == "cpu" else len(a))
    rows = [_terms(p, q, form, kl).sum(-1) for p, q in zip(torch.split(a, step), torch.split(b, step), strict=True)]
    # axis by axis, so that the order of the sums, hence every bit, does not depend on the other images
    return torch.cat(rows).view(plain.shape[:-1]).sum(-1).sum(-1) / (height * width)


def equal_maps(plain: Tensor, back: Tensor, form: Form = "kl", kl: Divergence = "sym") -> Tensor:
    """The score of each pixel, ``[B, h, w]``."""
    return _terms(plain, back, form, kl).sum(1)


def _terms(a: Tensor, b: Tensor, form: Form, kl: Divergence) -> Tensor:
    wide = torch.promote_types(a.dtype, torch.float32)  # sums over an image overflow in half precision
    a, b = a.to(wide).clamp(min=_LOG_ZERO), b.to(wide).clamp(min=_LOG_ZERO)
    p, q = a.exp(), b.exp()
    if form == "entropy":
        return -(p * a) - q * b
    if kl == "sym":
        return (p - q) * (a - b) / 2  # each term is >= 0: no cancellation
    if kl == "fwd":
        return p * (a - b)
    # not logaddexp: it gives the last numbers of a tensor, which do not fill a vector, other bits
    middle = ((p + q) / 2).clamp(min=torch.finfo(p.dtype).tiny).log()
    return (p * (a - middle) + q * (b - middle)) / 2


def _both(seen: Sequence[Seen]) -> tuple[Tensor, Tensor]:
    view = HFlip()
    plain = torch.stack([s.plain.log_probs for s in seen]).contiguous()
    mirrored = torch.stack([s.views[view][0][0].log_probs for s in seen]).contiguous()
    return plain, mirrored.flip(-1)
