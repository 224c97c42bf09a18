"""CALD as a strategy: identities, edge cases, every switch, what it costs."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from math import inf, isnan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from strategies.base import Seen, View
from strategies.cald import Cald
from strategies.cald_views import Cutout, Holes
from strategies.conformance import assert_conforms
from strategies.equal import Equal
from strategies.sample_pool import SampleNetwork, sample_images, sample_seen
from strategies.seeing import Images, see
from strategies.views import HFlip
from tasks.classes import ClassMap
from tasks.geometry import affine_boxes
from tasks.types import Detections, Prediction

ONE = ClassMap(("thing",), ("thing",), (0,))


class Fixed:
    """Finds a bright rectangle wherever it is, exactly, with one confidence; or nothing."""

    def __init__(self, confidence: float = 0.9, softmax: bool = False) -> None:
        self.confidence, self.softmax = confidence, softmax

    def predict(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        answers = []
        for image in images:
            y, x = (image[0] > 0.9).nonzero().unbind(1)
            count = int(len(x) > 0)
            box = [[x.min(), y.min(), x.max() + 1, y.max() + 1]] if count else []
            probs = torch.tensor([[self.confidence, 1 - self.confidence][: 1 + self.softmax]] * count)
            found = Detections(
                torch.tensor(box, dtype=torch.float32).view(count, 4),
                torch.full((count,), self.confidence),
                torch.zeros(count, dtype=torch.int64),
                probs.view(count, 1 + self.softmax),
            )
            answers.append(Prediction({"detection": found}))
        return answers


def look(network: object, images: Tensor, strategy: Cald, classes: ClassMap = ONE) -> list[Seen]:
    batch = Images([str(i) for i in range(len(images))], range(len(images)), classes, images)
    views = {view: view.reads for view in strategy.views}
    return see(network.predict, batch, strategy.reads, views, 0, 0, torch.zeros(3)).seen  # type: ignore[attr-defined]


def rectangle(left: int, top: int, width: int, height: int, size: tuple[int, int] = (160, 320)) -> Tensor:
    image = torch.zeros(1, 3, *size)
    image[:, :, top : top + height, left : left + width] = 1
    return image


@settings(derandomize=True, max_examples=15, deadline=None)
@given(
    left=st.integers(0, 50),
    top=st.integers(0, 25),
    width=st.integers(1, 10),
    height=st.integers(1, 5),
    confidence=st.sampled_from([0.1, 0.3, 0.5, 0.95]),
    softmax=st.booleans(),
)
def test_a_stable_box_is_as_far_from_beta_as_it_is_sure(
    left: int, top: int, width: int, height: int, confidence: float, softmax: bool
) -> None:
    image = rectangle(5 * left, 5 * top, 5 * width, 5 * height)  # at multiples of 5 a scale of 0.8 is exact
    strategy = Cald(looks=("flip", "resize"))
    (score,) = strategy.score_batch(look(Fixed(confidence, softmax), image, strategy), [])
    assert score.parts["m_flip"] == pytest.approx(abs(confidence - 0.3), abs=1e-6)
    assert score.parts["m_resize"] == pytest.approx(abs(confidence - 0.3), abs=0.02)
    assert score.value == pytest.approx(-(score.parts["m_flip"] + score.parts["m_resize"]) / 2)
    assert score.summary is not None
    assert score.summary.tolist() == pytest.approx([confidence])


@settings(derandomize=True, max_examples=20, deadline=None)
@given(
    confidences=st.lists(st.integers(6, 100), min_size=1, max_size=4),
    softmax=st.booleans(),
    offset=st.sampled_from(["exact", "official"]),
)
def test_a_detector_that_is_stable_in_all_views_has_the_closed_form(
    confidences: list[int], softmax: bool, offset: str
) -> None:
    """It answers each view with its boxes where they have moved to: |1 + p - 1.3| of the box that is nearest."""
    strategy = Cald(rotation_offset=offset)  # type: ignore[arg-type]
    count, scores = len(confidences), torch.tensor(sorted(confidences, reverse=True)) / 100
    boxes = torch.tensor([[20.0, 30.0, 60.0, 90.0], [100.0, 20.0, 150.0, 50.0], [180.0, 60.0, 240.0, 130.0],
                          [70.0, 100.0, 95.0, 125.0]])[:count]  # fmt: skip
    probs = torch.stack([scores, 1 - scores], 1)[:, : 1 + softmax]
    found = Detections(boxes, scores, torch.zeros(count, dtype=torch.int64), probs)
    plain, image, views = Prediction({"detection": found}), torch.rand(1, 3, 160, 320), {}
    for view in strategy.views:
        matrix = view.render(image, {}, [plain], [np.random.default_rng(0)], torch.zeros(3)).matrix[0]
        moved = affine_boxes(boxes.double(), matrix.double()).float()
        views[view] = ((Prediction({"detection": replace(found, boxes=moved)}), matrix),)
    seen = Seen("x", 1, (160, 320), ONE, 0.5, plain, views)
    (score,) = strategy.score_batch([seen], [])
    expected = min(abs(p - 0.3) for p in scores.tolist())
    assert score.value == pytest.approx(-expected, abs=1e-6)
    assert [score.parts[f"m_{look}"] for look in strategy.looks] == pytest.approx([expected] * 4, abs=1e-6)


def test_a_turned_box_is_found_where_it_was_mapped() -> None:
    image = rectangle(120, 60, 80, 40)
    values = {}
    for angle in (0.0, 5.0, -5.0):
        strategy = Cald(looks=("rotate",), rotate=angle, beta=2.0)
        (score,) = strategy.score_batch(look(Fixed(1.0), image, strategy), [])
        values[angle] = score.parts["m"]  # 1 - IoU
    assert values[0.0] == pytest.approx(0.0, abs=1e-6)
    assert values[5.0] == pytest.approx(values[-5.0], abs=0.03)
    assert 0 < values[5.0] < 0.1  # the hull of the mapped corners is the hull of the turned rectangle


def test_a_hidden_box_is_seen_to_change() -> None:
    image = rectangle(100, 50, 40, 30)
    whole = Cald(looks=("flip",))
    hidden = Cald(looks=("cutout",), cutout=Holes(size=(0.4, 0.5), cover=(0.3, 0.8)))
    found = hidden.score_batch(look(Fixed(), image, hidden), [])[0]
    stable = whole.score_batch(look(Fixed(), image, whole), [])[0]
    assert found.parts["m"] < stable.parts["m"]


def test_an_empty_image_comes_first_or_last() -> None:
    image = torch.zeros(1, 3, 64, 64)
    (first,) = Cald().score_batch(look(Fixed(), image, Cald()), [])
    (last,) = Cald(empty="last").score_batch(look(Fixed(), image, Cald(empty="last")), [])
    assert first.value == 0.0
    assert last.value == -inf
    for score in (first, last):
        assert score.parts["m"] == 0.0
        assert (score.parts["boxes"], score.parts["empty"]) == (0.0, 1.0)
        assert score.summary is not None
        assert score.summary.tolist() == [0.0]


def seen_with(plain: Detections, answers: Mapping[View, Detections], size: tuple[int, int] = (64, 64)) -> Seen:
    views = {view: ((Prediction({"detection": d}), torch.eye(2, 3)),) for view, d in answers.items()}
    return Seen("x", 1, size, ONE, 0.5, Prediction({"detection": plain}), views)


def one_box(box: Sequence[float], score: float = 0.8) -> Detections:
    return Detections(torch.tensor([box]), torch.tensor([score]), torch.tensor([0]), torch.tensor([[score]]))


def nothing() -> Detections:
    return Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), torch.zeros(0, 1))


def test_edge_cases_of_one_view() -> None:
    strategy = Cald(looks=("flip",))
    some, flat = one_box([4.0, 4.0, 20.0, 20.0]), one_box([4.0, 4.0, 4.0, 20.0])
    apart = one_box([40.0, 40.0, 50.0, 50.0])

    def m(plain: Detections, answer: Detections, one: Cald = strategy) -> float:
        return one.score_batch([seen_with(plain, {HFlip(): answer})], [])[0].parts["m"]

    assert m(some, nothing()) == 0.0
    assert m(nothing(), some) == 0.0
    assert m(some, some) == pytest.approx(0.5)  # |1 + 0.8 - 1.3|
    assert m(some, apart) == pytest.approx(0.5)  # |0 + 0.8 - 1.3|
    assert m(flat, flat) == 1.0  # no IoU, no box left: the largest distance
    assert m(flat, apart) == pytest.approx(0.5)
    assert m(some, apart, replace(strategy, beta=9.0)) == 1.0
    assert m(one_box([4.0, 4.0, 20.0, 20.0], 0.04), some) == 0.0  # below min_score
    assert isnan(m(some, one_box([4.0, float("nan"), 20.0, 20.0])))  # for the driver to refuse
    assert isnan(m(one_box([4.0, 4.0, 20.0, inf]), some))
    wrong = replace(some, probs=torch.tensor([[float("nan")]]))
    assert isnan(m(some, wrong))
    half = replace(some, boxes=some.boxes.half(), scores=some.scores.half(), probs=some.probs.half())
    assert m(half, half) == pytest.approx(0.5, abs=1e-3)


def test_boxes_end_where_the_shown_image_ends() -> None:
    whole, beyond = one_box([0.0, 0.0, 64.0, 64.0], 1.0), one_box([-30.0, -30.0, 200.0, 200.0], 1.0)
    for look, plain, answer, iou in (("rotate", beyond, whole, 1.0), ("resize", whole, beyond, (51 / 51.2) ** 2)):
        strategy = Cald(looks=(look,), beta=2.0)
        seen = seen_with(plain, {})
        shown = strategy.views[0].render(torch.zeros(1, 3, 64, 64), {}, None, [], torch.zeros(3))
        views = {strategy.views[0]: ((Prediction({"detection": answer}), shown.matrix[0]),)}
        (score,) = strategy.score_batch([replace(seen, views=views)], [])
        assert score.parts["m"] == pytest.approx(1 - iou, abs=1e-5), look


def test_a_wrong_number_of_classes_is_named() -> None:
    strategy = Cald(looks=("flip",))
    wrong = replace(one_box([0.0, 0.0, 9.0, 9.0]), probs=torch.ones(1, 3))
    with pytest.raises(ValueError, match="image 'x' have 3 entries; expected 1"):
        strategy.score_batch([seen_with(wrong, {HFlip(): wrong})], [])


def test_the_passes_are_those_of_the_table() -> None:
    def passes(strategy: Cald) -> float:
        batch = Images(["a", "b"], [1, 2], SampleNetwork().classes, sample_images(2, 160, 320))
        views = {view: view.reads for view in strategy.views}
        glance = see(SampleNetwork().predict, batch, strategy.reads, views, 0, 0, torch.zeros(3))
        return glance.forwards / 2

    assert passes(Cald()) == pytest.approx(4.64)
    assert passes(Cald(looks=("flip", "rotate"))) == 3.0
    assert Cald().views[0] == Equal().views[0]  # shared with EquAL
    assert [view.after for view in Cald().views] == [False, True, False, False]
    assert Cald().views[1] == Cutout(Holes(2, (0.05, 0.2), (0.1, 0.4), 50), 0.05, 100, (40, 50))


CHANGED = {
    "looks": ("flip",),
    "beta": 1.0,
    "ref_limit": (4, 5),
    "resize": 0.5,
    "rotate": 15.0,
    "cutout": Holes(size=(0.1, 0.3), cover=(0.01, 1.0)),
    "rotation_offset": "official",
    "min_score": 0.6,
    "max_boxes": 2,
    "multiple": 1,
}


@pytest.mark.parametrize("name", [field.name for field in fields(Cald) if field.name not in ("mr", "empty", "balance")])
def test_every_switch_of_the_score_changes_it(name: str) -> None:
    values = []
    for strategy in (Cald(), replace(Cald(), **{name: CHANGED[name]})):
        values.append([score.value for score in strategy.score_batch(sample_seen(strategy, 12), [])])
    if name == "multiple":  # the sample network sees each cell by itself: the canvas must not matter
        assert values[0] == pytest.approx(values[1], abs=0.5)
        assert Cald(multiple=1).views != Cald().views
    else:
        assert values[0] != values[1]


def test_images_of_two_sizes_share_a_batch() -> None:
    strategy, network = Cald(), SampleNetwork()
    small = look(network, sample_images(2, 48, 64), strategy, network.classes)
    large = look(network, sample_images(2, 64, 96), strategy, network.classes)
    mixed = [small[0], large[0], small[1], large[1]]
    together = strategy.score_batch(mixed, [])
    for one, score in zip(mixed, together, strict=True):
        (alone,) = strategy.score_batch([one], [])
        assert (alone.value, alone.parts) == (score.value, score.parts)
        np.testing.assert_array_equal(alone.summary, score.summary)


def test_the_map_of_the_gallery_shows_how_near_a_box_is() -> None:
    strategy = Cald(looks=("flip", "resize"))
    (seen,) = look(Fixed(0.5), rectangle(100, 50, 40, 30), strategy)
    (picture,) = strategy.explain(seen).values()
    assert picture.shape == (160, 320)
    assert float(picture[60, 120]) == pytest.approx(0.8, abs=0.02)  # 1 - |0.5 - 0.3|
    assert int((picture > 0).sum()) == 40 * 30


def test_bad_settings_are_refused() -> None:
    for bad in ({"looks": ()}, {"looks": ("flip", "flip")}, {"looks": ("blur",)}):
        with pytest.raises(ValueError, match=r"Cald\.looks"):
            Cald(**bad)
    for bad in ({"mr": 0.9}, {"mr": float("nan")}, {"min_score": 1.0}, {"max_boxes": 0}, {"ref_limit": (0, 5)}):
        with pytest.raises(ValueError, match="Cald"):
            Cald(**bad)
    with pytest.raises(ValueError, match="Rotate"):
        Cald(rotate=90.0)
    with pytest.raises(ValueError, match="Resize"):
        Cald(resize=0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    [
        Cald(),
        Cald(empty="last", balance="uniform", rotation_offset="official", mr=2.0),
        Cald(looks=("rotate",), min_score=0.6, ref_limit=(3, 4)),
    ],
)
def test_conforms(strategy: Cald) -> None:
    assert_conforms(strategy)
