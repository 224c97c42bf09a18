"""One batch under a plan: what is forwarded, what it costs, what is refused; company never matters."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.scoring import BatchScores, Plan, explain_batch, needs_images, score_batch, score_rows
from strategies.base import Score, Seen, Strategy, View
from strategies.boxmask import BoxMask
from strategies.equal import Equal
from strategies.sample_pool import CLASSES, sample_images
from strategies.uniform import Random
from strategies.views import BoxCrops, HFlip
from tasks.base import Model
from tasks.seeding import key_of, uniforms
from tests.toy import Toy

COUNT = 6
IDS = [f"image {i}" for i in range(COUNT)]
KEYS = [key_of(id) for id in IDS]


@dataclass(frozen=True)
class Fixed(Strategy):
    """Answers a value for one image, 0 for the others."""

    value: float = 0.0
    part: float = 0.0

    def score(self, seen: Seen, rng: np.random.Generator) -> Score:
        bad = seen.id == IDS[2]
        return Score(self.value if bad else 0.0, {"part": self.part if bad else 0.0})


@dataclass(frozen=True)
class FlipsBoxes(Strategy):
    @property
    def views(self) -> tuple[View, ...]:
        return (HFlip(("detection",)),)

    def score(self, seen: Seen, rng: np.random.Generator) -> Score:
        return Score(len(seen.views[HFlip()][0][0].detections.scores) + rng.random())


@dataclass(frozen=True)
class ByTurns(Strategy):
    members: tuple[Strategy, ...] = (Random(), Equal())

    def at(self, cycle: int) -> Strategy:
        return self.members[cycle % len(self.members)]


def run(plan: Plan, rows: Sequence[int] = range(COUNT), model: Toy | None = None, **more: int) -> BatchScores:
    images, rows = sample_images(COUNT), list(rows)
    ids, keys = [IDS[r] for r in rows], [KEYS[r] for r in rows]
    return score_batch(model or Toy(), images[rows], {}, ids, keys, CLASSES, plan, **more)


def test_toy_is_a_model() -> None:
    assert isinstance(Toy(), Model)


def test_one_pass_for_the_images_and_one_for_each_view() -> None:
    model = Toy()
    plan = Plan(
        {"a": Equal(), "b": BoxMask(crop_size=32), "c": BoxMask(crop_size=32, terms=("loc",)), "d": FlipsBoxes()}, 0, 0
    )
    assert plan.reads == ("segmentation", "detection")
    assert plan.views == {HFlip(): ("segmentation", "detection"), BoxCrops(32): ("segmentation",)}
    scores = run(plan, model=model)
    crops = int(sum(score.parts["boxes"] for score in scores.scores["b"]))
    shown = model.calls[2][0]
    assert model.calls == [(COUNT, 3, 56, 72), (COUNT, 3, 56, 72), (shown, 3, 32, 32)]
    assert shown >= crops > 0
    assert scores.forwards == pytest.approx(2 * COUNT + shown * 32 * 32 / (56 * 72))


def test_crops_are_forwarded_in_chunks_with_equal_scores() -> None:
    plan, model = Plan({"b": BoxMask(crop_size=32)}, 0, 0), Toy()
    whole, parts = run(plan), run(plan, model=model, crop_chunk=4)
    assert len(model.calls) > 3
    assert {shape[0] for shape in model.calls[1:-1]} == {4}
    for one, other in zip(whole.scores["b"], parts.scores["b"], strict=True):
        assert other.parts == pytest.approx(dict(one.parts), rel=1e-5)


def test_random_decodes_nothing() -> None:
    plan = Plan({"r": Random()}, 3, 1)
    assert not needs_images(plan)
    assert needs_images(Plan({"r": Random(), "d": FlipsBoxes()}, 0, 0))
    scores = score_batch(Toy(), None, {}, IDS, KEYS, CLASSES, plan)
    assert scores.forwards == 0
    expected = uniforms(np.array(KEYS, dtype=np.uint64), 3, 1).tolist()
    assert [score.value for score in scores.scores["r"]] == expected
    with pytest.raises(ValueError, match="no images were given, but d must see them"):
        score_batch(Toy(), None, {}, IDS, KEYS, CLASSES, Plan({"d": FlipsBoxes()}, 0, 0))


@settings(derandomize=True, max_examples=8, deadline=None)
@given(order=st.permutations(range(COUNT)))
def test_permuting_the_images_permutes_the_scores_exactly(order: list[int]) -> None:
    plan = Plan({"a": Equal(), "b": BoxMask(crop_size=32), "d": FlipsBoxes(), "r": Random()}, 4, 2)
    scores, shuffled = run(plan), run(plan, order)
    for name in plan.strategies:
        assert shuffled.scores[name] == [scores.scores[name][row] for row in order]


def test_scores_are_exactly_the_same_beside_any_other_strategies() -> None:
    members = {"a": Equal(), "b": BoxMask(crop_size=32), "d": FlipsBoxes(), "r": Random()}
    together = run(Plan(members, 4, 2)).scores
    for name, strategy in members.items():
        plan = Plan({name: strategy}, 4, 2)
        assert run(plan).scores[name] == together[name]
        # alone, the network itself may round otherwise: equal answers give equal scores, see test_conformance
        alone = [run(plan, [row]).scores[name][0].value for row in range(COUNT)]
        assert alone == pytest.approx([score.value for score in together[name]], rel=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused_by_name(bad: float) -> None:
    with pytest.raises(ValueError, match=r"strategy 'mine': value is (nan|inf) for image 'image 2'"):
        run(Plan({"fine": Random(), "mine": Fixed(bad)}, 0, 0))
    with pytest.raises(ValueError, match=r"strategy 'mine': part is (nan|inf) for image 'image 2'"):
        run(Plan({"mine": Fixed(0.0, bad)}, 0, 0))
    assert run(Plan({"mine": Fixed(-float("inf"))}, 0, 0)).scores["mine"][2].value == -float("inf")


def test_reading_what_the_model_lacks_is_refused_in_a_sentence() -> None:
    @dataclass(frozen=True)
    class Loss(Fixed):
        @property
        def reads(self) -> tuple[str, ...]:
            return ("predicted_loss",)

    with pytest.raises(
        ValueError, match=r"'ll' reads 'predicted_loss'.*provides detection\); add model.loss_prediction"
    ):
        run(Plan({"ll": Loss()}, 0, 0), model=Toy(provides=("detection",)))
    with pytest.raises(ValueError, match=r"'d' reads 'detection', which the model does not provide"):
        run(Plan({"d": FlipsBoxes()}, 0, 0), model=Toy(provides=("segmentation",)))


def test_alternation_forwards_for_its_active_member_only() -> None:
    assert not needs_images(Plan({"t": ByTurns()}, 0, 0))
    assert Plan({"t": ByTurns()}, 0, 1).views == {HFlip(): ("segmentation",)}
    assert run(Plan({"t": ByTurns()}, 0, 1)).scores["t"] == run(Plan({"t": Equal()}, 0, 1)).scores["t"]


def test_rows_hold_values_parts_and_keys() -> None:
    scores = run(Plan({"b": BoxMask(crop_size=32), "r": Random()}, 0, 0)).scores
    table = score_rows(scores, IDS, KEYS)
    assert table["key"].to_pylist() == KEYS
    assert table["r.value"].to_pylist() == [score.value for score in scores["r"]]
    assert table["b.s_seg"].to_pylist() == [score.parts["s_seg"] for score in scores["b"]]
    assert score_rows({"r": []}, [], []).num_rows == 0


def test_an_empty_batch_is_answered() -> None:
    assert run(Plan({"b": BoxMask(), "a": Equal()}, 0, 0), []) == BatchScores({"b": [], "a": []}, 0.0)


def test_a_wrong_number_of_scores_is_refused() -> None:
    @dataclass(frozen=True)
    class Short(Strategy):
        def score_batch(self, seen: Sequence[Seen], rngs: object) -> list[Score]:
            return [Score(0.0)]

    with pytest.raises(ValueError, match="answered 1 scores for 6 images"):
        run(Plan({"short": Short()}, 0, 0))


def test_explaining_shows_what_was_seen_and_the_maps() -> None:
    plan = Plan({"b": BoxMask(crop_size=32), "a": Equal(), "r": Random()}, 0, 0)
    explained = explain_batch(Toy(), sample_images(2), {}, IDS[:2], KEYS[:2], CLASSES, plan)
    assert [one.seen.id for one in explained] == IDS[:2]
    assert all(set(one.maps) == {"b", "a", "r"} and one.maps["r"] == {} for one in explained)
    assert {m.shape for one in explained for maps in one.maps.values() for m in maps.values()} == {torch.Size([7, 9])}
