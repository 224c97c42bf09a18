"""The seam between the loop and the machines. No torch here: the loop runs where no model is.

``LocalWorkers`` (one process, steps through in a debugger) and ``RayWorkers`` (actors) carry out the same jobs with the
same code, ``Worker``, and therefore buy the same images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from orchestrator.components import Component
from orchestrator.config import Train
from orchestrator.errors import MtalError
from orchestrator.store import commit, read_json
from tasks.data.files import place

Progress = Callable[[str, int, int], None]  # phase, done, total


@dataclass(frozen=True)
class Setup:
    """What a worker is built from: plain data that travels."""

    manifest: str  # folder of the prepared data
    tasks: Mapping[str, Mapping[str, Any]]
    model: Component
    weighting: Component
    batch: int  # images a forward pass when scoring and evaluating
    shard: int  # images a unit of scoring and evaluating
    threads: int
    cache: int  # bytes of decoded images that a worker keeps
    gpu: bool
    code: str  # fingerprint of the sources that the driver runs
    home: str = ""  # where these lie


@dataclass(frozen=True)
class FitJob:
    folder: str  # gets model.pt, and training.pt while it runs
    train: Train
    rows: NDArray[np.int64]  # [n] manifest rows that have a label
    has: NDArray[np.bool_]  # [n, T] which
    steps: int
    seed: int
    cycle: int
    start: str | None = None  # checkpoint to start from; None = fresh weights
    denominators: Mapping[str, float] | None = None  # {"detection.map": ..}; None: choose by the raw figures
    split: str = "val"  # chooses the best checkpoint
    labels: tuple[str, ...] = ()  # files of labels that came later, in place of those of the data set
    pseudo: NDArray[np.bool_] | None = None  # [n, T] which labels a teacher made; None = none
    weight: float = 1.0  # what the losses of those count
    model: Component | None = None  # the teacher's network; None = that of the setup


@dataclass(frozen=True)
class Seat:
    """The place of one process among those that train together."""

    rank: int  # 0 is the first: it judges and writes
    world: int  # how many train together
    host: str  # address of this process's node
    meet: tuple[str, int]  # address and port of the first process


class GroupLost(MtalError):
    """Another process of a training group is gone: the fit goes on with a new group, from its last checkpoint."""


@dataclass(frozen=True)
class Fitted:
    checkpoint: str
    best_step: int
    skipped: int  # steps whose loss was not finite
    validation: Mapping[str, float]  # metrics of the best checkpoint; empty where there was nothing to choose from


@dataclass(frozen=True)
class ScoreJob:
    folder: str  # gets shard_<i>.parquet
    checkpoint: str
    strategies: Mapping[str, Component]
    seed: int
    cycle: int
    labeled: NDArray[np.bool_]  # [N] of the split's rows
    split: str = "train"
    inputs: str = ""  # fingerprint of all that the scores depend on
    left_out: NDArray[np.bool_] | None = None  # [N] unlabeled images that are not scored; None = none


@dataclass(frozen=True)
class PseudoJob:
    """A teacher labels images of the pool: ``shard_<i>.parquet`` and the maps that it names come to ``folder``."""

    folder: str
    checkpoint: str  # of the teacher
    tasks: tuple[str, ...]  # [L] what it labels
    wanted: NDArray[np.bool_]  # [N, L] which labels of the split's rows
    threshold: float
    mirrored: bool  # look at the mirror image, too
    source: str  # what the rows say of where they come from
    inputs: str  # fingerprint of all that the labels depend on
    labels: tuple[str, ...] = ()  # files of labels that people gave: the teacher may read some
    split: str = "train"


@dataclass(frozen=True)
class Scored:
    images: int
    forwards: float  # forward passes an image, in units of a plain pass

    @staticmethod
    def of(shards: Sequence[tuple[int, float]]) -> "Scored":
        """The sum of shards, each (images, forward passes)."""
        images = sum(n for n, _ in shards)
        return Scored(images, sum(f for _, f in shards) / max(images, 1))


@dataclass(frozen=True)
class SelectJob:
    folder: str  # of the shards
    name: str  # of the strategy in them
    strategy: Component
    budget: int  # images
    seed: int
    cycle: int
    labeled: NDArray[np.bool_]
    label_counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True)
class Bought:
    id: str
    key: int
    tasks: tuple[str, ...]
    value: float
    parts: Mapping[str, float]


@dataclass(frozen=True)
class ExplainJob:
    folder: str  # gets the pictures and gallery.json
    checkpoint: str
    strategy: Component
    picks: Sequence[Bought]
    seed: int
    cycle: int


class Workers(Protocol):
    """Carries out the jobs of one trial, somewhere."""

    def fit(self, job: FitJob) -> Fitted: ...

    def evaluate(self, checkpoint: str, split: str) -> dict[str, float]:
        """All metrics of a checkpoint on a split: {"detection.map": ..}."""
        ...

    def score(self, job: ScoreJob) -> Scored: ...

    def pseudo(self, job: PseudoJob) -> int:
        """How many images the teacher looked at."""
        ...

    def select(self, job: SelectJob) -> list[Bought]: ...

    def explain(self, job: ExplainJob) -> None: ...

    def label_cost(
        self, rows: NDArray[np.int64], has: NDArray[np.bool_], labels: tuple[str, ...] = ()
    ) -> dict[str, float]:
        """What labeling these rows cost: {"seconds": .., "boxes": ..}."""
        ...

    def close(self) -> None: ...


def ranges(total: int, size: int) -> list[tuple[int, int]]:
    """Fixed ranges [start, stop), whatever the workers: the unit of scoring, of evaluating and of commit."""
    return [(start, min(start + size, total)) for start in range(0, total, size)]


def fitted_once(workers: Workers, job: FitJob) -> Fitted:
    """The answer of a fit, kept as soon as it is there: a kill while its network is evaluated costs no step."""
    folder = place(job.folder)
    marker = folder / "fitted.json"
    if not (marker.is_file() and (folder / "model.pt").is_file()):
        commit(marker, asdict(workers.fit(job)))
    return Fitted(**{**read_json(marker), "checkpoint": str(folder / "model.pt")})
