"""Rank combination against the reference; scales, shards and row order do not matter; members stay themselves."""

import typing
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.alternation import Alternation
from strategies.base import Budget, Score, Seen, Strategy
from strategies.boxmask import BoxMask
from strategies.candidates import ShardCandidates
from strategies.conformance import assert_conforms
from strategies.entropy import Entropy
from strategies.equal import Equal
from strategies.ll4al import LL4AL
from strategies.ranks import RankCombination, rank_combination, rank_sums
from strategies.sample_pool import sample_seen
from strategies.uniform import Random
from strategies.views import HFlip
from tasks.seeding import Rngs, rng_of

TASKS = ("detection", "segmentation")
PAIR = RankCombination((LL4AL("det"), LL4AL("seg")))


@dataclass(frozen=True)
class Drawn(Strategy):
    def score(self, seen: Seen, rng: np.random.Generator) -> Score:
        return Score(float(rng.random()))


@dataclass(frozen=True)
class Flipped(Strategy):
    """Looks at the detections of the mirrored image."""

    @property
    def views(self) -> tuple[HFlip, ...]:
        return (HFlip(reads=("detection",)),)

    def score(self, seen: Seen, rng: np.random.Generator) -> Score:
        return Score(float(len(seen.views[HFlip()][0][0].detections.scores)))


@dataclass(frozen=True)
class Diverse(Strategy):
    @property
    def scores_labeled(self) -> bool:
        return True


def pool(values: np.ndarray, keys: np.ndarray, labeled: np.ndarray, budget: int) -> ShardCandidates:
    columns = {"id": [str(key) for key in keys], "key": keys.astype(np.uint64), "labeled": labeled.astype(bool)}
    columns |= {"value": values.sum(1)} | {f"parts.{name}": values[:, i] for i, name in enumerate(PAIR.names)}
    return ShardCandidates((pa.table(columns),), Budget(budget), TASKS)


def picked(candidates: ShardCandidates) -> list[str]:
    return [pick.id for pick in PAIR.select(candidates, rng_of(0))]


def test_picks_match_the_reference(shared: Path) -> None:
    with np.load(shared / "golden" / "selection_rules.npz") as golden:
        keys, k = golden["ids"].astype(np.uint64), int(golden["k"])
        values = np.stack([-golden["det_scores_low_first"], golden["seg_scores_high_first"]], 1).astype(np.float64)
        expected = golden["rank_combination_selected"]
    assert keys[rank_combination(values, keys, k)].tolist() == expected.tolist()
    candidates = pool(values, keys, np.zeros(len(keys)), k)
    assert picked(candidates) == [str(id) for id in expected]
    order = rng_of("shards").permutation(len(keys))  # as other shards would deliver the rows
    assert picked(replace(candidates, shards=(candidates.table().take(pa.array(order)),))) == [
        str(id) for id in expected
    ]


@pytest.mark.slow
@settings(derandomize=True, max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 25), members=st.integers(1, 4))
def test_rank_sums_match_counting(seed: int, count: int, members: int) -> None:
    rng = np.random.default_rng(seed)
    values, keys = rng.integers(0, 4, (count, members)).astype(float), rng.permutation(count).astype(np.uint64)
    values[rng.random((count, members)) < 0.1] = -np.inf
    expected = [
        sum(
            sum(values[other, m] > values[row, m] or (values[other, m] == values[row, m] and keys[other] < keys[row])
                for other in range(count))
            for m in range(members)
        )
        for row in range(count)
    ]  # fmt: skip
    assert rank_sums(values, keys).tolist() == expected
    assert rank_sums(values, keys).sum() == members * count * (count - 1) // 2


@settings(derandomize=True, max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_growing_function_of_a_members_values_matters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, keys = rng.normal(size=(30, 2)), rng.permutation(30).astype(np.uint64)
    bent = np.stack([np.exp(3 * values[:, 0]), values[:, 1] ** 3 - 1e4], 1)
    assert rank_combination(bent, keys, 9).tolist() == rank_combination(values, keys, 9).tolist()
    twice = np.repeat(values[:, :1], 2, axis=1)
    assert rank_combination(twice, keys, 9).tolist() == np.lexsort((keys, -values[:, 0]))[:9].tolist()


def test_ranks_are_those_of_unlabeled_images() -> None:
    values = np.array([[3.0, 0.0], [2.0, 2.0], [1.0, 3.0], [2.5, 2.4], [0.0, 1.0]])
    keys, labeled = np.arange(5), np.array([0, 0, 0, 1, 0])
    assert picked(pool(values, keys, labeled, 9)) == ["1", "2", "0", "4"]
    wild = np.where(labeled[:, None].astype(bool), values * 1e9, values)
    assert picked(pool(wild, keys, labeled, 9)) == ["1", "2", "0", "4"]
    assert picked(pool(values, keys, labeled, 0)) == []
    assert picked(pool(values, keys, np.ones(5), 3)) == []


def test_bad_values_are_refused() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or"):
            rank_sums(np.array([[1.0, bad], [1.0, 2.0]]), np.arange(2, dtype=np.uint64))


def test_parts_are_the_members_own_values() -> None:
    strategy = RankCombination((Entropy("seg"), Equal(), Random()))
    seen = sample_seen(strategy)
    scores = strategy.score_batch(seen, Rngs((), [one.key for one in seen]))
    assert strategy.names == ("entropy_1", "equal_2", "random_3")
    for name, member in zip(strategy.names, strategy.members, strict=True):
        alone = member.score_batch(seen, Rngs((), [one.key for one in seen]))
        assert [score.parts[name] for score in scores] == [one.value for one in alone]
    assert [score.value for score in scores] == [sum(score.parts.values()) for score in scores]
    assert set(strategy.explain(seen[0])) == {
        "entropy_1: entropy",
        "equal_2: divergence when mirrored (sym)",
    }


def test_members_that_draw_do_not_draw_the_same() -> None:
    strategy = RankCombination((Drawn(), Drawn()))
    seen = sample_seen(strategy)
    rngs = Rngs(("draw",), [one.key for one in seen])
    scores = strategy.score_batch(seen, rngs)
    assert all(score.parts["drawn_1"] != score.parts["drawn_2"] for score in scores)
    assert len({value for score in scores for value in score.parts.values()}) == 14
    assert scores[2:4] == strategy.score_batch(seen[2:4], rngs[2:4])


def test_a_shared_view_answers_with_the_heads_of_all() -> None:
    strategy = RankCombination((Equal(), Flipped(), BoxMask(crop_size=32)))
    assert strategy.reads == ("segmentation", "detection")
    flip, crops = strategy.views
    assert (flip, set(flip.reads)) == (HFlip(), {"segmentation", "detection"})
    assert crops == BoxMask(crop_size=32).crops
    seen = sample_seen(strategy)
    scores = strategy.score_batch(seen, Rngs((), [one.key for one in seen]))
    alone = Equal().score_batch(sample_seen(Equal()), [])
    assert [score.parts["equal_1"] for score in scores] == [score.value for score in alone]


def test_alternating_members_are_settled_by_the_cycle() -> None:
    strategy = RankCombination((Alternation((LL4AL("det"), Equal())), Random()))
    assert strategy.at(0) == RankCombination((LL4AL("det"), Random()))
    assert strategy.at(1) == RankCombination((Equal(), Random()))
    assert strategy.at(1).at(1) == strategy.at(1)
    assert Alternation((PAIR, Random())).at(0) == PAIR


def test_members_are_declared_as_strategies() -> None:
    """What builds components from a YAML goes by this mark."""
    assert {f.name: f.metadata.get("component") for f in fields(RankCombination)}["members"] == "strategy"
    assert typing.get_type_hints(RankCombination)["members"] == tuple[Strategy, ...]


@pytest.mark.parametrize(
    ("members", "what"),
    [((), "at least two"), ([Random(), Equal()], "a tuple"), ((Random(), "equal"), "a tuple"),
     ((Random(), Diverse()), "compares images with each other")],
)  # fmt: skip
def test_bad_members_are_refused(members: tuple[Strategy, ...], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        RankCombination(members)


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    [PAIR, RankCombination((Drawn(), Equal(), Flipped())), RankCombination((Entropy(), BoxMask(crop_size=32)))],
)
def test_conforms(strategy: RankCombination) -> None:
    with torch.inference_mode():
        assert_conforms(strategy)
