"""PartMask as a strategy: from instances to an image, what it reads, what it refuses, maps, the laws."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from strategies import STRATEGIES
from strategies.base import Score, Seen
from strategies.conformance import CHECKS, assert_conforms
from strategies.partmask import PARTS, PartMask
from strategies.sample_pool import SampleNetwork, sample_seen
from tasks.classes import ClassMap
from tasks.geometry import rle_of_mask
from tasks.seeding import rng_of
from tasks.types import DepthMap, Detections, Output, Prediction

SIZE = (60, 80)
CLASSES = ClassMap(("rocker",), (), (-1,), ("left", "right"))
Instance = tuple[Sequence[int], Sequence[float], Sequence[tuple[float, float, float]]]  # mask, box, keypoints
FINE: Instance = ((20, 10, 60, 30), (20, 10, 60, 30), [(25, 20, 2), (55, 20, 2)])
HALF: Instance = ((20, 10, 40, 30), (20, 10, 60, 30), [(25, 20, 2), (35, 20, 2)])
EMPTY: Instance = ((0, 0, 0, 0), (20, 10, 60, 30), [(25, 20, 2), (55, 20, 2)])
POINTLESS: Instance = ((20, 10, 60, 30), (20, 10, 60, 30), [(0, 0, 0), (0, 0, 0)])


def detections(*instances: Instance, scores: Sequence[float] | None = None) -> Detections:
    count, masks = len(instances), []
    for (x1, y1, x2, y2), _, _ in instances:
        mask = np.zeros(SIZE, np.bool_)
        mask[y1:y2, x1:x2] = True
        masks.append(rle_of_mask(mask))
    return Detections(
        torch.tensor([box for _, box, _ in instances], dtype=torch.float32).view(count, 4),
        torch.tensor([0.9] * count if scores is None else scores),
        torch.zeros(count, dtype=torch.int64),
        torch.full((count, 2), 0.5),
        tuple(masks),
        torch.tensor([points for *_, points in instances], dtype=torch.float32).view(count, 2, 3),
    )


def seen_of(found: Detections, **others: Output) -> Seen:
    outputs: Mapping[str, Output] = {**dict.fromkeys(("detection", "instances", "keypoints"), found), **others}
    return Seen("a.png", 1, SIZE, CLASSES, 0.5, Prediction(outputs))


def scored(*instances: Instance, scores: Sequence[float] | None = None, **options: Any) -> Score:
    return PartMask(**options).score(seen_of(detections(*instances, scores=scores)), rng_of(0))


# ---- from instances to an image --------------------------------------------------------------------------------------


def test_the_worst_instance_decides() -> None:
    assert STRATEGIES["partmask"] == "strategies.partmask:PartMask"
    assert scored(FINE).value == pytest.approx(0, abs=1e-6)
    found = scored(FINE, HALF, POINTLESS)
    assert found.value == pytest.approx(0.5)
    assert found.parts == pytest.approx(dict(zip(PARTS, (0.5, 0, 0, 0, 0, 3, 0, 1), strict=True)), abs=1e-6)
    assert scored(HALF, FINE).value == scored(FINE, HALF).value
    assert scored(HALF, FINE, over="mean").value == pytest.approx(0.25)
    assert scored(HALF, FINE, over="mean").parts["s_box"] == pytest.approx(0.25)


def test_the_value_is_the_sum_of_its_terms() -> None:
    across: Instance = ((20, 10, 60, 30), (20, 10, 60, 30), [(40, 5, 2), (40, 28, 2)])
    found = scored(across).parts
    assert found["s_axis"] > 0.5
    assert found["angle"] == pytest.approx(90)
    assert (found["s_out"], found["s_away"]) == (0.5, 0.5)
    terms = {"box": found["s_box"], "points": (found["s_out"] + found["s_away"]) / 2, "axis": found["s_axis"]}
    for some in (("box",), ("points",), ("axis",), ("axis", "box"), ("box", "points", "axis")):
        assert scored(across, terms=some).value == pytest.approx(sum(terms[name] for name in some))


def test_nothing_found_contradicts_nothing() -> None:
    assert scored() == Score(0.0, dict.fromkeys(PARTS, 0.0))
    assert scored(HALF, scores=[0.2]) == scored()
    assert scored(HALF, scores=[0.2], min_score=0.1).value == pytest.approx(0.5)
    assert scored(FINE, HALF, max_boxes=1).value == pytest.approx(0, abs=1e-6)


def test_an_empty_mask_contradicts_all() -> None:
    found = scored(FINE, EMPTY)
    assert found.value == 2
    assert (found.parts["no_mask"], found.parts["instances"]) == (1, 2)
    assert scored(EMPTY, empty="zero").value == 0


# ---- what it reads ---------------------------------------------------------------------------------------------------


def test_a_network_without_keypoints_is_scored_by_its_boxes() -> None:
    strategy = PartMask(terms=("box",))
    assert strategy.reads == ("detection", "instances")
    assert PartMask(terms=("axis",)).reads == ("detection", "instances", "keypoints")
    found = detections(HALF)
    plain = Prediction(dict.fromkeys(strategy.reads, replace(found, keypoints=None)))
    score = strategy.score(replace(seen_of(found), plain=plain), rng_of(0))
    assert score.value == pytest.approx(0.5)
    assert score.parts["no_points"] == 1


def test_what_a_model_answers_wrongly_is_told() -> None:
    found, rng = detections(FINE, HALF), rng_of(0)
    assert found.keypoints is not None
    nan = found.keypoints.clone()
    nan[0, 0, 0] = torch.nan
    for seen, says in (
        (seen_of(found, instances=replace(found, masks=None)), "the masks of image 'a.png' are None"),
        (seen_of(found, keypoints=replace(found, keypoints=None)), "the keypoints of image 'a.png' are None"),
        (seen_of(found, instances=found.keep(torch.tensor([0]))), "'instances' of image 'a.png' has other boxes"),
        (seen_of(found, keypoints=DepthMap(torch.zeros(2, 2))), "'keypoints' of image 'a.png' is a DepthMap"),
        (seen_of(found, keypoints=replace(found, keypoints=nan)), "image 'a.png' is not finite"),
        (replace(seen_of(found), size=(61, 80)), r"a mask of image 'a.png' is of \[60, 80\]; expected .* \[61, 80\]"),
    ):
        with pytest.raises(ValueError, match=says):
            PartMask().score(seen, rng)
    nan[..., 2] = 0  # what is not there may be anywhere
    assert PartMask().score(seen_of(replace(found, keypoints=nan)), rng).parts["no_points"] == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"terms": ()}, "expected some of 'box', 'points', 'axis'"),
        ({"terms": ("box", "box")}, "each once"),
        ({"far": 0.0}, "far 0.0; expected shares"),
        ({"slack": -0.1}, "slack -0.1"),
        ({"max_boxes": 0}, "max_boxes is 0"),
    ],
)
def test_settings_without_sense_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PartMask(**options)


def test_every_setting_changes_an_answer() -> None:
    off: Instance = ((20, 10, 60, 30), (20, 10, 60, 30), [(25, 30.5, 2), (55, 20, 2)])
    instances = (FINE, HALF, EMPTY, off)
    plain = scored(off), scored(*instances), scored(FINE, EMPTY, scores=[0.9, 0.25])
    changed: dict[str, Any] = {
        "terms": ("box",), "over": "mean", "empty": "zero", "slack": 0.0, "far": 0.05, "min_score": 0.2, "max_boxes": 1,
    }  # fmt: skip
    assert set(changed) == {field.name for field in fields(PartMask)}
    for name, value in changed.items():
        other = {name: value}
        assert plain != (
            scored(off, **other), scored(*instances, **other), scored(FINE, EMPTY, scores=[0.9, 0.25], **other)
        ), name  # fmt: skip


# ---- why -------------------------------------------------------------------------------------------------------------


def test_maps_show_the_terms() -> None:
    bent: Instance = ((20, 10, 40, 30), (20, 10, 60, 30), [(50, 40, 2), (50, 50, 2)])
    maps = PartMask().explain(seen_of(detections(FINE, bent, EMPTY)))
    masks, boxes, off, axes = (values.numpy() for values in maps.values())
    assert {values.shape for values in (masks, boxes, off, axes)} == {SIZE}
    assert masks[20, 30] == pytest.approx(0.4) or masks[20, 30] == 1
    assert off[40, 50] == off[50, 50] == 1
    assert off[40, 60] == 0
    only = PartMask().explain(seen_of(detections(bent)))
    masks, boxes, off, axes = (values.numpy() for values in only.values())
    assert masks.sum() == 400
    assert boxes.sum() == 400  # the half of the box that the mask leaves out
    assert boxes[20, 50] == 1
    assert axes[45, 50] == 0.5
    assert set(np.unique(axes)) == {0, 0.5, 1}
    nothing = PartMask().explain(seen_of(detections()))
    assert not any(values.any() for values in nothing.values())


def test_images_are_scored_by_themselves() -> None:
    seen = sample_seen(PartMask(), 7)
    together = PartMask().score_batch(seen, [rng_of(0)] * 7)
    assert len({score.value for score in together}) > 4
    assert together[2:] == PartMask().score_batch(seen[2:], [rng_of(0)] * 5)
    nothing = sample_seen(PartMask(), 2, SampleNetwork(min_score=2.0))
    assert [score.value for score in PartMask().score_batch(nothing, [rng_of(0)] * 2)] == [0, 0]


@pytest.mark.parametrize("law", ["prefers what it says", "reads only what it declares", "explains with maps"])
def test_keeps_the_laws_that_it_is_most_likely_to_break(law: str) -> None:
    result = CHECKS[law].result(PartMask())
    assert result.ok, result.why


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    [PartMask(), PartMask(over="mean", empty="zero", min_score=0.05), PartMask(terms=("box",))],
)
def test_conforms(strategy: PartMask) -> None:
    assert_conforms(strategy)
