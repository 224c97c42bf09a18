"""Shows a batch of images to a model, plainly and through views, in two waves: what all strategies of a plan share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from strategies.base import Rendered, Seen, View
from tasks.classes import ClassMap
from tasks.seeding import Rngs, uniforms
from tasks.types import Prediction

Answer = tuple[Prediction, Tensor]  # in the view's frame, and the matrix [2, 3] into that frame


class Predict(Protocol):
    """``Model.predict``."""

    def __call__(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]: ...


@dataclass(frozen=True)
class Images:
    """B images of one size, to be scored."""

    ids: Sequence[str]
    keys: Sequence[int]
    classes: ClassMap
    pixels: Tensor | None = None  # [B, 3, H, W]; None when nobody looks at them
    inputs: Mapping[str, Tensor] = field(default_factory=dict)  # {name: [B, c, H, W]}


@dataclass(frozen=True)
class Glance:
    """What was seen of a batch, and what it cost."""

    seen: list[Seen]
    forwards: float  # in full images: plain and view passes, crops by their share of the pixels


def see(
    predict: Predict,
    images: Images,
    heads: Sequence[str],
    views: Mapping[View, Sequence[str]],
    seed: int,
    cycle: int,
    fill: Tensor,
    chunk: int = 256,
) -> Glance:
    """Forward the images for ``heads`` and each view for its own heads; one Seen an image.

    Every view is forwarded by itself, an independent one as one batch, a dependent one in chunks of ``chunk`` images of
    the whole batch: a network may compute other bits at another batch size, so what else is in the plan must not
    change it.
    """
    u = uniforms(np.array(images.keys, dtype=np.uint64), seed, cycle)
    size = (0, 0) if images.pixels is None else (images.pixels.shape[-2], images.pixels.shape[-1])
    blank = Prediction({})
    seen = [
        Seen(id, key, size, images.classes, float(u[row]), blank)
        for row, (id, key) in enumerate(zip(images.ids, images.keys, strict=True))
    ]
    if images.pixels is None or not seen or not (heads or views):
        return Glance(seen, 0.0)
    plain = [blank] * len(seen)
    passes = 0.0
    if heads:
        plain = predict(images.pixels, heads=heads, inputs=images.inputs)
        passes += len(seen)
    answers: dict[View, list[list[Answer]]] = {}
    for view in sorted(views, key=lambda view: view.after):  # stable: independent views first
        rngs = Rngs((seed, cycle, "view", repr(view)), images.keys)
        shown = view.render(images.pixels, images.inputs, plain if view.after else None, rngs, fill)
        answers[view] = _answers(predict, shown, views[view], len(seen), chunk if view.after else None)
        area = shown.images.shape[-2] * shown.images.shape[-1] / (size[0] * size[1])
        passes += len(shown.images) * area
    return Glance(
        [
            replace(one, plain=plain[row], views={view: tuple(rows[row]) for view, rows in answers.items()})
            for row, one in enumerate(seen)
        ],
        passes,
    )


def _answers(
    predict: Predict, shown: Rendered, heads: Sequence[str], count: int, chunk: int | None
) -> list[list[Answer]]:
    answers: list[list[Answer]] = [[] for _ in range(count)]
    total = len(shown.images)
    predictions: list[Prediction] = []
    for first in range(0, total, chunk or max(total, 1)):
        part = slice(first, first + (chunk or total))
        inputs = {name: x[part] for name, x in shown.inputs.items()}
        predictions += predict(shown.images[part], heads=heads, inputs=inputs)
    assert len(predictions) == total, "a model answers one prediction an image"
    for row, prediction, matrix in zip(shown.index.tolist(), predictions, shown.matrix.unbind(), strict=True):
        answers[row].append((prediction, matrix))
    return answers


def mean_colour(model: object, device: torch.device) -> Tensor:
    """The colour ``[3]`` that a model takes for nothing (its ``mean_colour``; grey where it names none)."""
    colour = torch.as_tensor(getattr(model, "mean_colour", 0.5), dtype=torch.float32, device=device)
    return colour.flatten().expand(3)
