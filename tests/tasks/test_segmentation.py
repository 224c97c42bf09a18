"""Mean IoU: by hand, by a slow reference, merged; label cost."""

import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tasks.classes import ClassMap
from tasks.segmentation import MeanIoU, Segmentation
from tasks.types import IGNORE, Detections, SegMap

CLASSES = ClassMap((), ("road", "car", "sky"), ())


def seg(classes: list[list[int]], count: int = 3) -> SegMap:
    return SegMap(F.one_hot(torch.tensor(classes), count).permute(2, 0, 1).float().mul(10).log_softmax(0))


def test_two_by_two_with_an_ignored_pixel() -> None:
    metric = Segmentation().metric(CLASSES)
    metric.update([seg([[0, 1], [1, 1]])], [torch.tensor([[0, 0], [1, IGNORE]])], ["a"])
    found = metric.compute()
    assert found["iou/road"] == pytest.approx(1 / 2)
    assert found["iou/car"] == pytest.approx(1 / 2)
    assert np.isnan(found["iou/sky"])
    assert found["miou"] == pytest.approx(1 / 2)
    assert found["miou_all"] == pytest.approx(1 / 3)
    assert found["pixel_accuracy"] == pytest.approx(2 / 3)
    assert metric.main in found


def random_parts(seed: int, images: int = 6) -> tuple[list[SegMap], list[torch.Tensor], list[str]]:
    generator = torch.Generator().manual_seed(seed)
    maps = [SegMap(torch.randn(3, 5, 7, generator=generator).log_softmax(0)) for _ in range(images)]
    truth = [torch.randint(0, 3, (20, 28), generator=generator) for _ in range(images)]
    for target in truth:
        target[:3] = IGNORE
    return maps, truth, [f"{seed}-{i}" for i in range(images)]


def test_slow_reference_with_enlarged_predictions() -> None:
    maps, truth, ids = random_parts(0)
    metric = MeanIoU(CLASSES.segmentation)
    metric.update(maps, truth, ids)
    hits, union = np.zeros(3), np.zeros(3)
    for seg_map, target in zip(maps, truth, strict=True):
        large = F.interpolate(seg_map.log_probs[None], size=(20, 28), mode="bilinear", align_corners=False)
        predicted, valid = large[0].argmax(0), target != IGNORE
        for c in range(3):
            p, t = (predicted == c) & valid, (target == c) & valid
            hits[c] += int((p & t).sum())
            union[c] += int((p | t).sum())
    expected = hits / union
    found = metric.compute()
    assert [found[f"iou/{n}"] for n in CLASSES.segmentation] == pytest.approx(expected.tolist())
    assert found["miou"] == pytest.approx(expected.mean())


def test_merged_shards_equal_the_whole() -> None:
    maps, truth, ids = random_parts(1)
    whole, first, second = (MeanIoU(CLASSES.segmentation) for _ in range(3))
    whole.update(maps, truth, ids)
    first.update(maps[:2], truth[:2], ids[:2])
    second.update(maps[2:], truth[2:], ids[2:])
    first.merge(pickle.loads(pickle.dumps(second)))
    assert first.compute() == whole.compute()
    assert len(pickle.dumps(whole)) < 1000
    with pytest.raises(ValueError, match="merging classes"):
        first.merge(MeanIoU(("road",)))


def test_nothing_counted_is_nan_and_bad_values_are_named() -> None:
    metric = MeanIoU(CLASSES.segmentation)
    assert all(np.isnan(v) for v in metric.compute().values())
    with pytest.raises(ValueError, match=r"image 'x' has classes 7\.\.7; expected 0\.\.2 or 255"):
        metric.update([seg([[0]])], [torch.tensor([[7]])], ["x"])
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), torch.zeros(0, 1))
    with pytest.raises(ValueError, match="has a Detections and a Tensor"):
        metric.update([nothing], [torch.tensor([[0]])], ["x"])


def test_label_cost() -> None:
    task = Segmentation(map_seconds=10.0)
    assert task.label_cost(torch.tensor([[0, 1], [IGNORE, 1]])) == {"seconds": 10.0, "pixels": 3.0}
    assert task.label_cost(seg([[0, 1]]))["seconds"] == 10.0
    assert Segmentation().label_cost(seg([[0, 1]])) == {"seconds": 1500.0, "pixels": 2.0}
    with pytest.raises(ValueError, match=r"segmentation.label_cost: Detections"):
        task.label_cost(Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), torch.zeros(0, 1)))


def test_a_pseudo_label_is_what_is_sure_and_nothing_else() -> None:
    """Of two classes with p and 1 - p: above the threshold, not at it."""
    sure = torch.tensor([[0.95, 0.75, 0.5], [0.05, 0.4, 0.9]])
    output = SegMap(torch.stack([sure, 1 - sure]).log())
    found = Segmentation().pseudo(output, (2, 3), 0.5)
    assert found is not None
    assert found.tolist() == [[0, 0, IGNORE], [1, 1, 0]]
    found = Segmentation().pseudo(output, (2, 3), 0.8)
    assert found is not None
    assert found.tolist() == [[0, IGNORE, IGNORE], [1, IGNORE, 0]]
    assert Segmentation().pseudo(output, (2, 3), 0.96) is None
    larger = Segmentation().pseudo(output, (4, 6), 0.7)
    assert larger is not None
    assert (larger.shape, int(larger[0, 0])) == ((4, 6), 0)
    with pytest.raises(ValueError, match=r"segmentation.pseudo: Tensor; expected a SegMap"):
        Segmentation().pseudo(sure, (2, 3), 0.5)  # type: ignore[arg-type]
