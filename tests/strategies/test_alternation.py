"""Alternation: whose turn it is, and that only the active member is asked."""

import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.alternation import Alternation
from strategies.base import Candidates, Pick, Score, Seen, Strategy
from strategies.conformance import assert_conforms
from strategies.equal import Equal
from strategies.ll4al import LL4AL
from strategies.sample_pool import sample_seen
from strategies.uniform import Random
from tasks.seeding import Rngs, rng_of

DET, SEG = LL4AL("det"), LL4AL("seg")


@dataclass(frozen=True)
class OwnChoice(Strategy):
    """A member with a select of its own, as CALD's second stage is."""

    def score(self, seen: Seen, rng: np.random.Generator) -> Score:
        return Score(0.0)

    def select(self, candidates: Candidates, rng: np.random.Generator) -> Sequence[Pick]:
        return [Pick("mine", ("detection",))]


def test_turns_match_the_reference(shared: Path) -> None:
    with np.load(shared / "golden" / "selection_rules.npz") as golden:
        expected = golden["alternation_tasks_6_cycles"].tolist()
    strategy = Alternation((DET, SEG))
    assert [{DET: "det", SEG: "seg"}[strategy.at(cycle)] for cycle in range(6)] == expected


@settings(derandomize=True, max_examples=30, deadline=None)
@given(periods=st.lists(st.integers(1, 4), min_size=2, max_size=4), cycle=st.integers(0, 200))
def test_turns_match_a_calendar(periods: list[int], cycle: int) -> None:
    members = tuple(BoxCount(i) for i in range(len(periods)))
    calendar: list[Strategy] = []
    while len(calendar) <= cycle:
        calendar += [member for member, period in zip(members, periods, strict=True) for _ in range(period)]
    strategy = Alternation(members, tuple(periods))
    assert strategy.at(cycle) == calendar[cycle]
    assert strategy.at(cycle).at(cycle) == calendar[cycle]  # asking again changes nothing


@dataclass(frozen=True)
class BoxCount(Strategy):
    """Members that differ."""

    number: int

    def score(self, seen: Seen, rng: np.random.Generator) -> Score:
        return Score(float(self.number))


def test_a_period_lasts_as_long_as_it_says() -> None:
    two = Alternation((DET, SEG), period=2)
    assert [two.at(cycle) for cycle in range(5)] == [DET, DET, SEG, SEG, DET]
    uneven = Alternation((DET, SEG, Equal()), period=(1, 2, 1))
    assert [uneven.at(cycle) for cycle in range(5)] == [DET, SEG, SEG, Equal(), DET]


def test_an_alternation_inside_counts_its_own_turns() -> None:
    inner = Alternation((DET, SEG))
    outer = Alternation((inner, Random()))
    assert [outer.at(cycle) for cycle in range(6)] == [DET, Random(), SEG, Random(), DET, Random()]
    slow = Alternation((inner, Random()), period=(2, 1))
    assert [slow.at(cycle) for cycle in range(6)] == [DET, SEG, Random()] * 2


def test_only_the_active_member_is_forwarded() -> None:
    strategy = Alternation((Equal(), DET))
    assert [strategy.at(cycle).reads for cycle in range(2)] == [("segmentation",), ("predicted_loss",)]
    assert [len(strategy.at(cycle).views) for cycle in range(2)] == [1, 0]
    assert (strategy.reads, strategy.views) == (Equal().reads, Equal().views)  # without a cycle, that of cycle 0


def test_the_member_scores_chooses_and_explains_as_it_does_alone() -> None:
    strategy = Alternation((Equal(), OwnChoice()))
    seen = sample_seen(strategy)
    rngs = Rngs((), [one.key for one in seen])
    assert strategy.score_batch(seen, rngs) == Equal().score_batch(seen, rngs)
    assert strategy.explain(seen[0]).keys() == Equal().explain(seen[0]).keys()
    candidates = typing.cast(Candidates, None)
    assert Alternation((OwnChoice(), DET)).select(candidates, rng_of(0)) == [Pick("mine", ("detection",))]
    assert strategy.at(1).select(candidates, rng_of(0)) == [Pick("mine", ("detection",))]


def test_members_are_declared_as_strategies() -> None:
    """What builds components from a YAML goes by this mark."""
    assert {f.name: f.metadata.get("component") for f in fields(Alternation)}["members"] == "strategy"
    assert typing.get_type_hints(Alternation)["members"] == tuple[Strategy, ...]


@pytest.mark.parametrize(
    ("members", "period", "what"),
    [
        ((), 1, "at least two"),
        ((DET,), 1, "at least two"),
        ([DET, SEG], 1, "a tuple of strategies"),
        ((DET, "equal"), 1, "a tuple of strategies"),
        ((DET, SEG), 0, "1 cycle or more"),
        ((DET, SEG), (1, 0), "1 cycle or more"),
        ((DET, SEG), (1, 2, 3), "3 entries for 2 members"),
        ((DET, SEG), (), "0 entries for 2 members"),
    ],
)
def test_bad_settings_are_refused(members: tuple[Strategy, ...], period: int, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Alternation(members, period)


@pytest.mark.parametrize("strategy", [Alternation((DET, SEG)), Alternation((Equal(), LL4AL(sum="zscore")), period=2)])
def test_conforms(strategy: Alternation) -> None:
    assert_conforms(strategy)
