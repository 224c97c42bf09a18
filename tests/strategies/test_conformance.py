"""The suite passes what is sound, and each kind of fault fails exactly its check."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from strategies.base import Candidates, Pick, Score, Seen, Strategy, View
from strategies.boxmask import BoxMask
from strategies.conformance import CHECKS, CheckResult, assert_conforms, check_strategy
from strategies.equal import Equal
from strategies.guard import UndeclaredRead, guarded
from strategies.sample_pool import sample_seen
from strategies.uniform import Random
from strategies.views import BoxCrops, HFlip

Rng = np.random.Generator


@dataclass(frozen=True)
class Sound(Strategy):
    """Reads everything there is, draws, keeps a summary, asks for views and picks for itself."""

    @property
    def reads(self) -> tuple[str, ...]:
        return ("detection", "segmentation", "features", "predicted_loss", "detection.dense")

    @property
    def views(self) -> tuple[View, ...]:
        return (HFlip(), BoxCrops(32))

    @property
    def scores_labeled(self) -> bool:
        return True

    def score(self, seen: Seen, rng: Rng) -> Score:
        plain = seen.plain
        assert plain.features is not None
        assert plain.dense is not None
        crops = sum(float(p.log_probs.mean()) for p, _ in seen.views[BoxCrops(32)])
        value = float(plain.predicted_loss["detection"]) + float(plain.dense.max()) + crops + rng.random()
        return Score(value, {"boxes": len(plain.detections.scores)}, plain.features.numpy())

    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        return [Pick(id, ("segmentation",)) for id in candidates.k_center()]


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
        if len(labeled) in (0, table.num_rows):
            return []
        return [Pick(id, candidates.tasks) for id in labeled[: int(candidates.budget.amount)]]


@dataclass(frozen=True)
class InventsPicks(Sane):
    def select(self, candidates: Candidates, rng: Rng) -> Sequence[Pick]:
        return [Pick("sample/0/0", candidates.tasks)][: int(candidates.budget.amount)]


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


BROKEN: list[tuple[Strategy, set[str]]] = [
    (NotFrozen(), {"is a frozen dataclass"}),
    (Unpicklable(), {"is equal after pickling", "holds no state"}),
    (ReadsTheUnknown(), {"declares heads and views"}),
    (Remembers(), {"holds no state"}),
    (NanWhereEmpty(), {"answers where nothing is detected"}),
    (AlwaysNan(), {"answers a finite score an image"}),
    (NeedsTwoClasses(), {"answers with a single class"}),
    (FailsOnNothing(), {"answers an empty batch"}),
    (CountsCalls(), {"gives the same scores again"}),
    (DrawsGlobally(), {"touches no global generator"}),
    (LooksAtMates(), {"ignores the batch size"}),
    (LooksAtPlace(), {"ignores the order"}),
    (PeeksQuietly(), {"ignores what others asked for"}),
    (PeeksOpenly(), {"reads only what it declares"}),
    (PeeksAtAnotherView(), {"reads only what it declares"}),
    (WritesOnItsInput(), {"leaves predictions as they are"}),
    (ExplainsInWords(), {"explains with maps"}),
    (Overspends(), {"picks within the budget"}),
    (PicksTwice(), {"picks within the budget"}),
    (PicksTheLabeled(), {"picks within the budget"}),
    (InventsPicks(), {"picks nothing from an empty pool"}),
    (PicksByMood(), {"picks the same again"}),
    (PicksFirstRows(), {"picks the same in any row order"}),
]
# a fault that spoils every score also fails the checks that compare scores or take the best of them
FOLLOWS = {
    "AlwaysNan": {name for name in CHECKS if name.startswith(("answers", "picks")) or name == "holds no state"}
    | {"touches no global generator"},
    "CountsCalls": {
        "touches no global generator",
        "ignores the batch size",
        "ignores the order",
        "ignores what others asked for",
    },
    "LooksAtPlace": {"ignores the batch size"},
    "PicksByMood": {"picks the same in any row order"},
}


@pytest.mark.parametrize("strategy", [Random(), Equal(), BoxMask(crop_size=32), Sound()])
def test_sound_strategies_pass_every_check(strategy: Strategy) -> None:
    assert [result for result in check_strategy(strategy) if not result.ok] == []


@pytest.mark.parametrize(("strategy", "fails"), BROKEN, ids=[type(s).__name__ for s, _ in BROKEN])
def test_each_fault_fails_its_check(strategy: Strategy, fails: set[str]) -> None:
    name = type(strategy).__name__
    failed = {result.name for result in check_strategy(strategy) if not result.ok}
    assert fails <= failed <= fails | FOLLOWS.get(name, set())


def test_every_check_is_failed_by_some_broken_strategy() -> None:
    assert {name for _, fails in BROKEN for name in fails} == set(CHECKS)


def test_failures_are_listed_with_reasons() -> None:
    with pytest.raises(AssertionError, match="answers where nothing is detected: value is nan"):
        assert_conforms(NanWhereEmpty())
    results = check_strategy(NeedsTwoClasses())
    assert [r.name for r in results] == list(CHECKS)
    bad = CheckResult("answers with a single class", False, "IndexError: tuple index out of range")
    assert bad in results


def test_a_guarded_view_answers_only_its_declared_heads() -> None:
    (seen,) = sample_seen(Sound(), 1, all_heads=True)
    equal = guarded(seen, Equal())
    assert equal.views[HFlip()][0][0].log_probs.shape == seen.plain.log_probs.shape
    for look in (
        lambda: equal.views[HFlip()][0][0].detections,
        lambda: equal.views[BoxCrops(32)],
        lambda: equal.plain.features,
        lambda: equal.plain.predicted_loss,
        lambda: equal.plain.dense,
        lambda: "detection" in equal.plain.outputs,
        lambda: list(equal.plain.outputs),
    ):
        with pytest.raises(UndeclaredRead):
            look()
    assert replace(equal, u=0.5).u == 0.5
