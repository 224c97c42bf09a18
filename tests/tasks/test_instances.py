"""Mask AP against pycocotools on real labels; crowds, objects without masks, shards, label cost."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks import TASKS
from tasks.average_precision import STATS
from tasks.classes import ClassMap
from tasks.geometry import rle_of_mask
from tasks.instances import Instances, MaskAveragePrecision
from tasks.types import Detections, Objects
from tests.tasks.coco_people import People

CLASSES = ClassMap(("car",), (), (-1,))


def mask(x1: int, y1: int, x2: int, y2: int, size: tuple[int, int] = (40, 60)) -> dict[str, object]:
    found = np.zeros(size, np.bool_)
    found[y1:y2, x1:x2] = True
    return rle_of_mask(found)


def truth(*rles: dict[str, object] | None, crowd: tuple[int, ...] = ()) -> Objects:
    count = len(rles)
    flags = torch.tensor([i in crowd for i in range(count)], dtype=torch.bool)
    return Objects(torch.tensor([[5.0, 5.0, 25.0, 25.0]] * count), torch.zeros(count).long(), flags, rles)


def found(*rles: dict[str, object]) -> Detections:
    count = len(rles)
    scores = torch.linspace(0.9, 0.5, count)
    return Detections(torch.zeros(count, 4), scores, torch.zeros(count).long(), torch.zeros(count, 1), rles)


def figure(output: Detections, target: Objects, name: str = "map") -> float:
    metric = Instances().metric(CLASSES)
    metric.update([output], [target], ["a"])
    return metric.compute()[name]


@pytest.mark.slow
def test_the_figures_are_those_of_pycocotools(shared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    people = People(shared / "data" / "coco_keypoints101")
    metric, rest = (Instances().metric(people.classes) for _ in range(2))
    metric.update(people.found[:20], people.targets[:20], people.ids[:20])
    rest.update(people.found[20:], people.targets[20:], people.ids[20:])
    metric.merge(pickle.loads(pickle.dumps(rest)))
    figures = metric.compute()
    assert capfd.readouterr() == ("", "")
    stats, aps = people.oracle("segm")
    assert [figures[name] for name in STATS] == pytest.approx(stats, abs=1e-9)
    assert 0.1 < figures["map"] < 0.9
    assert {n: figures[f"ap/{n}"] for n in aps} == pytest.approx(aps, abs=1e-9)
    assert sum(np.isnan(figures[f"ap/{n}"]) for n in people.classes.detection) == len(people.classes.detection) - len(
        aps
    )


def test_iou_is_that_of_masks_and_not_of_boxes() -> None:
    half = mask(5, 5, 15, 25)  # IoU 1/2 with the whole: found at the first of ten thresholds alone
    assert figure(found(mask(5, 5, 25, 25)), truth(mask(5, 5, 25, 25))) == pytest.approx(1)
    assert figure(found(half), truth(mask(5, 5, 25, 25))) == pytest.approx(0.1)
    assert figure(found(mask(30, 5, 50, 25)), truth(mask(5, 5, 25, 25))) == 0


def test_what_lies_in_a_crowd_or_in_an_object_without_a_mask_counts_nowhere() -> None:
    extra, other = mask(6, 6, 20, 20), mask(30, 5, 50, 25)
    assert figure(found(extra, other), truth(mask(5, 5, 25, 25), other, crowd=(0,))) == pytest.approx(1)
    assert figure(found(extra, other), truth(None, other)) == pytest.approx(1)
    assert figure(found(extra, other), truth(other)) == pytest.approx(0.5)
    assert np.isnan(figure(found(extra), truth(None)))
    assert np.isnan(figure(found(), truth(None)))
    assert figure(found(), truth(other)) == 0


def test_what_is_no_masks_is_refused() -> None:
    bare = Detections(torch.zeros(1, 4), torch.ones(1), torch.zeros(1).long(), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="the detections of image 'a' have no masks"):
        figure(bare, truth(mask(5, 5, 25, 25)))
    with pytest.raises(ValueError, match=r"image 'a' has masks of sizes \[\(40, 60\), \(41, 60\)\]"):
        figure(found(mask(1, 1, 9, 9, (41, 60))), truth(mask(5, 5, 25, 25)))
    with pytest.raises(ValueError, match="image 'z' has a Detections and a Tensor"):
        MaskAveragePrecision(("car",)).update([bare], [torch.zeros(2, 2)], ["z"])


def test_label_cost_and_name() -> None:
    assert TASKS["instances"] == "tasks.instances:Instances"
    assert Instances().label_cost(truth(None, None)) == {"seconds": 160.0, "outlines": 2.0}
    assert Instances(outline_seconds=9, sure=0.6).label_cost(found(*[mask(5, 5, 9, 9)] * 3)) == {
        "seconds": 18.0,
        "outlines": 2.0,
    }
    with pytest.raises(ValueError, match=r"instances.label_cost: Tensor"):
        Instances().label_cost(torch.zeros(2, 2))
