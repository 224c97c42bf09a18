"""Entropy against plain loops; bounds, invariances, every switch, and exactness to the last bit."""

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
from strategies.entropy import Entropy, box_entropies, entropy_maps, entropy_scores
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


def entropy(distribution: Sequence[float]) -> float:
    return -sum(p * log(p) for p in distribution if p > 0)


@pytest.mark.parametrize("background", [False, True])
def test_boxes_match_a_plain_loop(background: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(40, 5, generator=generator) * 4
    probs = torch.softmax(logits, 1) if background else torch.sigmoid(logits)
    probs[0] = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])
    expected = [
        entropy(row) if background else sum(entropy((p, 1 - p)) for p in row) for row in probs.double().tolist()
    ]
    found = box_entropies(probs, 4 if background else 5)
    np.testing.assert_allclose(found, expected, atol=3e-6)
    assert found[0] == 0
    assert found.max() <= (log(5) if background else 5 * log(2)) + 1e-6


def test_pixels_match_a_plain_loop() -> None:
    logs = torch.log_softmax(torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(2)) * 5, 1)
    for image, value in zip(logs.double().exp(), entropy_scores(logs).tolist(), strict=True):
        pixels = [entropy(pixel) for pixel in image.flatten(1).T.tolist()]
        assert value == pytest.approx(sum(pixels) / 15, rel=1e-5)


@settings(derandomize=True, max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), classes=st.integers(1, 8), scale=st.floats(0, 200))
def test_bounds_and_invariances(seed: int, classes: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logs = torch.log_softmax(torch.randn(2, classes, 4, 6, generator=generator) * scale, 1)
    scores = entropy_scores(logs)
    assert torch.isfinite(scores).all()
    assert scores.min() >= 0
    assert scores.max() <= log(classes) + 1e-5
    order = torch.randperm(classes, generator=generator)
    torch.testing.assert_close(entropy_scores(logs[:, order].flip(-1)), scores, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(entropy_maps(logs).mean((1, 2)), scores, rtol=1e-5, atol=1e-6)


def test_extremes() -> None:
    uniform = torch.full((1, 8, 3, 3), -log(8))
    assert entropy_scores(uniform).item() == pytest.approx(log(8), rel=1e-6)
    certain = torch.log_softmax(torch.tensor([0.0, -torch.inf, -torch.inf]), 0).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert entropy_scores(certain).item() == 0
    assert entropy_scores(certain.half()).item() == 0
    assert box_entropies(torch.tensor([[0.5, 0.5]]).half(), 2).item() == pytest.approx(2 * log(2), rel=1e-6)
    assert box_entropies(torch.tensor([[0.0, 1.0]]).bfloat16(), 2).item() == 0
    with pytest.raises(ValueError, match="5 columns for 3 classes"):
        box_entropies(torch.zeros(2, 5), 3)


def test_what_is_taken_of_the_boxes() -> None:
    one = seen_of([0.9, 0.6, 0.4, 0.2], [[0.9], [0.6], [0.4], [0.5]], 1)
    values = [entropy((p, 1 - p)) for p in (0.9, 0.6, 0.4)]  # the last is below min_score
    for over, expected in (("mean", sum(values) / 3), ("max", max(values)), ("sum", sum(values))):
        (score,) = Entropy(over=over).score_batch([one], [])
        assert score.value == pytest.approx(expected, rel=1e-5)
        assert score.parts == {"boxes": 3.0}
    assert Entropy(max_boxes=1).score_batch([one], [])[0].value == pytest.approx(values[0], rel=1e-5)
    (all_four,) = Entropy(over="max", min_score=0.1).score_batch([one], [])
    assert all_four.value == pytest.approx(log(2), rel=1e-6)


@pytest.mark.parametrize("over", ["mean", "max", "sum"])
def test_nothing_detected_comes_last(over: str) -> None:
    some = seen_of([0.9], [[0.9]], 1)
    nothing = replace(some, plain=Prediction({"detection": some.plain.detections.keep(torch.tensor([False]))}))
    first, second, third = Entropy(over=over).score_batch([nothing, some, nothing], [])
    assert first.value == third.value == 0
    assert first.parts == {"boxes": 0.0}
    assert second.value > 0
    alone = Entropy(over=over).score_batch(sample_seen(Entropy(), network=SampleNetwork(min_score=2.0)), [])
    assert [score.value for score in alone] == [0.0] * 7


def test_a_copy_of_every_box_changes_only_the_sum() -> None:
    for seen in sample_seen(Entropy(), 3):
        twice = seen.plain.detections.keep(torch.arange(len(seen.plain.detections.scores)).repeat_interleave(2))
        double = replace(seen, plain=Prediction({"detection": twice}))
        for over, factor in (("mean", 1), ("max", 1), ("sum", 2)):
            strategy = Entropy(over=over, max_boxes=1000)
            (a,), (b,) = strategy.score_batch([seen], []), strategy.score_batch([double], [])
            assert a.value > 0
            assert b.value == pytest.approx(factor * a.value, rel=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_image_alone_scores_the_same_to_the_last_bit(threads: int) -> None:
    generator = torch.Generator().manual_seed(5)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for shape in ((5, 11, 32, 56), (3, 2, 7, 5), (2, 19, 128, 131)):
            logs = torch.log_softmax(torch.randn(shape, generator=generator) * 3, 1)
            alone = torch.cat([entropy_scores(logs[i : i + 1]) for i in range(len(logs))])
            assert torch.equal(entropy_scores(logs), alone)
        for classes in (1, 10, 23, 80):
            probs = torch.rand(1003, classes, generator=generator)
            whole = box_entropies(probs, classes)
            for low, high in ((0, 1), (7, 9), (100, 500), (3, 1003)):
                assert torch.equal(whole[low:high], box_entropies(probs[low:high].clone(), classes))
    finally:
        torch.set_num_threads(before)


def test_images_of_different_sizes_share_a_batch() -> None:
    strategy = Entropy("seg")
    seen = sample_seen(strategy, 3)
    seen[1] = replace(
        seen[1], plain=Prediction({"segmentation": SegMap(seen[1].plain.log_probs[:, :, :8].contiguous())})
    )
    together = strategy.score_batch(seen, [])
    assert together == [strategy.score_batch([one], [])[0] for one in seen]
    assert len({score.value for score in together}) == 3


def test_the_map_of_the_gallery_averages_to_the_score() -> None:
    (seen,) = sample_seen(Entropy("seg"), 1)
    (picture,) = Entropy("seg").explain(seen).values()
    assert float(picture.mean()) == pytest.approx(Entropy("seg").score_batch([seen], [])[0].value, rel=1e-5)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="max_boxes"):
        Entropy(max_boxes=0)


@pytest.mark.parametrize("strategy", [Entropy(), Entropy("seg"), Entropy(over="sum", max_boxes=2), Entropy(over="max")])
def test_conforms(strategy: Entropy) -> None:
    assert_conforms(strategy)
