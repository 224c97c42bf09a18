"""OKS AP against pycocotools on real labels, PCK by hand, sigmas of a schema, shards, label cost."""

import pickle
from math import exp
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.cocoeval import Params

from tasks import TASKS
from tasks.average_precision import KEYPOINT_STATS
from tasks.classes import ClassMap
from tasks.geometry import rle_of_mask
from tasks.keypoints import COCO_SIGMAS, Keypoints
from tasks.types import Detections, Objects
from tests.tasks.coco_people import People

CLASSES = ClassMap(("arm", "rod"), (), (-1, -1), ("left", "right", "tip"))
POINTS = ((20.0, 20.0, 2.0), (60.0, 20.0, 1.0), (40.0, 50.0, 2.0))
BOX = (10.0, 10.0, 70.0, 90.0)  # its diagonal is 100 px


def truth(points: tuple[tuple[float, float, float], ...] = POINTS, crowd: bool = False, label: int = 0) -> Objects:
    return Objects(
        torch.tensor([BOX]),
        torch.tensor([label]),
        torch.tensor([crowd]),
        (),
        torch.tensor([points], dtype=torch.float32),
    )


def found(*shifts: tuple[float, float, float], box: tuple[float, ...] = BOX, label: int = 0) -> Detections:
    """A detection for each triple: how far each of its points is to the right of the truth."""
    rows = torch.tensor([POINTS] * len(shifts)).reshape(-1, 3, 3)
    rows[..., 0] += torch.tensor(shifts).reshape(-1, 3)
    count = len(shifts)
    labels, boxes = torch.full((count,), label), torch.tensor([box] * count).reshape(-1, 4)
    return Detections(boxes, torch.linspace(0.9, 0.5, count), labels, torch.zeros(count, 2), None, rows)


def figures(output: Detections, target: Objects, task: Keypoints | None = None) -> dict[str, float]:
    metric = (task or Keypoints()).metric(CLASSES)
    metric.update([output], [target], ["a"])
    return metric.compute()


@pytest.mark.slow
def test_the_figures_are_those_of_pycocotools(shared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    people = People(shared / "data" / "coco_keypoints101")
    metric, rest = (Keypoints().metric(people.classes) for _ in range(2))
    assert metric.sigmas == pytest.approx(Params("keypoints").kpt_oks_sigmas)
    metric.update(people.found[20:], people.targets[20:], people.ids[20:])
    rest.update(people.found[:20], people.targets[:20], people.ids[:20])
    metric.merge(pickle.loads(pickle.dumps(rest)))
    counted = metric.compute()
    assert capfd.readouterr() == ("", "")
    stats, aps = people.oracle("keypoints")
    assert [counted[name] for name in KEYPOINT_STATS] == pytest.approx(stats, abs=1e-9)
    assert 0.1 < counted["oks"] < 0.9
    assert aps.keys() == {"person"}
    assert counted["ap/person"] == pytest.approx(aps["person"], abs=1e-9)
    assert np.isnan(counted["ap/car"])  # without keypoints: not in the mean
    assert 0 < counted["pck"] < 1


def test_perfect_points_score_one() -> None:
    one = figures(found((0, 0, 0)), truth())
    assert (one["oks"], one["pck"], one["pck/tip"]) == (pytest.approx(1), 1, 1)
    assert np.isnan(one["ap/rod"])


def test_sigmas_and_areas_scale_the_similarity() -> None:
    """One point that is d px off has exp(-d^2 / (2 area (2 sigma)^2)), by the mask's area where there is a mask."""
    single = ((20.0, 20.0, 2.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    wide = {"left": 0.1}
    similarity = exp(-(8.0**2) / (2 * 60 * 80 * 0.1**2))  # sigma .05, the box's area: .513, above the first threshold
    assert 0.5 < similarity < 0.55
    assert figures(found((8, 0, 0)), truth(single))["oks"] == pytest.approx(0.1)
    assert figures(found((8, 0, 0)), truth(single), Keypoints(sigmas=wide))["oks"] == pytest.approx(0.7)  # .847
    small = np.zeros((100, 100), np.bool_)
    small[10:60, 10:40] = True
    masked = truth(single)
    masked = Objects(masked.boxes, masked.labels, masked.crowd, (rle_of_mask(small),), masked.keypoints)
    assert figures(found((8, 0, 0)), masked)["oks"] == 0  # 1500 px: .118


def test_pck_by_hand() -> None:
    assert figures(found((9.9, 0, 0)), truth())["pck"] == 1
    near = figures(found((10.1, 0, 0)), truth())
    assert (near["pck"], near["pck/left"], near["pck/right"]) == (pytest.approx(2 / 3), 0, 1)
    hidden = (POINTS[0], (0.0, 0.0, 0.0), POINTS[2])
    some = figures(found((99, 0, 0)), truth(hidden))
    assert some["pck"] == 0.5
    assert np.isnan(some["pck/right"])
    assert figures(found((50, 50, 50), (0, 0, 0)), truth())["pck"] == 0  # the better detection takes the object
    assert figures(found((0, 0, 0), box=(50.0, 10.0, 110.0, 90.0)), truth())["pck"] == 0  # its IoU is a fifth
    assert figures(found((0, 0, 0), label=1), truth())["pck"] == 0
    assert figures(found(), truth())["pck"] == 0


def test_crowds_and_objects_without_points_count_nowhere() -> None:
    for target in (truth(crowd=True), truth(((0.0, 0.0, 0.0),) * 3)):
        assert np.isnan(figures(found((0, 0, 0)), target)["oks"])
        assert np.isnan(figures(found((0, 0, 0)), target)["pck"])


def test_sigmas_of_a_schema() -> None:
    assert Keypoints().metric(CLASSES).sigmas == (0.05, 0.05, 0.05)
    assert Keypoints(sigmas={"tip": 0.02}).metric(CLASSES).sigmas == (0.05, 0.05, 0.02)
    coco = ClassMap(("person",), (), (-1,), tuple(COCO_SIGMAS))
    assert Keypoints(sigmas={"nose": 0.5}).metric(coco).sigmas[:2] == (0.5, 0.025)
    with pytest.raises(ValueError, match="no keypoint is called 'nose'; expected some of left, right, tip"):
        Keypoints(sigmas={"nose": 0.1}).metric(CLASSES)
    with pytest.raises(ValueError, match="sigmas: 'tip' has 0; expected a number above 0"):
        Keypoints(sigmas={"tip": 0})
    with pytest.raises(ValueError, match="names no keypoints"):
        Keypoints().metric(ClassMap(("arm",), (), (-1,)))


def test_what_is_no_keypoints_is_refused() -> None:
    bare = Objects(torch.tensor([BOX]), torch.tensor([0]), torch.tensor([False]))
    with pytest.raises(ValueError, match=r"the objects of image 'a' have keypoints None; expected \(1, 3, 3\)"):
        figures(found((0, 0, 0)), bare)
    with pytest.raises(ValueError, match="image 'a' has a Detections and a Tensor"):
        Keypoints().metric(CLASSES).update([found()], [torch.zeros(2, 2)], ["a"])
    with pytest.raises(ValueError, match="other points or sigmas"):
        Keypoints().metric(CLASSES).merge(Keypoints(sigmas={"tip": 0.1}).metric(CLASSES))


def test_label_cost_and_name() -> None:
    assert TASKS["keypoints"] == "tasks.keypoints:Keypoints"
    hidden = (POINTS[0], (0.0, 0.0, 0.0), POINTS[2])
    assert Keypoints().label_cost(truth(hidden)) == {"seconds": 10.0, "points": 2.0}
    two = found((0, 0, 0), (0, 0, 0))
    assert Keypoints(point_seconds=3, sure=0.6).label_cost(two) == {"seconds": 9.0, "points": 3.0}
    with pytest.raises(ValueError, match=r"keypoints.label_cost: Tensor"):
        Keypoints().label_cost(torch.zeros(2, 2))
