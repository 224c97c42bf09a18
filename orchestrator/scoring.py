"""Scores one batch of images under all strategies of a plan: shared forward passes, two waves, scores."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import inf, isnan

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from strategies.base import Score, Seen, Strategy, View
from strategies.seeing import Glance, Images, mean_colour, see
from tasks.base import Model
from tasks.classes import ClassMap
from tasks.seeding import Rngs


@dataclass(frozen=True)
class Plan:
    """The strategies that score together in one cycle of one trial."""

    strategies: Mapping[str, Strategy]  # by the name of the arm
    seed: int
    cycle: int

    @property
    def active(self) -> dict[str, Strategy]:
        """Each name's strategy of this cycle."""
        return {name: strategy.at(self.cycle) for name, strategy in self.strategies.items()}

    @property
    def reads(self) -> tuple[str, ...]:
        """What the plain pass must answer, each once, in order of appearance."""
        return tuple(dict.fromkeys(head for strategy in self.active.values() for head in strategy.reads))

    @property
    def views(self) -> dict[View, tuple[str, ...]]:
        """The views, each once, in order of appearance, with all the heads that some strategy wants of it."""
        heads: dict[View, dict[str, None]] = {}
        for strategy in self.active.values():
            for view in strategy.views:
                heads.setdefault(view, {}).update(dict.fromkeys(view.reads))
        return {view: tuple(wanted) for view, wanted in heads.items()}


@dataclass(frozen=True)
class BatchScores:
    """The scores of a batch, ``{strategy: one an image}``, and the forward passes they took, in full images."""

    scores: dict[str, list[Score]]
    forwards: float


@dataclass(frozen=True)
class Explained:
    """One image with what its strategies have to show: ``{strategy: {caption: map [h, w]}}``."""

    seen: Seen
    maps: dict[str, dict[str, Tensor]] = field(default_factory=dict)


def needs_images(plan: Plan) -> bool:
    """False: no strategy looks at pixels, so no image has to be read or decoded."""
    return bool(plan.reads or plan.views)


def check_plan(model: Model, plan: Plan) -> None:
    """ValueError where a strategy, or a view of it, reads what the model does not provide."""
    for name, strategy in plan.active.items():
        for head in (*strategy.reads, *(head for view in strategy.views for head in view.reads)):
            if head not in model.provides:
                raise ValueError(
                    f"strategy {name!r} reads {head!r}, which the model does not provide "
                    f"(it provides {', '.join(sorted(model.provides)) or 'nothing'}){_advice(head)}"
                )


def score_batch(
    model: Model,
    images: Tensor | None,
    inputs: Mapping[str, Tensor],
    ids: Sequence[str],
    keys: Sequence[int],
    classes: ClassMap,
    plan: Plan,
    crop_chunk: int = 256,
    phase: Callable[[str], AbstractContextManager[None]] = lambda name: nullcontext(),
) -> BatchScores:
    """Scores of B images under every strategy of the plan.

    ``images [B, 3, H, W]``, or None where ``needs_images(plan)`` is False. Given equal predictions a score is the same
    in any batch and beside any other strategies. ValueError, naming strategy and image, for NaN and +inf. ``phase``
    is entered with "forward" (views and passes) and "scores" (the strategies' arithmetic).
    """
    with phase("forward"):
        glance = _look(model, images, inputs, ids, keys, classes, plan, crop_chunk)
    scores: dict[str, list[Score]] = {}
    with torch.inference_mode(), phase("scores"):
        for name, strategy in plan.active.items():
            scores[name] = strategy.score_batch(glance.seen, Rngs((plan.seed, plan.cycle, name), keys))
            _refuse_bad(name, scores[name], ids)
    return BatchScores(scores, glance.forwards)


def explain_batch(
    model: Model,
    images: Tensor,
    inputs: Mapping[str, Tensor],
    ids: Sequence[str],
    keys: Sequence[int],
    classes: ClassMap,
    plan: Plan,
    crop_chunk: int = 256,
) -> list[Explained]:
    """What was seen of each image, and the maps that show why it was scored as it was, for the gallery."""
    glance = _look(model, images, inputs, ids, keys, classes, plan, crop_chunk)
    with torch.inference_mode():
        return [
            Explained(seen, {name: dict(strategy.explain(seen)) for name, strategy in plan.active.items()})
            for seen in glance.seen
        ]


def score_rows(scores: Mapping[str, Sequence[Score]], ids: Sequence[str], keys: Sequence[int]) -> pa.Table:
    """One row an image: ``id``, ``key``, and ``<strategy>.value``, ``<strategy>.<part>``, ``<strategy>.summary``."""
    columns: dict[str, pa.Array] = {"id": pa.array(ids, pa.string()), "key": pa.array(keys, pa.uint64())}
    for name, answers in scores.items():
        columns[f"{name}.value"] = pa.array([score.value for score in answers], pa.float64())
        parts = dict.fromkeys(part for score in answers for part in score.parts)
        for part in parts:
            if part in ("value", "summary") or "." in part:
                raise ValueError(f"strategy {name!r} has a part {part!r}; name it otherwise, and without a dot")
            columns[f"{name}.{part}"] = pa.array([score.parts.get(part) for score in answers], pa.float64())
        if any(score.summary is not None for score in answers):
            kept = [score.summary for score in answers]
            columns[f"{name}.summary"] = pa.array(kept, pa.list_(pa.float32()))
    return pa.table(columns)


def _look(
    model: Model,
    images: Tensor | None,
    inputs: Mapping[str, Tensor],
    ids: Sequence[str],
    keys: Sequence[int],
    classes: ClassMap,
    plan: Plan,
    chunk: int,
) -> Glance:
    if images is None and needs_images(plan):
        readers = [name for name, strategy in plan.active.items() if strategy.reads or strategy.views]
        raise ValueError(f"no images were given, but {', '.join(readers)} must see them")
    check_plan(model, plan)
    fill = mean_colour(model, torch.device("cpu") if images is None else images.device)
    batch = Images(ids, keys, classes, images, inputs)
    with torch.inference_mode():
        return see(model.predict, batch, plan.reads, plan.views, plan.seed, plan.cycle, fill, chunk)


def _refuse_bad(name: str, scores: Sequence[Score], ids: Sequence[str]) -> None:
    if len(scores) != len(ids):
        raise ValueError(
            f"strategy {name!r} answered {len(scores)} scores for {len(ids)} images; expected one an image"
        )
    for id, score in zip(ids, scores, strict=True):
        if not isinstance(score, Score):
            raise ValueError(
                f"strategy {name!r} answered a {type(score).__name__} for image {id!r}; expected a Score of "
                "strategies.base: make it one"
            )
        for what, value in (("value", score.value), *score.parts.items()):
            if isnan(value) or value == inf:
                raise ValueError(
                    f"strategy {name!r}: {what} is {value} for image {id!r}; expected a finite number, or -inf to take "
                    "the image last"
                )
        if score.summary is not None and not np.isfinite(score.summary).all():
            raise ValueError(
                f"strategy {name!r}: the summary of image {id!r} holds NaN or inf; expected finite numbers"
            )


def _advice(head: str) -> str:
    if head == "predicted_loss":
        return "; add model.loss_prediction"
    return "; choose another model, or add the task" if "." not in head else "; choose another model"
