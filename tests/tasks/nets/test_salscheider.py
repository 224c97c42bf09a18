"""The network of Salscheider 2020: shapes, losses, decoding with and without embeddings."""

import pytest
import torch
from torch.nn import functional as F

from tasks.nets.decode import Decode
from tasks.nets.lossnet import LossPrediction
from tasks.nets.salscheider import focal_sum, margin_loss, salscheider
from tasks.types import Sample
from tests.tasks.nets.shapes import CLASSES, TASKS, batch_of, objects, scenes, seeded, without


def test_shapes() -> None:
    model = seeded(lambda: salscheider(CLASSES, TASKS, width=16, loss_prediction=LossPrediction())).eval()
    images = torch.rand(2, 3, 32, 40)
    assert model.stride == 8
    assert [tuple(m.shape) for m in model.maps(images)] == [
        (2, 32, 8, 10),
        (2, 32, 4, 5),
        (2, 64, 4, 5),
        (2, 128, 4, 5),
    ]
    found = model.predict(images, sorted(model.provides))[0]
    assert found.dense is not None
    assert found.dense.shape == (4 * 5 * 145, 2)
    assert found.log_probs.shape == (3, 32, 40)
    assert set(found.predicted_loss) == set(TASKS)


def test_published_width() -> None:
    model = salscheider(CLASSES, ("segmentation",))
    assert model.backbone.channels == (128, 128, 256, 512)
    assert sum(p.numel() for p in model.backbone.parameters()) > 1e6


@pytest.mark.parametrize("embedded", [False, True])
def test_losses_train_and_a_missing_label_counts_zero(embedded: bool) -> None:
    model = seeded(lambda: salscheider(CLASSES, TASKS, width=16, feature_nms=embedded))
    a, b = scenes(2)
    large = objects([[4, 4, 56, 60], [2, 2, 50, 40]], [0, 1])  # the smallest anchors have 45 pixels a side
    a = Sample(a.id, a.image, {**a.targets, "detection": large})
    losses = model(batch_of([a, without(b, "detection")]))
    parts = {"objectness", "cls", "box"} | ({"embedding"} if embedded else set())
    assert {p.split(".")[1] for p in losses.values if p.startswith("detection")} == parts
    for part in ("detection.objectness", "detection.cls", "detection.box", "segmentation.ce"):
        assert losses.values[part][0] > 0
    assert all(v[1] == 0 for p, v in losses.values.items() if p.startswith("detection"))
    torch.stack(list(losses.means().values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("embedded", [False, True])
def test_probs_are_a_softmax_over_the_object_classes(embedded: bool) -> None:
    settings = Decode(score=0.3, top=20)
    model = seeded(lambda: salscheider(CLASSES, TASKS, width=16, feature_nms=embedded, decode=settings)).eval()
    found = model.predict(batch_of(scenes(1, size=(32, 48))).images, ["detection"])[0].detections
    assert 0 < len(found.scores) <= 20
    assert torch.allclose(found.probs.sum(-1), torch.ones(len(found.scores)), atol=1e-5)
    assert torch.equal(found.probs.argmax(-1), found.labels)
    assert (found.scores.diff() <= 0).all()
    assert found.boxes.min() >= 0
    assert found.boxes[:, 2].max() <= 48


def test_focal_sum_by_formula() -> None:
    logits = torch.tensor([[0.0, 2.0], [1.0, 0.0], [5.0, 0.0]])
    p = F.softmax(logits, -1)
    expected = -((1 - p[0, 1]) ** 2 * p[0, 1].log() + (1 - p[1, 0]) ** 2 * p[1, 0].log())
    assert focal_sum(logits, torch.tensor([3, -1, -2])).item() == pytest.approx(expected.item())


def test_margin_loss_by_hand() -> None:
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert margin_loss(vectors, torch.tensor([0, 0, 1])).item() == 0  # together, and 2 away from the other
    assert margin_loss(vectors, torch.tensor([0, 1, 0])).item() == pytest.approx((1.2 + 1.2 + 0.0) / 3)
    assert margin_loss(vectors[:1], torch.tensor([0])).item() == 0
    assert margin_loss(vectors.repeat(100, 1), torch.tensor([0, 0, 1]).repeat(100)).item() == pytest.approx(0)


def test_bad_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model.width: 8"):
        salscheider(CLASSES, TASKS, width=8)
