"""A network without batch norm and images with labels missing, trained alone or by processes that meet over gloo."""

import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from orchestrator.config import Train
from orchestrator.fitting import Best, Data, fit
from orchestrator.training_group import Group, joined, listen
from orchestrator.workers import Seat
from tasks.nets.fcos import FcosHead
from tasks.nets.heads import conv_block, group_norm
from tasks.nets.model import MultiTaskNet
from tasks.nets.panoptic_fpn import PanopticHead
from tasks.types import Batch, Losses, Objects, Sample
from tests.toy import CLASSES

STRIDES = (4, 8)
HOST = "127.0.0.1"
TWO = {"processes": 2, "evaluations": 2}


class Body(nn.Module):
    """Two maps, normalised by group."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_block(3, 8, group_norm, stride=2)
        self.stages = nn.ModuleList(conv_block(8, 8, group_norm, stride=2) for _ in STRIDES)

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Watched(nn.Module):
    """Learned factors that see the losses themselves, too; keeps the curve of the totals and of each loss."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(4))
        self.curve: list[list[float]] = []

    def total(self, losses: dict[str, Tensor], *, step: int = 0, **unused: object) -> Tensor:
        values = torch.stack(list(losses.values()))
        total = (values * (-self.log_variance).exp() + self.log_variance).sum() + values.square().sum() / 10
        self.curve.append([float(total.detach()), *(float(v.detach()) for v in losses.values())])
        return total

    def step(self) -> None:
        """Nothing: its parameters are the optimiser's."""

    def weights(self) -> dict[str, float]:
        return {}


def network() -> MultiTaskNet:
    torch.manual_seed(0)
    heads = {
        "detection": FcosHead(8, 4, STRIDES, norm=group_norm, depth=1, shared=True),
        "segmentation": PanopticHead(8, 5, STRIDES, width=8, norm=group_norm),
    }
    return MultiTaskNet(Body(), nn.Identity(), heads, channels=(8, 8), stride=8)


class Noisy(nn.Module):
    """Batch norm, dropout, a constant, a parameter that nothing uses: all that parts of a batch could treat unlike."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 4), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.ReLU(), nn.Conv2d(8, 4, 1)
        )
        self.idle = nn.Parameter(torch.ones(3))
        self.register_buffer("third", torch.tensor(0.1))

    def forward(self, batch: Batch) -> Losses:
        """A loss a task and an extra one, of noise: all it is for is to depend on everything."""
        found = self.layers(batch.images).mean((2, 3)).square()
        labeled = {task: torch.tensor([t is not None for t in of]) for task, of in batch.targets.items()}
        first, second = labeled.values()
        values = {"detection.a": found[:, 0] * first, "detection.b": found[:, 1] * first, "segmentation.c": found[:, 2]}
        values = {**values, "segmentation.c": values["segmentation.c"] * second, "segmentation.d": found[:, 3] * second}
        return Losses(values, labeled, {"x.extra": found.mean()})


def images(count: int = 14, broken: int | None = None) -> Data:
    """Images of 32 x 32 pixels; a third has no boxes, a quarter no map; the pixels of ``broken`` are NaN."""
    rng = np.random.default_rng(0)
    samples = []
    for i in range(count):
        corner = rng.uniform(0, 16, (2, 2))
        boxes = torch.tensor(np.hstack([corner, corner + rng.uniform(6, 14, (2, 2))]), dtype=torch.float32)
        objects = Objects(boxes, torch.tensor(rng.integers(0, 4, 2)), torch.zeros(2, dtype=torch.bool))
        pixels = torch.tensor(rng.random((3, 32, 32)), dtype=torch.float32) * (float("nan") if i == broken else 1.0)
        samples.append(
            Sample(f"i{i}", pixels, {"detection": objects, "segmentation": torch.tensor(rng.integers(0, 5, (32, 32)))})
        )
    has = np.stack([np.arange(count) % 3 != 0, np.arange(count) % 4 != 0], 1)
    return Data(samples, np.arange(count), has, ("detection", "segmentation"), CLASSES)


def settings(**changes: object) -> Train:
    plain = {"steps": 20, "batch": 4, "rate": 0.01, "zoom": 0.3, "colour": 0.2, "checkpoint_steps": 6}
    return Train(**{**plain, **changes})  # type: ignore[arg-type]


@dataclass
class Trained:
    """What a fit has come to."""

    net: nn.Module
    weighting: Watched
    kept: list[int] = field(default_factory=list)
    best: Best | None = None
    skipped: int = 0

    @property
    def curve(self) -> np.ndarray:
        return np.array(self.weighting.curve)

    def state(self) -> dict[str, Tensor]:
        return {**self.net.state_dict(), "log_variance": self.weighting.log_variance.detach()}


def trained(
    folder: Path,
    train: Train,
    group: Group | None = None,
    at_step: Callable[[int], None] = lambda step: None,
    noisy: bool = False,
) -> Trained:
    """The fit of one process; ``at_step`` is called after each step. ``noisy``: the other network, a broken image."""
    torch.set_num_threads(1)
    made = Trained(Noisy() if noisy else network(), Watched())
    data = images(broken=5 if noisy else None)

    def judge(model: nn.Module) -> tuple[float, dict[str, float]]:
        return -float(sum(p.detach().abs().sum() for p in model.parameters())), {"x": 1.0}

    made.best, made.skipped = fit(
        made.net, made.weighting, data, train, steps=train.steps, seed=3, cycle=1, folder=folder,
        judge=judge, keep=lambda model, step: made.kept.append(step),
        progress=lambda phase, done, total: at_step(done), group=group or Group(),
    )  # fmt: skip
    return made


def member(seat: Seat, train: Train, folder: str, die_at: int, door: socket.socket | None = None) -> None:
    """A process that trains with others, and leaves its weights in the folder; it dies after step ``die_at``."""

    def at_step(step: int) -> None:
        if step == die_at:
            os.kill(os.getpid(), 9)

    with joined(seat, torch.device("cpu"), door) as group:
        done = trained(Path(folder), train, group, at_step)
        noisy = trained(noisy_folder(Path(folder)), train, group, noisy=True)
    torch.save({"plain": done.state(), "noisy": noisy.state()}, Path(folder) / f"rank_{seat.rank}.pt")


def noisy_folder(folder: Path) -> Path:
    """Where the noisy fit keeps its training checkpoint."""
    (folder / "noisy").mkdir(exist_ok=True)
    return folder / "noisy"


@contextmanager
def others(world: int, train: Train, folder: Path, die_at: int = 0) -> Iterator[tuple[Seat, socket.socket]]:
    """The first seat, and its door, while processes of their own take the other ones."""
    folder.mkdir(parents=True, exist_ok=True)
    door = listen(HOST)
    meet = (HOST, int(door.getsockname()[1]))
    start = multiprocessing.get_context("spawn")
    below: Sequence[BaseProcess] = [
        start.Process(target=member, args=(Seat(rank, world, HOST, meet), train, str(folder), die_at), daemon=True)
        for rank in range(1, world)
    ]
    for one in below:
        one.start()
    try:
        yield Seat(0, world, HOST, meet), door
        for one in below:
            one.join(60)
    finally:
        for one in below:
            one.kill()
            one.join()


def together(folder: Path, die_at: int = 0) -> tuple[Trained, Trained]:
    """What the first of two processes came to, in a plain and in a noisy fit; the second one is another process."""
    train = settings(**TWO)
    with others(2, train, folder, die_at) as (seat, door), joined(seat, torch.device("cpu"), door) as group:
        return trained(folder, train, group), trained(noisy_folder(folder), train, group, noisy=True)
