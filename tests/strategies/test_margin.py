"""Margin against plain loops; bounds, invariances, every switch, and exactness to the last bit."""

from collections.abc import Sequence
from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.base import Seen
from strategies.conformance import assert_conforms
from strategies.margin import Margin, box_margins, margin_maps, margin_scores
from strategies.sample_pool import SampleNetwork, sample_seen
from tasks.classes import ClassMap
from tasks.types import Detections, Prediction, SegMap


def seen_of(scores: Sequence[float], probs: Sequence[Sequence[float]], classes: int) -> Seen:
    count = len(scores)
    found = Detections(
        torch.zeros(count, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.zeros(count, dtype=torch.int64),
        torch.tensor(probs, dtype=torch.float32).view(count, -1),
    )
    names = tuple(map(str, range(classes)))
    return Seen("a", 1, (8, 8), ClassMap(names, (), (-1,) * classes), 0.5, Prediction({"detection": found}))


def closeness(answers: Sequence[float]) -> float:
    best, second = sorted(answers, reverse=True)[:2]
    return 1 - (best - second)


@pytest.mark.parametrize("background", [False, True])
def test_boxes_match_a_plain_loop(background: bool) -> None:
    logits = torch.randn(40, 5, generator=torch.Generator().manual_seed(1)) * 4
    probs = torch.softmax(logits, 1) if background else torch.sigmoid(logits)
    expected = [closeness(row if background else [*row, 1 - max(row)]) for row in probs.double().tolist()]
    found = box_margins(probs, 4 if background else 5)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.min() >= 0
    assert found.max() <= 1


def test_boxes_by_hand() -> None:
    one_class = torch.tensor([[0.5], [0.9], [0.2], [1.0]])
    assert box_margins(one_class, 1).tolist() == pytest.approx([1.0, 0.2, 0.4, 0.0], abs=1e-6)
    two = torch.tensor([[0.9, 0.85], [0.9, 0.01], [0.3, 0.3]])  # the last is most likely nothing
    assert box_margins(two, 2).tolist() == pytest.approx([0.95, 0.2, 0.6], abs=1e-6)
    assert box_margins(two[:1].half(), 2).dtype == torch.float32
    with pytest.raises(ValueError, match="5 columns for 3 classes"):
        box_margins(torch.zeros(2, 5), 3)


def test_pixels_match_a_plain_loop() -> None:
    logs = torch.log_softmax(torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(2)) * 5, 1)
    for image, value in zip(logs.double().exp(), margin_scores(logs).tolist(), strict=True):
        pixels = [closeness(pixel) for pixel in image.flatten(1).T.tolist()]
        assert value == pytest.approx(sum(pixels) / 15, rel=1e-5)


@settings(derandomize=True, max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), classes=st.integers(1, 8), scale=st.floats(0, 200))
def test_bounds_and_invariances(seed: int, classes: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logs = torch.log_softmax(torch.randn(2, classes, 4, 6, generator=generator) * scale, 1)
    scores = margin_scores(logs)
    assert torch.isfinite(scores).all()
    assert scores.min() >= 0
    assert scores.max() <= 1
    order = torch.randperm(classes, generator=generator)
    torch.testing.assert_close(margin_scores(logs[:, order].flip(-1)), scores, rtol=1e-5, atol=1e-6)
    softer = torch.log_softmax(logs / 2, 1)
    assert (margin_maps(softer) >= margin_maps(logs) - 1e-6).all()  # a flatter answer is never a surer one


def test_extremes() -> None:
    tie = torch.log(torch.tensor([0.4, 0.4, 0.2])).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert margin_scores(tie).item() == pytest.approx(1.0)
    certain = torch.tensor([0.0, -torch.inf, -torch.inf]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert margin_scores(certain).item() == 0
    assert margin_scores(certain.half()).item() == 0
    assert margin_scores(torch.zeros(1, 1, 2, 2)).item() == 0  # a single class
    sure = torch.log_softmax(torch.tensor([0.0, -20.0, -25.0], dtype=torch.float64), 0)
    exact = 2 * float(sure[1].exp()) + float(sure[2].exp())
    assert margin_scores(sure.float().view(1, 3, 1, 1)).item() == pytest.approx(exact, rel=1e-3)


def test_what_is_taken_of_the_boxes() -> None:
    one = seen_of([0.9, 0.6, 0.4, 0.2], [[0.9], [0.6], [0.4], [0.5]], 1)
    values = [0.2, 0.8, 0.8]  # the last box is below min_score
    for over, expected in (("mean", 0.6), ("max", 0.8), ("sum", 1.8)):
        (score,) = Margin(over=over).score_batch([one], [])
        assert score.value == pytest.approx(expected, rel=1e-5)
        assert score.parts == {"boxes": 3.0}
    assert Margin(max_boxes=1).score_batch([one], [])[0].value == pytest.approx(values[0], rel=1e-5)
    assert Margin(over="max", min_score=0.1).score_batch([one], [])[0].value == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("over", ["mean", "max", "sum"])
def test_nothing_detected_comes_last(over: str) -> None:
    some = seen_of([0.9], [[0.9]], 1)
    nothing = replace(some, plain=Prediction({"detection": some.plain.detections.keep(torch.tensor([False]))}))
    first, second, third = Margin(over=over).score_batch([nothing, some, nothing], [])
    assert first.value == third.value == 0
    assert first.parts == {"boxes": 0.0}
    assert second.value > 0
    alone = Margin(over=over).score_batch(sample_seen(Margin(), network=SampleNetwork(min_score=2.0)), [])
    assert [score.value for score in alone] == [0.0] * 7


@pytest.mark.parametrize("threads", [1, 2])
def test_an_image_alone_scores_the_same_to_the_last_bit(threads: int) -> None:
    generator = torch.Generator().manual_seed(5)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for shape in ((5, 11, 32, 56), (3, 2, 7, 5), (2, 19, 128, 131)):
            logs = torch.log_softmax(torch.randn(shape, generator=generator) * 3, 1)
            alone = torch.cat([margin_scores(logs[i : i + 1]) for i in range(len(logs))])
            assert torch.equal(margin_scores(logs), alone)
        for classes in (1, 10, 80):
            probs = torch.rand(1003, classes, generator=generator)
            whole = box_margins(probs, classes)
            for low, high in ((0, 1), (7, 9), (100, 500), (3, 1003)):
                assert torch.equal(whole[low:high], box_margins(probs[low:high].clone(), classes))
    finally:
        torch.set_num_threads(before)


def test_images_of_different_sizes_share_a_batch() -> None:
    strategy = Margin("seg")
    seen = sample_seen(strategy, 3)
    seen[1] = replace(
        seen[1], plain=Prediction({"segmentation": SegMap(seen[1].plain.log_probs[:, :, :8].contiguous())})
    )
    together = strategy.score_batch(seen, [])
    assert together == [strategy.score_batch([one], [])[0] for one in seen]
    assert len({score.value for score in together}) == 3


def test_two_classes_order_pixels_as_entropy_does() -> None:
    p = torch.linspace(0.5, 0.999, 50, dtype=torch.float64)
    logs = torch.stack([p, 1 - p]).log().view(1, 2, 1, 50)
    values = margin_maps(logs).flatten()
    entropies = [-(x * log(x) + (1 - x) * log(1 - x)) for x in p.tolist()]
    assert values.argsort().tolist() == np.argsort(entropies).tolist()


def test_the_map_of_the_gallery_averages_to_the_score() -> None:
    (seen,) = sample_seen(Margin("seg"), 1)
    (picture,) = Margin("seg").explain(seen).values()
    assert float(picture.mean()) == pytest.approx(Margin("seg").score_batch([seen], [])[0].value, rel=1e-5)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="max_boxes"):
        Margin(max_boxes=0)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [Margin(), Margin("seg"), Margin(over="sum", max_boxes=2), Margin(over="max")])
def test_conforms(strategy: Margin) -> None:
    assert_conforms(strategy)
