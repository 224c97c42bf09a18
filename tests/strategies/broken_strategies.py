"""Strategies that break one law each: the conformance suite has to find every one of them out."""

import gc
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.special import entr

from strategies.base import Candidates, Direction, Pick, Rendered, Score, Seen, Strategy, View
from strategies.equal import Equal
from strategies.uniform import Random
from strategies.views import BoxCrops, HFlip
from tasks.types import Prediction, Sample

Rng = np.random.Generator
LABELS = Path(__file__).parents[2] / "pyproject.toml"  # any file that is no code


def nearness(rows: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is taken for a distance by mistake, ``[n, m]``: 1 where it is 0, and less the larger it is."""
    return 1 / (1 + np.square(rows[:, None] - centres[None]).sum(-1))


@dataclass(frozen=True)
class Dimmed:
    """A view that darkens the image itself."""

    reads: tuple[str, ...] = ("detection",)

    @property
    def after(self) -> bool:
        return False

    def render(
        self,
        images: Tensor,
        inputs: Mapping[str, Tensor],
        plain: Sequence[Prediction] | None,
        rngs: Sequence[Rng],
        fill: Tensor,
    ) -> Rendered:
        return HFlip().render(images.mul_(0.5), inputs, plain, rngs, fill)


class NotFrozen(Strategy):
    def score(self, seen: Seen, rng: Rng) -> Score:
        return Score(seen.u)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NotFrozen)

    def __hash__(self) -> int:
        return 1


@dataclass(frozen=True)
class Sane(Strategy):
    """What the broken ones have in common: they read detections and score u."""

    @property
    def reads(self) -> tuple[str, ...]:
        return ("detection",)

    def score(self, seen: Seen, rng: Rng) -> Score:
        return Score(seen.u)


@dataclass(frozen=True)
class Unpicklable(Sane):
    identity: object = field(default_factory=object)


@dataclass(frozen=True)
class ReadsTheUnknown(Random):
    @property
    def scores_labeled(self) -> bool:
        return 1  # type: ignore[return-value]


@dataclass(frozen=True)
class Remembers(Sane):
    memory: list[int] = field(default_factory=list, hash=False)

    def score(self, seen: Seen, rng: Rng) -> Score:
        self.memory.append(1)
        return Score(seen.u)


@dataclass(frozen=True)
class RemembersUnseen(Sane):
    memory: list[int] = field(default_factory=list, compare=False, repr=False)

    def score(self, seen: Seen, rng: Rng) -> Score:
        self.memory.append(1)
        return Score(seen.u)


@dataclass(frozen=True)
class UnknownPreference(Sane):
    @property
    def prefers(self) -> Direction:
        return "best"  # type: ignore[return-value]


@dataclass(frozen=True)
class NanWhereEmpty(Sane):
    def score(self, seen: Seen, rng: Rng) -> Score:
        return Score(float(seen.plain.detections.scores.sum()) / (len(seen.plain.detections.scores) or float("nan")))


@dataclass(frozen=True)
class AlwaysNan(Sane):
    def score(self, seen: Seen, rng: Rng) -> Score:
        return Score(float("inf"))


@dataclass(frozen=True)
class NeedsTwoClasses(Sane):
    def score(self, seen: Seen, rng: Rng) -> Score:
        return Score(seen.u * len(seen.classes.detection[1]))


@dataclass(frozen=True)
class FailsOnNothing(Sane):
    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[Rng]) -> list[Score]:
        best = max(one.u for one in seen)
        return [Score(one.u + best * 0) for one in seen]


COUNTER = [0]


@dataclass(frozen=True)
class CountsCalls(Sane):
    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[Rng]) -> list[Score]:
        COUNTER[0] += 1
        return [Score(one.u + COUNTER[0]) for one in seen]


@dataclass(frozen=True)
class DrawsGlobally(Sane):
    def score(self, seen: Seen, rng: Rng) -> Score:
        random.random()
        return Score(seen.u)


@dataclass(frozen=True)
class LooksAtMates(Sane):
    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[Rng]) -> list[Score]:
        return [Score(one.u / len(seen)) for one in seen]


@dataclass(frozen=True)
class LooksAtPlace(Sane):
    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[Rng]) -> list[Score]:
        first = seen[0].id if seen else ""
        return [Score(one.u + (len(seen) == 7 and one.id == first)) for one in seen]


@dataclass(frozen=True)
class PeeksQuietly(Sane):
    def score(self, seen: Seen, rng: Rng) -> Score:
        return Score(seen.u + (seen.plain.__dict__["features"] is not None))


@dataclass(frozen=True)
class PeeksOpenly(Sane):
    def score(self, seen: Seen, rng: Rng) -> Score:
        seen.plain.outputs.get("segmentation")
        return Score(seen.u)


@dataclass(frozen=True)
class PeeksAtAnotherView(Equal):
    def score(self, seen: Seen, rng: Rng) -> Score:
        return Score(seen.u + float(BoxCrops() in seen.views))

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[Rng]) -> list[Score]:
        return [self.score(one, rngs[i]) for i, one in enumerate(seen)]


@dataclass(frozen=True)
class WritesOnItsInput(Sane):
    def score(self, seen: Seen, rng: Rng) -> Score:
        seen.plain.detections.labels.mul_(0)
        return Score(seen.u)


@dataclass(frozen=True)
class WritesOnPixels(Sane):
    @property
    def views(self) -> tuple[View, ...]:
        return (Dimmed(),)


@dataclass(frozen=True)
class OpensFiles(Sane):
    """Looks for the labels beside the images."""

    def score(self, seen: Seen, rng: Rng) -> Score:
        return Score(seen.u + (seen.id in LABELS.read_text()))


@dataclass(frozen=True)
class SearchesMemory(Sane):
    """Labels may lie in memory."""

    def score(self, seen: Seen, rng: Rng) -> Score:
        return Score(seen.u + any(type(one) is Sample for one in gc.get_objects(generation=0)))


@dataclass(frozen=True)
class BelievesNames(Sane):
    """Folders are often called what their images show."""

    def score(self, seen: Seen, rng: Rng) -> Score:
        return Score(seen.u + ("person" in seen.id))


@dataclass(frozen=True)
class PicksByName(Sane):
    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        every = sorted(candidates.top_k(len(candidates.table())))
        return [Pick(id, candidates.tasks) for id in every[: int(candidates.budget.amount)]]


@dataclass(frozen=True)
class ExplainsInWords(Sane):
    def explain(self, seen: Seen) -> dict[str, torch.Tensor]:
        return {"why": torch.zeros(3)}


@dataclass(frozen=True)
class Overspends(Sane):
    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        best = candidates.top_k(int(candidates.budget.amount) + 1)
        return [Pick(id, candidates.tasks) for id in best]


@dataclass(frozen=True)
class PicksTwice(Sane):
    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        best = candidates.top_k()
        return [Pick(id, candidates.tasks) for id in [*best[: len(best) // 2], *best[: len(best) // 2]] or best]


@dataclass(frozen=True)
class PicksTheLabeled(Sane):
    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        table = candidates.table().sort_by([("labeled", "descending"), ("key", "ascending")])
        labeled = [id for id, known in zip(table["id"].to_pylist(), table["labeled"].to_pylist(), strict=True) if known]
        if len(labeled) == table.num_rows:
            return []
        return [Pick(id, candidates.tasks) for id in (labeled or candidates.top_k())[: int(candidates.budget.amount)]]


@dataclass(frozen=True)
class InventsPicks(Sane):
    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        return [Pick("nowhere", candidates.tasks) for _ in candidates.top_k()[:1]]


@dataclass(frozen=True)
class PicksByMood(Sane):
    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        COUNTER[0] += 1
        best = candidates.top_k(len(candidates.table()))
        low = max(0, COUNTER[0] % 3)
        return [Pick(id, candidates.tasks) for id in (best[low:] or best)[: int(candidates.budget.amount)]]


@dataclass(frozen=True)
class PicksFirstRows(Sane):
    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        table = candidates.table()
        free = [
            id for id, known in zip(table["id"].to_pylist(), table["labeled"].to_pylist(), strict=True) if not known
        ]
        return [Pick(id, candidates.tasks) for id in free[: int(candidates.budget.amount)]]


@dataclass(frozen=True)
class BuysOtherTasks(Sane):
    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        return [Pick(id, ("depth",)) for id in candidates.top_k()]


@dataclass(frozen=True)
class FailsBeyondThePool(Sane):
    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        best = candidates.top_k(len(candidates.table()))
        amount = int(candidates.budget.amount)
        if best:
            np.argpartition(np.arange(len(best)), amount)  # refuses an amount that is not below the number of images
        return [Pick(id, candidates.tasks) for id in best[:amount]]


@dataclass(frozen=True)
class PicksFromNothing(Sane):
    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        every = candidates.table()["id"].to_pylist()
        return [Pick(id, candidates.tasks) for id in candidates.top_k() or every[: int(candidates.budget.amount)]]


@dataclass(frozen=True)
class NeedsLabels(Sane):
    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        best = candidates.top_k()
        share = len(best) and 1 / candidates.labeled_images
        return [Pick(id, candidates.tasks) for id in best if share <= 1]


@dataclass(frozen=True)
class NeedsDetections(Sane):
    def score(self, seen: Seen, rng: Rng) -> Score:
        return Score(seen.u, {"boxes": float(len(seen.plain.detections.scores))})

    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        best = candidates.top_k()
        boxes = sum(candidates.rows(best)["parts.boxes"].to_pylist())
        share = len(best) and 1 / boxes
        return [Pick(id, candidates.tasks) for id in best if share <= 1]


@dataclass(frozen=True)
class WritesOnCounts(Sane):
    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        counts = candidates.label_counts
        counts += 1
        return [Pick(id, candidates.tasks) for id in candidates.top_k()]


@dataclass(frozen=True)
class TurnedDoubt(Sane):
    """The surest images first."""

    @property
    def prefers(self) -> Direction:
        return "unsure"

    def score(self, seen: Seen, rng: Rng) -> Score:
        return Score(-float(entr(seen.plain.detections.probs).sum()))


@dataclass(frozen=True)
class TurnedChoice(Sane):
    """Right scores; the last of them are picked."""

    @property
    def prefers(self) -> Direction:
        return "unsure"

    def score(self, seen: Seen, rng: Rng) -> Score:
        return Score(float(entr(seen.plain.detections.probs).sum()))

    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        worst = candidates.top_k(len(candidates.table()))[::-1]
        return [Pick(id, candidates.tasks) for id in worst[: int(candidates.budget.amount)]]


@dataclass(frozen=True)
class TurnedCount(Sane):
    """The emptiest images first."""

    @property
    def prefers(self) -> Direction:
        return "crowded"

    def score(self, seen: Seen, rng: Rng) -> Score:
        return Score(-float(len(seen.plain.detections.scores)))


@dataclass(frozen=True)
class TurnedDistance(Sane):
    """The images nearest to the labeled ones first."""

    @property
    def reads(self) -> tuple[str, ...]:
        return ("features",)

    @property
    def prefers(self) -> Direction:
        return "novel"

    @property
    def scores_labeled(self) -> bool:
        return True

    def score(self, seen: Seen, rng: Rng) -> Score:
        assert seen.plain.features is not None
        return Score(seen.u, summary=seen.plain.features.numpy())

    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        if not candidates.top_k(1):
            return []
        return [Pick(id, candidates.tasks) for id in candidates.k_center(distance=nearness)]


# check: those who fail it. A fault may spoil more than one law: see ALSO.
BROKEN: dict[str, list[Strategy]] = {
    "is a frozen dataclass": [NotFrozen()],
    "is equal after pickling": [Unpicklable()],
    "declares heads and views": [ReadsTheUnknown(), UnknownPreference()],
    "holds no state": [Remembers(), RemembersUnseen()],
    "answers a finite score an image": [AlwaysNan()],
    "answers where nothing is detected": [NanWhereEmpty()],
    "answers with a single class": [NeedsTwoClasses()],
    "answers an empty batch": [FailsOnNothing()],
    "gives the same scores again": [CountsCalls()],
    "touches no global generator": [DrawsGlobally()],
    "ignores the batch size": [LooksAtMates()],
    "ignores the order": [LooksAtPlace()],
    "ignores what others asked for": [PeeksQuietly()],
    "reads only what it declares": [PeeksOpenly(), PeeksAtAnotherView()],
    "peeks at no hidden label": [OpensFiles(), SearchesMemory(), BelievesNames(), PicksByName()],
    "leaves predictions as they are": [WritesOnItsInput(), WritesOnPixels()],
    "explains with maps": [ExplainsInWords()],
    "prefers what it says": [TurnedDoubt(), TurnedChoice(), TurnedCount(), TurnedDistance()],
    "picks within the budget": [Overspends()],
    "picks from a pool below the budget": [FailsBeyondThePool()],
    "picks an image once": [PicksTwice()],
    "picks only of the unlabeled pool": [PicksTheLabeled(), InventsPicks(), BuysOtherTasks()],
    "picks nothing from an empty pool": [PicksFromNothing()],
    "picks where nothing is labeled": [NeedsLabels()],
    "picks where nothing is detected": [NeedsDetections()],
    "picks the same again": [PicksByMood()],
    "picks the same from any shards": [PicksFirstRows()],
    "leaves candidates as they are": [WritesOnCounts()],
}
