"""What a run would do, counted before it is begun: trials, steps, forward passes, labels, bytes, hours.

Nothing is computed but the size of a network and of a row of scores, and nothing is written. All counts follow from the
experiment and the number of images; ``cycle`` is what they describe.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import nn

from orchestrator.active import LABELED, images_of, start_of
from orchestrator.components import make
from orchestrator.config import Experiment, arm
from orchestrator.errors import ConfigError
from orchestrator.identity import initial_inputs
from orchestrator.listing import cost_of
from orchestrator.running import classes_of, prepared
from orchestrator.scoring import Plan as ScorePlan
from orchestrator.scoring import needs_images, score_batch, score_rows
from orchestrator.store import fingerprint
from orchestrator.trials import Unit
from orchestrator.validation import judged
from strategies.base import Strategy
from strategies.sample_pool import sample_images
from tasks.classes import ClassMap
from tasks.data.known_labels import known_labels
from tasks.geometry import Size

SPLITS = ("train", "val", "test")
STORED = (480, 640)  # H, W that is taken for images that are used as they are stored


@dataclass(frozen=True)
class Scoring:
    """The scoring of one cycle."""

    images: int
    least: float  # forward passes an image, in full images, where nothing is detected
    most: float  # and where an image is full of objects
    bytes: int  # of the file, at most


@dataclass(frozen=True)
class Work:
    """What one trial does."""

    unit: Unit
    steps: int
    fits: int
    judged: int  # images that the first worker evaluates in training
    evaluated: int  # images that all workers evaluate together
    scorings: tuple[Scoring, ...] = ()
    labeled: int = 0  # images that it starts with
    bought: tuple[int, ...] = ()  # images, of each purchase

    @property
    def least(self) -> float:
        """Forward passes of scoring, where nothing is detected."""
        return sum(one.images * one.least for one in self.scorings)

    @property
    def most(self) -> float:
        return sum(one.images * one.most for one in self.scorings)


@dataclass(frozen=True)
class Network:
    """How large a network is."""

    parameters: int
    kept: int  # bytes of a checkpoint that stays
    training: int  # bytes of the one that a training goes on from; it goes when the training ends


@dataclass(frozen=True)
class Outlook:
    """A run, counted."""

    images: Mapping[str, int]
    size: Size  # H, W
    works: tuple[Work, ...]
    networks: Mapping[str, Network]  # of each arm; "" = of the reference
    shared_by: Mapping[Unit, tuple[str, ...]]  # the arms that a cycle 0 is made for

    def of(self, kind: str, name: str = "") -> list[Work]:
        """The trials of a kind, or of an arm."""
        return [one for one in self.works if one.unit.kind == kind and name in ("", one.unit.arm)]

    @property
    def kept(self) -> int:
        """Bytes of all checkpoints that stay."""
        return sum(one.fits * self.networks[one.unit.arm].kept for one in self.works)

    @property
    def scores(self) -> int:
        """Bytes of all scores, at most."""
        return sum(scoring.bytes for one in self.works for scoring in one.scorings)


@dataclass(frozen=True)
class Speed:
    """How fast one process is."""

    step: float  # seconds of a training step of a trial
    image: float  # seconds of a forward pass of one image
    source: str  # where these numbers come from
    is_of_gpu: bool = True  # False: of a CPU


def counted(texts: Sequence[str], known: Mapping[str, int] | None) -> dict[str, int]:
    """Images of each split: of the manifest, or as typed: "13187" (the pool) or "val=3249". ConfigError for neither."""
    found = dict.fromkeys(SPLITS, 0)
    for text in texts:
        split, sign, number = text.rpartition("=")
        split = split if sign else "train"
        if split not in SPLITS or not number.isdecimal():
            raise ConfigError(f"--images {text}: expected a number (of the pool), or split=number with val or test")
        found[split] = int(number)
    if not texts and known is None:
        raise ConfigError(
            "data: not prepared, so that nobody knows how many images there are; type 'mtal prepare' first, or say it "
            "with --images 13187 --images val=3249"
        )
    if not texts:
        return {split: (known or {}).get(split, 0) for split in SPLITS}
    if not found["train"]:
        raise ConfigError("--images: the number of the pool's images is missing; expected --images 13187: add it")
    return found


def foreseen(experiment: Experiment, typed: Sequence[str]) -> tuple[Outlook, str]:
    """The plan of a checked experiment, and where its numbers of images come from; ConfigError where nobody knows."""
    manifest = None if typed else prepared(experiment)
    adapter = make("data", experiment.data, "data")
    known, labels, source, size, id_length = None, None, "as typed", adapter.size, 80
    if manifest is not None:
        rows = manifest.rows()[:1000]
        known, source = {split: len(manifest.rows(split)) for split in SPLITS}, f"as prepared in {manifest.base}"
        has = known_labels(manifest, "train", tuple(experiment.tasks)).sum(0)
        labels = dict(zip(experiment.tasks, has.tolist(), strict=True))
        id_length = max(map(len, manifest.ids(rows)), default=0)
        size = size or (manifest.record(0).size if len(rows) else None)
    elif not typed and hasattr(adapter, "counts"):
        known, source = adapter.counts(), "as the data set will have them"
    images = counted(typed, known)
    return outlook(experiment, images, size, classes_of(experiment.data), id_length, labels), source


def outlook(
    experiment: Experiment,
    images: Mapping[str, int],
    size: Size | None,
    classes: ClassMap,
    id_length: int,
    labels: Mapping[str, int] | None = None,
) -> Outlook:
    """The plan of a run over so many images of H, W (None: as stored)."""
    size, works, shared_by = size or STORED, list[Work](), dict[Unit, tuple[str, ...]]()
    arms = {name: arm(experiment, name) for name in experiment.arms}
    built: dict[str, nn.Module] = {}
    models = {name: _built(own, classes, built) for name, own in {"": experiment, **arms}.items()}
    strategies = {name: make("strategy", own.strategy, f"arms.{name}.strategy") for name, own in arms.items()}
    for seed in experiment.reference.seeds:
        works.append(_fits(Unit("reference", "", seed), experiment, images, [experiment.reference.steps]))
    for unit, sharing in _first_fits(experiment, arms):
        train = arms[unit.arm].train
        works.append(_fits(unit, arms[unit.arm], images, [train.first_steps or train.steps]))
        shared_by[unit] = sharing
    of_arms = [
        _arm(
            Unit("arm", name, 0), own, images, labels, _Scored(strategies[name], models[name], size, classes, id_length)
        )
        for name, own in arms.items()
    ]
    works += [replace(one, unit=replace(one.unit, seed=seed)) for seed in experiment.seeds for one in of_arms]
    networks = {name: _network(model) for name, model in models.items()}
    return Outlook(dict(images), size, tuple(works), networks, shared_by)


def _fits(unit: Unit, own: Experiment, images: Mapping[str, int], steps: Sequence[int]) -> Work:
    """The fits of a unit, and of a teacher before each of them, which looks at the whole pool at most."""
    teacher = None if unit.kind == "reference" else own.teacher
    taught = [] if teacher is None else [teacher.steps or count for count in steps]
    fits = [*steps, *taught]
    looks = sum(len(judged(own.train, count)) for count in fits)
    reported = images["test"] or images["val"]
    return Work(unit, sum(fits), len(fits), looks * images["val"], len(fits) * reported + len(taught) * images["train"])


def _first_fits(experiment: Experiment, arms: Mapping[str, Experiment]) -> Iterator[tuple[Unit, tuple[str, ...]]]:
    """One unit for each cycle 0 that differs, with the arms that share it."""
    groups: dict[str, list[str]] = {}
    for name, own in arms.items():
        groups.setdefault(fingerprint(initial_inputs(own, "", {})), []).append(name)
    for seed in experiment.seeds:
        for names in groups.values():
            yield Unit("initial", names[0], seed), tuple(names)


def _arm(
    unit: Unit, own: Experiment, images: Mapping[str, int], labels: Mapping[str, int] | None, scored: "_Scored"
) -> Work:
    """The cycles of an arm, the same under every seed; its cycle 0 is fitted by another unit."""
    active, total = own.active, images["train"]
    labeled = start = _start(own, total, labels)
    budget = images_of(active.budget.amount, total)
    scorings, bought = [], []
    for index in range(active.cycles):
        left = total - labeled
        if budget and left:
            seen = left if active.pool_subset is None else min(left, max(active.pool_subset, budget))
            scorings.append(scored.by(index, seen, labeled))
        bought.append(min(budget, left))
        labeled += bought[-1]
    fits = _fits(unit, own, images, [own.train.steps] * active.cycles)
    return replace(fits, scorings=tuple(scorings), labeled=start, bought=tuple(bought))


def _start(own: Experiment, total: int, labels: Mapping[str, int] | None) -> int:
    """Images of the pool that have a label of every task at the start, at most; ConfigError where nobody knows."""
    if labels is None and own.active.initial == LABELED:
        raise ConfigError(
            "active.initial: is 'labeled', and nobody knows how many are; type 'mtal prepare' first, or say it with "
            "--set active.initial=500"
        )
    start = start_of(own.active.initial, own.tasks, total)
    return min(count if labels is None else min(count, labels[task]) for task, count in start.items())


@dataclass
class _Scored:
    """What it takes to score images with a strategy; each of its turns is looked at once."""

    strategy: Strategy
    model: nn.Module
    size: Size
    classes: ClassMap
    id_length: int
    known: list[tuple[Strategy, tuple[float, float, int]]] = field(default_factory=list)

    def by(self, cycle: int, unlabeled: int, labeled: int) -> Scoring:
        turn = self.strategy.at(cycle)
        found = next((cost for one, cost in self.known if one == turn), None)
        if found is None:
            found = (*self._passes(turn), self._row_bytes(turn))
            self.known.append((turn, found))
        images = unlabeled + (labeled if turn.scores_labeled else 0)
        return Scoring(images, found[0], found[1], images * found[2])

    def _passes(self, turn: Strategy) -> tuple[float, float]:
        cost, pixels = cost_of(turn, self.size), self.size[0] * self.size[1]
        return cost.passes, cost.passes + sum(one.most * one.height * one.width for one in cost.crops) / pixels

    def _row_bytes(self, turn: Strategy) -> int:
        """Bytes of a row before compression: that of a sample image, scored with the untrained network."""
        side = 2 * max(32, getattr(self.model, "stride", None) or 32)
        plan, ids = ScorePlan({"strategy": turn}, 0, 0), ["0" * self.id_length]
        images = sample_images(1, side, side) if needs_images(plan) else None
        found = score_batch(self.model, images, {}, ids, [0], self.classes, plan)  # type: ignore[arg-type]
        return int(score_rows(found.scores, ids, [0]).nbytes) + 1  # and whether it is labeled


def _built(own: Experiment, classes: ClassMap, built: dict[str, nn.Module]) -> nn.Module:
    """The untrained network of an arm; arms of one network share it."""
    key = fingerprint([own.model.name, own.model.options, list(own.tasks)])
    if key not in built:
        built[key] = make("model", own.model, "model", classes, tuple(own.tasks)).eval()
    return built[key]


def _network(model: nn.Module) -> Network:
    kept = sum(value.nbytes for value in model.state_dict().values())
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    moments = 2 * sum(parameter.nbytes for parameter in weights)  # Adam keeps two numbers for each
    return Network(sum(parameter.numel() for parameter in weights), kept, kept + moments)


# ---- room and time ---------------------------------------------------------------------------------------------------


def seconds_of(work: Work, speed: Speed, workers: int) -> float:
    """How long a trial of so many workers takes, with as many boxes in each image as can be."""
    together = work.evaluated + work.most
    return work.steps * speed.step + (work.judged + together / workers) * speed.image


def makespan(works: Sequence[Work], speed: Speed, workers: int, trials: int) -> float:
    """Seconds from the first to the last trial, ``trials`` at a time in their order; arms begin when all is shared."""
    total = 0.0
    for shared in (True, False):
        ends = [0.0] * trials
        for work in works:
            if (work.unit.kind != "arm") == shared:
                heapq.heapreplace(ends, ends[0] + seconds_of(work, speed, workers))
        total += max(ends)
    return total
