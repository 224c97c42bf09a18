"""Small images of bright rectangles, and small seeded nets, for the tests of this folder."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from tasks.classes import ClassMap
from tasks.types import Batch, Objects, Sample, Target

CLASSES = ClassMap(("car", "sign"), ("road", "car", "sign"), (1, 2))
TASKS = ("detection", "segmentation")
Made = TypeVar("Made")


def seeded(make: Callable[[], Made], seed: int = 0) -> Made:
    """What ``make`` makes, with torch's generator at ``seed``; the generator is as before afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def objects(boxes: Sequence[Sequence[float]], labels: Sequence[int], crowd: Sequence[bool] | None = None) -> Objects:
    flags = [False] * len(labels) if crowd is None else list(crowd)
    return Objects(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4), torch.tensor(labels).long(), torch.tensor(flags).bool()
    )


def scene(rng: np.random.Generator, size: tuple[int, int] = (64, 64), kinds: int = 2) -> Sample:
    """One to three rectangles: class 0 is red, class 1 blue, on a grey and noisy ground."""
    height, width = size
    image = rng.normal(0.4, 0.03, (3, height, width)).astype(np.float32)
    truth = np.zeros(size, np.int64)
    boxes, labels = [], []
    for column in rng.permutation(3)[: rng.integers(1, 4)]:  # a third of the image each: no overlap
        w, h = rng.integers(8, width // 3 - 1), rng.integers(8, height // 2)
        x, y = int(column) * (width // 3) + rng.integers(0, width // 3 - w), rng.integers(0, height - h)
        label = int(rng.integers(0, kinds))
        image[:, y : y + h, x : x + w] = np.array([0.9, 0.2, 0.2] if label == 0 else [0.2, 0.2, 0.9])[:, None, None]
        truth[y : y + h, x : x + w] = label + 1
        boxes.append([float(x), float(y), float(x + w), float(y + h)])
        labels.append(label)
    targets: dict[str, Target] = {"detection": objects(boxes, labels), "segmentation": torch.from_numpy(truth)}
    return Sample(str(rng.integers(1 << 60)), torch.from_numpy(image), targets)


def scenes(count: int, seed: int = 0, size: tuple[int, int] = (64, 64), kinds: int = 2) -> list[Sample]:
    rng = np.random.default_rng(seed)
    return [scene(rng, size, kinds) for _ in range(count)]


def with_depth(seed: int) -> Sample:
    """Rectangles stand 5 m away, the ground 20 m; the upper rows are sky."""
    one = scene(np.random.default_rng(seed))
    truth = one.targets["segmentation"]
    assert isinstance(truth, Tensor)
    metres = torch.where(truth > 0, 5.0, 20.0)
    metres[:4] = torch.nan
    return Sample(one.id, one.image, {**one.targets, "depth": metres})


def batch_of(samples: Sequence[Sample], tasks: Sequence[str] = TASKS, progress: float = 1.0) -> Batch:
    return Batch.of(samples, tasks, progress)


def without(sample: Sample, *tasks: str) -> Sample:
    """The sample without the labels of ``tasks``."""
    return Sample(sample.id, sample.image, {t: x for t, x in sample.targets.items() if t not in tasks})


def train(
    model: torch.nn.Module, samples: Sequence[Sample], steps: int, rate: float = 4e-3, seed: int = 0
) -> list[float]:
    """The summed loss of each step of AdamW with one rise and fall of the rate."""
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(model.parameters(), rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=max(steps, 4))
    history = []
    model.train()
    for _ in range(steps):
        losses = model(batch_of([samples[i] for i in rng.choice(len(samples), 8, replace=False)]))
        total: Tensor = torch.stack([*losses.means().values(), *losses.extra.values()]).sum()
        optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        schedule.step()
        history.append(total.item())
    return history
