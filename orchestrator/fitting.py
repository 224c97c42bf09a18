"""Fit one model for one cycle: order, augmentation, optimiser, checkpoints, the best one.

Every draw is a pure function of (seed, cycle, position), so a fit that was killed continues from its training
checkpoint to bit-identical weights, and arms of one seed draw alike. Several processes (``Group``) may train together:
each makes its parts of every batch, all hold the same weights, and the first judges and writes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from orchestrator.ahead import ahead
from orchestrator.checkpoints import load, save
from orchestrator.config import Train
from orchestrator.effective_batch import Part, accumulate
from orchestrator.errors import RunError
from orchestrator.evaluation import Indexed
from orchestrator.training_group import Group
from orchestrator.validation import Judge, Validation
from orchestrator.weighing import Weigh, Weighing
from orchestrator.workers import Progress
from tasks import LABEL_INPUTS
from tasks.augment import Augment
from tasks.data.files import Place
from tasks.joint_augment import JointAugment
from tasks.seeding import rng_of, seed_of
from tasks.types import Batch, ClassMap, Losses, Sample

PATIENCE = 50  # steps in a row without a finite loss before the fit is given up
ALONE = Group()


def _unread(rows: Sequence[int]) -> None:
    """Nothing is read before it is asked for."""


def unnoted(name: str, table: pa.Table) -> None:
    """Nobody asks how the fit went."""


@dataclass(frozen=True)
class Data:
    """The labeled images of a fit."""

    samples: Indexed
    rows: NDArray[np.int64]  # [n]
    has: NDArray[np.bool_]  # [n, T] which labels may be used
    tasks: tuple[str, ...]
    classes: ClassMap
    expect: Callable[[Sequence[int]], None] = _unread  # told which rows are asked for next
    pseudo: NDArray[np.bool_] | None = None  # [n, T] which of them a teacher made; None = none
    weight: float = 1.0  # what the losses of those count

    def sample(self, index: int) -> Sample:
        """The image at this place, with the labels that may be used; those that the network reads are people's."""
        sample = self.samples[int(self.rows[index])]
        known = {t: v for t, v in sample.targets.items() if t in self.tasks and self.has[index, self.tasks.index(t)]}
        shown = {n: x if self._is_shown(index, n) else torch.zeros_like(x) for n, x in sample.inputs.items()}
        return Sample(sample.id, sample.image, known, shown)

    def _is_shown(self, index: int, name: str) -> bool:
        """Whether the network may read this input: a label only where people gave it."""
        if name not in LABEL_INPUTS:
            return True
        of = (index, self.tasks.index(name)) if name in self.tasks else None
        return of is not None and bool(self.has[of]) and not (self.pseudo is not None and bool(self.pseudo[of]))

    def weights(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """``{task: [B]}``: what the losses of the images at these places count; empty where all count 1."""
        if self.pseudo is None or self.weight == 1.0:
            return {}
        each = torch.where(torch.from_numpy(self.pseudo[list(indices)]), self.weight, 1.0)
        return {task: each[:, i] for i, task in enumerate(self.tasks)}


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
    folder: Place,
    judge: Judge,
    keep: Callable[[nn.Module, int], None],
    progress: Progress,
    group: Group = ALONE,
    note: Callable[[str, pa.Table], None] = unnoted,
) -> tuple[Best, int]:
    """Train ``model`` in place; ``keep`` is called with each new best model. The best, and how many steps were skipped.

    ``note`` is called at the end or when the fit is given up: with "steps", every loss at every step
    (``StepRecord.table``), and with "validation" (``Validation.table``) where ``train.validate_every`` says so.

    ``judge`` is asked ``train.evaluations`` times, evenly spread and at the end, not at all where that is once; and
    every ``train.validate_every`` steps. A training checkpoint in ``folder`` is continued from; the caller removes it.
    In a ``group`` every process calls this, and only what the first one judges, keeps and writes counts.
    """
    if len(data.rows) == 0:
        raise RunError("no image is labeled; expected at least one: raise active.initial")
    optimizer = _optimizer([*model.parameters(), *weighting.parameters()], train)
    validation = Validation(judge, train, steps)
    torch.manual_seed(seed_of(seed, cycle, "layers"))  # dropout, if the network has any
    weighing = Weighing(weighting, optimizer, _device(model), steps, seed_of(seed, cycle, "weighting"))
    state = _begun(folder / "training.pt", model, weighing, validation, optimizer, group)
    step, best, skipped, bad = state["step"], state["best"], state["skipped"], state["bad"]
    with ahead(lambda s: step_parts(data, train, s, steps, seed, cycle, group), range(step, steps)) as batches:
        for step, parts in batches:
            for settings in optimizer.param_groups:
                settings["lr"] = train.rate * rate_share(train.schedule, step / steps)
            epoch = step * train.batch // len(data.rows)
            done = take_step(model, weighing, optimizer, parts, train, (step, epoch), group)
            skipped, bad = skipped + (not done), 0 if done else bad + 1
            if bad == PATIENCE:
                _noted(note, weighing, validation, train)
                raise RunError(f"train: the loss was not finite for {PATIENCE} steps in a row; lower train.rate")
            progress("fit", step + 1, steps)
            seen = validation.look(model, step + 1)
            if seen is not None and (best is None or seen[0] > best.score):
                best = Best(step + 1, *seen)
                keep(model, step + 1)
            if (step + 1) % train.checkpoint_steps == 0 and step + 1 < steps and group.rank == 0:
                state = _state(model, weighing, validation, optimizer, step + 1, best, skipped, bad)
                save(folder / "training.pt", state)
    assert best is not None
    _noted(note, weighing, validation, train)
    return best, skipped


def _noted(note: Callable[[str, pa.Table], None], weighing: Weighing, validation: Validation, train: Train) -> None:
    """How the fit went, for whoever asks."""
    note("steps", weighing.record.table())
    if train.validate_every is not None:
        note("validation", validation.table())


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
    for position in range(start, start + size):
        epoch, place = divmod(position, count)
        found.append((epoch, int(_permutation(count, epoch, *parts)[place])))
    return found


@lru_cache(maxsize=4)  # of a large pool it takes longer than a step; a batch holds the end of one and the next one
def _permutation(count: int, epoch: int, *parts: object) -> NDArray[np.int64]:
    return rng_of(*parts, "order", epoch).permutation(count)


def positions(train: Train, step: int, part: int) -> tuple[int, int]:
    """Where a part of a step begins in the stream of images, and how many it has: parts follow each other, without gap.

    Every image thus comes once an epoch whatever the number of parts and of processes, and a step has the same images.
    """
    size = train.batch // train.parts
    return step * train.batch + part * size, size


def step_parts(data: Data, train: Train, step: int, steps: int, seed: int, cycle: int, group: Group) -> list[Part]:
    """This process's parts of a step; meanwhile the images of the next one are on their way, too."""
    near = range(step, min(step + 2, steps))
    data.expect([row for one in near for row in _rows(data, train, one, seed, cycle, group)])
    return [
        Part(
            seed_of(seed, cycle, "layers", step, part),
            _batch(data, train, *positions(train, step, part), step / steps, seed, cycle),
        )
        for part in group.share(train.parts)
    ]


def _rows(data: Data, train: Train, step: int, seed: int, cycle: int, group: Group) -> list[int]:
    """The rows of this process's parts of a step, in the order in which they are read."""
    places = [positions(train, step, part) for part in group.share(train.parts)]
    return [int(data.rows[i]) for place in places for _, i in order(len(data.rows), *place, seed, cycle)]


def _batch(data: Data, train: Train, start: int, size: int, progress: float, seed: int, cycle: int) -> Batch:
    augment = _augment(train)
    samples, places = [], order(len(data.rows), start, size, seed, cycle)
    for epoch, index in places:
        sample = data.sample(index)
        samples.append(augment.apply(sample, data.classes, rng_of(seed, cycle, "augment", epoch, sample.id)))
    return Batch.of(samples, data.tasks, progress, data.weights([index for _, index in places]))


def _augment(train: Train) -> Augment | JointAugment:
    if train.augment is not None:
        return JointAugment(train.augment)
    return Augment(flip=train.flip, zoom=train.zoom, zoom_range=(1.0, train.zoom_to), colour=train.colour)


def take_step(
    model: nn.Module,
    weighing: Weighing,
    optimizer: torch.optim.Optimizer,
    parts: Sequence[Part],
    train: Train,
    at: tuple[int, int],
    group: Group,
) -> bool:
    """One optimiser step, at (step, epoch); False when a loss was not finite, and no weight was changed."""
    model.train()
    device = _device(model)
    optimizer.zero_grad(set_to_none=True)
    shared = shared_of(model, weighing.weighting)

    def forward(batch: Batch) -> Losses:
        with torch.autocast(device.type, torch.bfloat16, enabled=train.precision == "bf16"):
            losses: Losses = model(batch.to(device))
        return losses.scaled(batch.weights)

    def weigh(means: Mapping[str, Tensor], counts: Mapping[str, Tensor], extra: Tensor) -> Tensor | None:
        return weighing.total(means, counts, extra, step=at[0], epoch=at[1], shared=shared)

    if train.parts == 1:
        done = _whole(weigh, forward(parts[0].batch), device)
    else:
        done = accumulate(model, weigh, parts, group, forward=forward, shared=shared)
    if not done:
        return False
    if train.clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), train.clip)
    optimizer.step()
    weighing.step()
    return True


def _whole(weigh: Weigh, losses: Losses, device: torch.device) -> bool:
    """Gradients of a batch that is not cut; False, without any, where its loss is not finite."""
    extra = sum(losses.extra.values(), torch.zeros((), device=device))
    counts = {name: losses.labeled[name.split(".", 1)[0]].sum().to(device) for name in losses.values}
    total = weigh(losses.means(), counts, extra)
    if total is None:
        return False
    (total + extra).backward()  # type: ignore[no-untyped-call]
    return True


def shared_of(model: Any, weighting: Any) -> Sequence[nn.Parameter]:
    """The model's shared parameters, where the weighting reads them; RunError where the model names none."""
    if not getattr(weighting, "reads_shared", False):
        return ()
    shared: Sequence[nn.Parameter] = getattr(model, "shared", ())
    if not shared:
        raise RunError(
            "weighting: it compares gradients of shared parameters, and the model has no attribute 'shared' that names "
            "them; expected one: add it to the model, or choose another weighting"
        )
    return shared


def _optimizer(parameters: Sequence[nn.Parameter], train: Train) -> torch.optim.Optimizer:
    if train.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=train.rate, weight_decay=train.weight_decay, fused=True)
    return torch.optim.Adam(parameters, lr=train.rate, weight_decay=train.weight_decay, fused=True)


def _state(
    model: nn.Module,
    weighing: Weighing,
    validation: Validation,
    optimizer: torch.optim.Optimizer,
    step: int,
    best: Best | None,
    skipped: int,
    bad: int,
) -> dict[str, Any]:
    """All that a fit goes on from: the content of training.pt."""
    return {
        "model": model.state_dict(),
        **weighing.state(step),
        "validation": validation.state(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "best": None if best is None else {"step": best.step, "score": best.score, "figures": dict(best.figures)},
        "skipped": skipped,
        "bad": bad,
        "random": torch.get_rng_state(),
        "random_gpu": torch.cuda.get_rng_state() if _device(model).type == "cuda" else None,
    }


def _begun(
    path: Place,
    model: nn.Module,
    weighing: Weighing,
    validation: Validation,
    optimizer: torch.optim.Optimizer,
    group: Group,
) -> dict[str, Any]:
    """Where a fit stands, from its training checkpoint or from nothing: the first process reads it, all load it."""
    found = group.rank == 0 and path.is_file()
    state = load(path, _device(model), "delete this file and type the same command again") if found else None
    if group.world > 1:
        state = group.from_first(state or _state(model, weighing, validation, optimizer, 0, None, 0, 0))
    if state is None:
        return {"step": 0, "best": None, "skipped": 0, "bad": 0}
    model.load_state_dict(state["model"])
    weighing.load(state)
    validation.load(state.get("validation", ()))  # older checkpoints have none
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"].cpu())
    if state["random_gpu"] is not None and _device(model).type == "cuda":
        torch.cuda.set_rng_state(state["random_gpu"].cpu())
    state["best"] = None if state["best"] is None else Best(**state["best"])
    return state


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
