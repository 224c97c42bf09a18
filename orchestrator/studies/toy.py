"""The toy example of the papers on imbalanced multi-task learning: does a teacher that sees one task help another one?

Two functions of one variable share a component (sin 7z). Labels of f1 are many, labels of f2 are few. A teacher that
is shown f1 labels the rest for a student that is not. The controls that the papers lack are in here, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orchestrator.errors import ConfigError
from orchestrator.studies.toy_networks import Activation, Examples, Networks, Training, answers, fit
from tasks.seeding import rng_of

Array = NDArray[np.float64]
SAMPLES, LABELED, GRID = 640, 160, 501  # z with f1; of these, those with f2, too; where errors are measured
TABLE_2 = {"ST": (0.0149, 0.0111), "MTL": (0.0101, 0.0068), "T-S": (0.0072, 0.0062)}  # mean and sd of the MSE


def f1(z: Array) -> Array:
    """The task whose labels are many."""
    return np.asarray(np.sin(z) + np.sqrt(z) / 300 + 2 + 3 * np.sin(5 * z) * np.cos(2 * z))


def f2(z: Array) -> Array:
    """The task whose labels are few."""
    return np.asarray(np.cos(z / 3) + np.sqrt(z) / 200 + 1 - np.sin(3 * z) * np.cos(4 * z))


@dataclass(frozen=True)
class Regime:
    """What the papers do not say of their training."""

    activation: Activation
    epochs: int
    teacher: int = 1  # times as many epochs for a teacher
    scaled: bool = False  # targets with mean 0 and deviation 1

    @property
    def words(self) -> str:
        longer = f", {self.teacher} times as many for teachers" if self.teacher > 1 else ", for teachers as well"
        return f"{self.activation}, {self.epochs} epochs{longer}, targets {'scaled' if self.scaled else 'as they are'}"


REGIMES: Mapping[str, Regime] = {
    "tanh60-teacher4": Regime("tanh", 60, 4),
    "tanh60": Regime("tanh", 60),
    "tanh75-teacher4": Regime("tanh", 75, 4),
    "relu60": Regime("relu", 60),
    "relu100": Regime("relu", 100),
    "relu20-scaled-teacher4": Regime("relu", 20, 4, scaled=True),
}
DEFAULT = "tanh60-teacher4"


@dataclass(frozen=True, eq=False)
class Method:
    """One way to learn f2."""

    name: str
    about: str
    steps: int  # of the network that answers, without those of its teacher
    answer: Array  # [S, GRID] its f2
    error: Array  # [S] mean squared error of it


@dataclass(frozen=True, eq=False)
class Toy:
    """All methods under one regime."""

    regime: str
    seeds: tuple[int, ...]
    z: Array  # [S, SAMPLES]; the first LABELED of them have f2
    grid: Array  # [GRID]
    methods: Mapping[str, Method]


def toy(regime: str, seeds: Sequence[int], told: Callable[[str, str, int, int], None] = lambda *_: None) -> Toy:
    """Every method's answers and errors. ConfigError for a regime that has no name."""
    if regime not in REGIMES:
        raise ConfigError(f"--regime {regime}: no such regime; expected one of {', '.join(REGIMES)}: choose one")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # products so small gain little by more, and lose much where a machine is busy
    try:
        return _Bench(regime, tuple(seeds), told).toy()
    finally:
        torch.set_num_threads(threads)


class _Bench:
    """Trains the networks of one regime, those of all seeds together."""

    def __init__(self, name: str, seeds: tuple[int, ...], told: Callable[[str, str, int, int], None]) -> None:
        self.name, self.regime, self.seeds, self.told = name, REGIMES[name], seeds, told
        self.training = Training(self.regime.activation)
        self.z = np.stack([rng_of("toy", "z", seed).uniform(0, 1, SAMPLES) for seed in seeds])
        self.grid = np.linspace(0, 1, GRID)
        self.scales = [self._scale(f(self.z)) for f in (f1, f2)]
        self.x = _column(self.z)
        self.y = self._targets(self.z)  # [S, SAMPLES, 2]: f1 and f2, as they are trained on
        self.on_grid = _column(np.tile(self.grid, (len(seeds), 1)))
        self.methods: dict[str, Method] = {}

    def _scale(self, values: Array) -> tuple[Array, Array]:
        """What is taken off, and what is divided by, ``[S, 1]`` each: of the labeled samples."""
        known = values[:, :LABELED]
        if not self.regime.scaled:
            return np.zeros((len(values), 1)), np.ones((len(values), 1))
        return known.mean(1, keepdims=True), known.std(1, keepdims=True)

    def _targets(self, z: Array) -> Tensor:
        return torch.cat([_column((f(z) - m) / s) for f, (m, s) in zip((f1, f2), self.scales, strict=True)], 2)

    def toy(self) -> Toy:
        few, many = self.x[:, :LABELED], self.x
        both = self.y[:, :LABELED]
        helped = torch.cat([self.x, self.y[..., :1]], 2)
        longer = self.regime.epochs * self.regime.teacher
        own = f"own labels ({LABELED})"

        self._add("ST", f"f2 alone, from {own}", Examples(few, both[..., 1:]), "student")
        self._add("MTL", f"f1 and f2, from {own}", Examples(few, both), "both")
        teacher = self._add(
            "teacher", "is shown z and f1", Examples(helped[:, :LABELED], both), "teacher", longer,
            torch.cat([self.on_grid, self._targets(np.tile(self.grid, (len(self.seeds), 1)))[..., :1]], 2),
        )  # fmt: skip
        pseudo = Examples(many, answers(teacher, helped)[..., 1:])
        self._add("T-S", f"f2 from the teacher's labels ({SAMPLES})", pseudo, "student")
        few_steps = self.methods["ST"].steps
        self._add("T-S, equal steps", "the same with as many steps as ST", pseudo, "student", steps=few_steps)
        blind = self._add("teacher without f1", "ST, trained like the teacher", Examples(few, both[..., 1:]), "teacher",
                          longer)  # fmt: skip
        copied = Examples(many, answers(blind, many))
        self._add("T-S without f1", "f2 from the labels of a teacher that never saw f1", copied, "student")
        known = torch.ones_like(self.y, dtype=torch.bool)
        known[:, LABELED:, 1] = False
        told = f"all labels of f1 ({SAMPLES}) and of f2 ({LABELED}), no teacher"
        self._add("mask-MTL", told, Examples(many, self.y, known), "both")
        return Toy(self.name, self.seeds, self.z, self.grid, self.methods)

    def _add(
        self,
        name: str,
        about: str,
        examples: Examples,
        role: str,
        epochs: int | None = None,
        seen: Tensor | None = None,
        steps: int | None = None,
    ) -> Networks:
        """Train one kind of network, and note what it answers on the grid; ``seen``: what it is shown there."""
        self.told("toy", name, len(self.methods), 8)
        if steps is None:
            steps = self.training.steps(epochs or self.regime.epochs, examples.inputs.shape[1])
        networks = fit(examples, self.seeds, role, self.training, steps)
        mean, sd = self.scales[1]
        scaled = answers(networks, self.on_grid if seen is None else seen)[..., -1]
        answer = scaled.double().numpy() * sd + mean
        error = ((answer - f2(self.grid)) ** 2).mean(1)
        self.methods[name] = Method(name, about, steps, answer, error)
        return networks


def _column(values: Array) -> Tensor:
    """``[S, N]`` as inputs or targets ``[S, N, 1]``."""
    return torch.from_numpy(values.astype(np.float32))[..., None]
