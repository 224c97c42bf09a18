"""What holds of every built-in strategy, whatever it computes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from strategies import STRATEGIES
from strategies.alternation import Alternation
from strategies.base import Candidates, Direction, Pick, Score, Seen, Strategy, View
from strategies.boxmask import BoxMask
from strategies.cald import Cald
from strategies.cdal import CDAL
from strategies.conformance import CHECKS
from strategies.coreset import CoreSet
from strategies.cost_random import CostRandom
from strategies.entropy import Entropy
from strategies.equal import Equal
from strategies.ll4al import LL4AL
from strategies.margin import Margin
from strategies.partmask import PartMask
from strategies.ranks import RankCombination
from strategies.sample_pool import sample_seen
from strategies.uniform import Random
from tasks.seeding import Rngs
from tests.strategies.broken_strategies import nearness

# each built-in strategy, with options that take another way through its code, and what it prefers
BUILT_IN: dict[str, list[tuple[Strategy, Direction | None]]] = {
    "random": [(Random(), None)],
    "equal": [(Equal("entropy"), "unsure"), *((Equal(kl=kl), "unsure") for kl in ("sym", "fwd", "js"))],
    "cald": [(Cald(), "unsure"), (Cald(empty="last", balance="uniform"), "unsure"), (Cald(beta=2.0), None)],
    "ll4al": [(LL4AL(), "unsure"), (LL4AL("det"), "unsure"), (LL4AL("seg"), "unsure"), (LL4AL(sum="zscore"), "unsure")],
    "cdal": [(CDAL(), "novel"), (CDAL(tasks="seg"), "novel"), (CDAL(tasks="det", det="dense"), "novel")],
    "coreset": [(CoreSet(), "novel"), (CoreSet(metric="cosine"), "novel")],
    "boxmask": [(BoxMask(crop_size=32, terms=terms), "unsure") for terms in (
        ("loc",), ("cls",), ("seg",), ("loc", "cls"), ("loc", "seg"), ("cls", "seg"), ("loc", "cls", "seg"))],
    "partmask": [(PartMask(), "unsure"), (PartMask(terms=("box",), over="mean"), "unsure")],
    "alternation": [(Alternation((Equal(), Random())), "unsure"), (Alternation((CostRandom(), Equal())), "crowded")],
    "ranks": [(RankCombination((Entropy(), Equal())), "unsure"), (RankCombination((Entropy(), CostRandom())), None)],
    "entropy": [(Entropy(), "unsure"), (Entropy("seg"), "unsure"), (Entropy(over="sum", min_score=0.95), "unsure")],
    "margin": [(Margin(), "unsure"), (Margin("seg"), "unsure"), (Margin(over="max", min_score=0.95), "unsure")],
    "cost_random": [(CostRandom(), "crowded"), (CostRandom(base=2.0), "crowded")],
}  # fmt: skip
EVERY = [strategy for rows in BUILT_IN.values() for strategy, _ in rows]
DIRECTED = [strategy for rows in BUILT_IN.values() for strategy, said in rows if said is not None]


def test_every_built_in_strategy_is_here() -> None:
    assert list(BUILT_IN) == list(STRATEGIES)
    for name, rows in BUILT_IN.items():
        module, _, kind = STRATEGIES[name].partition(":")
        assert {type(strategy) for strategy, _ in rows} == {getattr(import_module(module), kind)}


def numbers(score: Score) -> tuple[object, ...]:
    return score.value, dict(score.parts), None if score.summary is None else score.summary.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", EVERY, ids=repr)
def test_permuting_images_permutes_scores(strategy: Strategy) -> None:
    """Any images in any order, some of them more than once: to the last bit."""
    seen = sample_seen(strategy, 10)

    def scored(rows: Sequence[int]) -> list[tuple[object, ...]]:
        some = [seen[row] for row in rows]
        with torch.inference_mode():
            return [numbers(one) for one in strategy.score_batch(some, Rngs(("x",), [one.key for one in some]))]

    expected = scored(range(10))
    assert len({value for value, *_ in expected}) > 1

    @settings(derandomize=True, max_examples=5, deadline=None, database=None)
    @given(rows=st.permutations(range(10)) | st.lists(st.integers(0, 9), min_size=1, max_size=14))
    def permuted(rows: list[int]) -> None:
        assert scored(rows) == [expected[row] for row in rows]

    permuted()


@pytest.mark.parametrize(("strategy", "said"), [row for rows in BUILT_IN.values() for row in rows], ids=repr)
def test_it_says_what_it_prefers_and_does(strategy: Strategy, said: Direction | None) -> None:
    assert strategy.prefers == said
    result = CHECKS["prefers what it says"].result(strategy)
    assert result.ok, result.why
    assert bool(result.why) == (said is None)  # then nothing was tried


@dataclass(frozen=True)
class Nearest:
    """Candidates of which the nearest come first."""

    of: Candidates

    def __getattr__(self, name: str) -> Any:
        return getattr(self.of, name)

    def k_center(self, k: int | None = None, distance: Callable[..., NDArray[np.float64]] | None = None) -> list[str]:
        far = distance
        return self.of.k_center(k, nearness if far is None else lambda rows, centres: 1 / (1 + far(rows, centres)))


@dataclass(frozen=True)
class Turned(Strategy):
    """Another strategy whose sign is wrong: of its scores, or, where it compares images, of its choice."""

    of: Strategy

    @property
    def reads(self) -> tuple[str, ...]:
        return self.of.reads

    @property
    def views(self) -> tuple[View, ...]:
        return self.of.views

    @property
    def prefers(self) -> Direction | None:
        return self.of.prefers

    def score_batch(self, seen: Sequence[Seen], rngs: Sequence[np.random.Generator]) -> list[Score]:
        scores = self.of.score_batch(seen, rngs)
        if self.prefers == "novel":
            return scores
        return [Score(-s.value, {part: -x for part, x in s.parts.items()}, s.summary) for s in scores]

    def select(self, candidates: Candidates, rng: np.random.Generator) -> Sequence[Pick]:
        if self.prefers != "novel":
            return self.of.select(candidates, rng)
        return self.of.select(Nearest(candidates), rng)


@pytest.mark.parametrize("strategy", DIRECTED, ids=repr)
def test_a_turned_sign_is_found_out(strategy: Strategy) -> None:
    result = CHECKS["prefers what it says"].result(Turned(strategy))
    assert not result.ok
    assert "turn its sign" in result.why
