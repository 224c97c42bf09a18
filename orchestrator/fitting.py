"""Fit one model for one cycle: order, augmentation, optimiser, checkpoints, the best one.

Every draw is a pure function of (seed, cycle, position), so a fit that was killed continues from its training
checkpoint to bit-identical weights, and arms of one seed draw alike.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from orchestrator.ahead import ahead
from orchestrator.checkpoints import load, save
from orchestrator.config import Train
from orchestrator.errors import RunError
from orchestrator.evaluation import Indexed
from orchestrator.workers import Progress
from tasks.augment import Augment
from tasks.seeding import rng_of, seed_of
from tasks.types import Batch, ClassMap, Sample

PATIENCE = 50  # steps in a row without a finite loss before the fit is given up


@dataclass(frozen=True)
class Data:
    """The labeled images of a fit."""

    samples: Indexed
    rows: NDArray[np.int64]  # [n]
    has: NDArray[np.bool_]  # [n, T] which labels may be used
    tasks: tuple[str, ...]
    classes: ClassMap


@dataclass(frozen=True)
class Best:
    step: int
    score: float
    figures: Mapping[str, float]


def fit(
    model: nn.Module,
    weighting: nn.Module,
    data: Data,
    train: Train,
    *,
    steps: int,
    seed: int,
    cycle: int,
    folder: Path,
    judge: Callable[[nn.Module], tuple[float, dict[str, float]]],
    keep: Callable[[nn.Module, int], None],
    progress: Progress,
) -> tuple[Best, int]:
    """Train ``model`` in place; ``keep`` is called with each new best model. The best, and how many steps were skipped.

    ``judge`` is asked ``train.evaluations`` times, evenly spread and at the end; not at all where that is once. A
    training checkpoint in ``folder`` is continued from and removed at the end.
    """
    if len(data.rows) == 0:
        raise RunError("no image is labeled; expected at least one: raise active.initial")
    optimizer = _optimizer([*model.parameters(), *weighting.parameters()], train)
    looks = {math.ceil(steps * (i + 1) / train.evaluations) for i in range(train.evaluations)}
    torch.manual_seed(seed_of(seed, cycle, "layers"))  # dropout, if the network has any
    state = _resume(folder / "training.pt", model, weighting, optimizer)
    step, best, skipped, bad = state["step"], state["best"], state["skipped"], 0
    with ahead(lambda s: _batch(data, train, s, steps, seed, cycle), range(step, steps)) as batches:
        for step, batch in batches:
            for group in optimizer.param_groups:
                group["lr"] = train.rate * rate_share(train.schedule, step / steps)
            done = _step(model, weighting, optimizer, batch, train, step)
            skipped, bad = skipped + (not done), 0 if done else bad + 1
            if bad == PATIENCE:
                raise RunError(f"train: the loss was not finite for {PATIENCE} steps in a row; lower train.rate")
            progress("fit", step + 1, steps)
            if step + 1 in looks:
                score, found = judge(model.eval()) if train.chooses else (math.nan, {})
                if best is None or score > best.score:
                    best = Best(step + 1, score, found)
                    keep(model, step + 1)
            if (step + 1) % train.checkpoint_steps == 0 and step + 1 < steps:
                _checkpoint(folder / "training.pt", model, weighting, optimizer, step + 1, best, skipped)
    assert best is not None
    return best, skipped


def rate_share(schedule: str, done: float) -> float:
    """The learning rate as a share of its peak after a share ``done`` of the steps, in [0, 1)."""
    if schedule == "poly":
        return float(1.0 - done**0.9)
    if schedule == "constant":
        return 1.0
    warm = 0.2
    if done < warm:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * done / warm))
    return max(1e-3, 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm))))


def order(count: int, start: int, size: int, *parts: object) -> list[tuple[int, int]]:
    """(epoch, index) of stream positions ``start .. start + size``: each epoch is a permutation of ``count`` images."""
    found = []
    permutations: dict[int, NDArray[np.int64]] = {}
    for position in range(start, start + size):
        epoch, place = divmod(position, count)
        if epoch not in permutations:
            permutations[epoch] = rng_of(*parts, "order", epoch).permutation(count)
        found.append((epoch, int(permutations[epoch][place])))
    return found


def _batch(data: Data, train: Train, step: int, steps: int, seed: int, cycle: int) -> Batch:
    augment = Augment(flip=train.flip, zoom=train.zoom, zoom_range=(1.0, train.zoom_to), colour=train.colour)
    samples = []
    for epoch, index in order(len(data.rows), step * train.batch, train.batch, seed, cycle):
        sample = data.samples[int(data.rows[index])]
        known = {t: v for t, v in sample.targets.items() if t in data.tasks and data.has[index, data.tasks.index(t)]}
        rng = rng_of(seed, cycle, "augment", epoch, sample.id)
        samples.append(augment.apply(Sample(sample.id, sample.image, known, sample.inputs), data.classes, rng))
    return Batch.of(samples, data.tasks, progress=step / steps)


def _step(
    model: nn.Module, weighting: Any, optimizer: torch.optim.Optimizer, batch: Batch, train: Train, step: int
) -> bool:
    """One optimiser step; False when a loss was not finite, and no weight was changed."""
    model.train()
    device = next(model.parameters()).device
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device.type, torch.bfloat16, enabled=train.precision == "bf16"):
        losses = model(batch.to(device))
    total: Tensor = weighting.total(losses.means(), step=step) + sum(
        losses.extra.values(), torch.zeros((), device=device)
    )
    if not bool(torch.isfinite(total)):
        return False
    total.backward()  # type: ignore[no-untyped-call]
    if train.clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), train.clip)
    optimizer.step()
    weighting.step()
    return True


def _optimizer(parameters: Sequence[nn.Parameter], train: Train) -> torch.optim.Optimizer:
    if train.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=train.rate, weight_decay=train.weight_decay, fused=True)
    return torch.optim.Adam(parameters, lr=train.rate, weight_decay=train.weight_decay, fused=True)


def _checkpoint(
    path: Path,
    model: nn.Module,
    weighting: Any,
    optimizer: torch.optim.Optimizer,
    step: int,
    best: Best | None,
    skipped: int,
) -> None:
    save(
        path,
        {
            "model": model.state_dict(),
            "weighting": weighting.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "best": None if best is None else {"step": best.step, "score": best.score, "figures": dict(best.figures)},
            "skipped": skipped,
            "random": torch.get_rng_state(),
            "random_gpu": torch.cuda.get_rng_state() if _on_gpu(model) else None,
        },
    )


def _resume(path: Path, model: nn.Module, weighting: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    if not path.is_file():
        return {"step": 0, "best": None, "skipped": 0}
    state = load(path, next(model.parameters()).device, "delete this file and type the same command again")
    model.load_state_dict(state["model"])
    weighting.load_state_dict(state["weighting"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"].cpu())
    if state["random_gpu"] is not None and _on_gpu(model):
        torch.cuda.set_rng_state(state["random_gpu"].cpu())
    state["best"] = None if state["best"] is None else Best(**state["best"])
    return state


def _on_gpu(model: nn.Module) -> bool:
    return next(model.parameters()).device.type == "cuda"
