"""Average precision against pycocotools; merged, silent, with crowds and gaps; label cost."""

import contextlib
import io
import pickle

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tasks.classes import ClassMap
from tasks.detection import STATS, Detection, MeanAveragePrecision
from tasks.types import Detections, Objects

CLASSES = ClassMap(("car", "person", "sign", "never"), (), (-1,) * 4)
Images = dict[str, tuple[Detections, Objects]]


def detections(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    order = np.argsort(-np.array(scores), kind="stable")
    rows = torch.tensor(boxes).view(-1, 4)[order.tolist()]
    picked = torch.tensor(labels, dtype=torch.int64)[order.tolist()]
    return Detections(rows, torch.tensor(scores)[order.tolist()], picked, torch.zeros(len(scores), 4))


def some_images(seed: int, count: int = 12) -> Images:
    """Noisy copies of the truth, false alarms, crowds, images without truth, without detections, of all sizes."""
    rng = np.random.default_rng(seed)
    images = {}
    for i in range(count):
        n = int(rng.integers(1, 8)) if i % 5 else 0
        corner, side = rng.uniform(0, 300, (n, 2)), rng.uniform(8, 160, (n, 2))
        truth = np.concatenate([corner, corner + side], 1)
        labels = rng.integers(0, 3, n)
        m = int(rng.integers(0, 4)) if i % 7 else 0
        noisy = np.concatenate([truth + rng.normal(0, 5, truth.shape)] * (1 if i % 7 else 0) + [np.zeros((0, 4))])
        extra = rng.uniform(0, 200, (m, 2))
        boxes = np.concatenate([noisy, np.concatenate([extra, extra + rng.uniform(10, 90, (m, 2))], 1)])
        found_labels = np.concatenate([labels[: len(noisy)], rng.integers(0, 4, m)])
        scores = (rng.uniform(0, 1, len(boxes)) * 8).round() / 8  # ties
        target = Objects(
            torch.from_numpy(truth).float(), torch.from_numpy(labels), torch.from_numpy(rng.random(n) < 0.2)
        )
        images[f"im{seed}/{i}"] = (detections(boxes.tolist(), scores.tolist(), found_labels.tolist()), target)
    return images


def counted(images: Images) -> MeanAveragePrecision:
    metric = Detection().metric(CLASSES)
    metric.update([d for d, _ in images.values()], [t for _, t in images.values()], list(images))
    return metric


def oracle(images: Images) -> tuple[list[float], list[float]]:
    """pycocotools' twelve statistics, and the AP of each class."""
    data: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": []}
    data["categories"] = [{"id": c, "name": n} for c, n in enumerate(CLASSES.detection)]
    answers = []
    for number, id in enumerate(sorted(images)):
        found, target = images[id]
        data["images"].append({"id": number})
        for box, label, crowd in zip(target.boxes.tolist(), target.labels.tolist(), target.crowd.tolist(), strict=True):
            w, h = box[2] - box[0], box[3] - box[1]
            row = {"id": len(data["annotations"]) + 1, "image_id": number, "category_id": label, "iscrowd": int(crowd)}
            data["annotations"].append(row | {"bbox": [box[0], box[1], w, h], "area": w * h})
        for box, label, score in zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True):
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            answers.append({"image_id": number, "category_id": label, "bbox": bbox, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = data
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(answers), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    aps = evaluation.eval["precision"][:, :, :, 0, -1].mean((0, 1))
    return list(evaluation.stats), [float(ap) for ap in aps]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_twelve_figures_are_those_of_pycocotools(seed: int, capfd: pytest.CaptureFixture[str]) -> None:
    images = some_images(seed)
    found = counted(images).compute()
    assert capfd.readouterr() == ("", "")  # the library prints unless told otherwise
    stats, aps = oracle(images)
    assert [found[name] for name in STATS] == pytest.approx(stats, abs=1e-9)
    assert 0.05 < found["map"] < 0.95
    assert [found[f"ap/{n}"] for n in CLASSES.detection[:3]] == pytest.approx(aps[:3], abs=1e-9)
    assert np.isnan(found["ap/never"])  # detections, but no truth: not defined, and not in the mean
    assert found["map"] == pytest.approx(np.mean(aps[:3]))


def test_merged_shards_equal_the_whole_in_any_order() -> None:
    images = some_images(3)
    whole = counted(images).compute()
    first = counted(dict(list(images.items())[7:]))
    first.merge(pickle.loads(pickle.dumps(counted(dict(list(images.items())[:7])))))
    np.testing.assert_equal(first.compute(), whole)


def test_perfect_detections_score_one_whatever_lies_in_a_crowd() -> None:
    boxes = [[10.0, 10.0, 60.0, 60.0], [100.0, 100.0, 300.0, 300.0]]
    target = Objects(torch.tensor(boxes), torch.tensor([0, 0]), torch.tensor([False, True]))
    found = detections([boxes[0], [120.0, 120.0, 160.0, 160.0]], [0.5, 0.9], [0, 0])
    assert counted({"a": (found, target)}).compute()["map"] == pytest.approx(1.0)
    lonely = Objects(target.boxes[:1], target.labels[:1], target.crowd[:1])
    assert counted({"a": (found, lonely)}).compute()["map"] == pytest.approx(0.5)


def test_without_truth_or_detections() -> None:
    nothing = Objects(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).bool())
    some = Objects(torch.tensor([[0.0, 0.0, 9.0, 9.0]]), torch.tensor([1]), torch.tensor([False]))
    found, none = detections([[0.0, 0.0, 9.0, 9.0]], [0.5], [1]), detections([], [], [])
    assert all(np.isnan(v) for v in Detection().metric(CLASSES).compute().values())
    assert np.isnan(counted({"a": (found, nothing)}).compute()["map"])
    assert counted({"a": (none, some)}).compute()["map"] == 0.0
    assert counted({"a": (found, some), "b": (none, nothing)}).compute()["map"] == 1.0
    assert counted({"a": (found, some), "b": (found, nothing)}).compute()["ap50"] == pytest.approx(1.0)


def test_an_image_counts_once_and_classes_must_agree() -> None:
    images = some_images(4, 2)
    metric = counted(images)
    with pytest.raises(ValueError, match="came twice"):
        metric.merge(counted(images))
    with pytest.raises(ValueError, match="merging classes"):
        metric.merge(MeanAveragePrecision(("car",)))
    with pytest.raises(ValueError, match="image 'z' has a Detections and a Tensor"):
        metric.update([detections([], [], [])], [torch.zeros(2, 2)], ["z"])


def test_label_cost() -> None:
    target = some_images(5, 2)["im5/1"][1]
    assert Detection().label_cost(target) == {"seconds": 7.0 * len(target.boxes), "boxes": float(len(target.boxes))}
    found = detections([[0.0, 0.0, 9.0, 9.0]] * 3, [0.2, 0.5, 0.6], [0, 1, 1])
    assert Detection(box_seconds=2.0).label_cost(found) == {"seconds": 4.0, "boxes": 2.0}
    assert Detection(sure=0.55).label_cost(found)["boxes"] == 1.0
    with pytest.raises(ValueError, match=r"detection.label_cost: Tensor"):
        Detection().label_cost(torch.zeros(2, 2))
