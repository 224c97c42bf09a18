"""Salscheider's anchors: shapes, box code, matching rules, feature NMS."""

import pytest
import torch
from torchvision.ops import box_iou

from tasks.nets import anchors as module
from tasks.nets.anchors import IGNORED, NEGATIVE, anchors_of, boxes_of, encode, feature_nms, match

BASE = torch.tensor([[0.0, 0.0, 100.0, 100.0]])
NO_CROWD = torch.tensor([False])


def test_145_anchors_a_cell() -> None:
    found = anchors_of((64, 32))
    assert found.shape == (64 // 8 * (32 // 8) * 145, 4)
    centre = (found[:, :2] + found[:, 2:]) / 2
    assert torch.allclose(centre[:145], torch.tensor([4.0, 4.0]), atol=1e-3)
    assert torch.allclose(centre[145:290], torch.tensor([12.0, 4.0]), atol=1e-3)
    w, h = (found[:145, 2:] - found[:145, :2]).unbind(-1)
    areas = (w * h / 64).view(29, 5)
    assert areas[[0, 1, 2, 28], 0].tolist() == pytest.approx([32, 48, 64, 524288], rel=1e-4)
    assert (w / h)[:5].tolist() == pytest.approx([0.25, 0.5, 1, 2, 4], rel=1e-4)


def test_box_code_round_trip() -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(500, 2, generator=generator) * 200
    boxes = torch.cat([corner, corner + torch.rand(500, 2, generator=generator) * 200 + 5], 1)
    shift = (torch.rand(500, 4, generator=generator) - 0.5) * 4
    near = boxes + shift
    assert (boxes_of(encode(boxes, near), near) - boxes).abs().max() < 1e-4
    code = encode(torch.tensor([[10.0, 0.0, 30.0, 10.0]]), torch.tensor([[0.0, 0.0, 10.0, 10.0]]))
    assert code[0].tolist() == pytest.approx([10 * 1.5, 0.0, 5 * 0.6931472, 0.0], abs=1e-5)


def wide(width: float, x: float = 0.0) -> list[float]:
    return [x, 0.0, x + width, 100.0]


def test_matching_by_iou() -> None:
    """Against one object of 100x100: IoU .6 positive, .45 ignored, .3 negative."""
    shapes = torch.tensor([wide(60), wide(45), wide(30)])
    assert match(shapes, BASE, NO_CROWD).tolist() == [0, IGNORED, NEGATIVE]


def test_an_orphan_takes_its_best_anchor_above_two_fifths() -> None:
    assert match(torch.tensor([wide(45), wide(42)]), BASE, NO_CROWD).tolist() == [0, IGNORED]
    assert match(torch.tensor([wide(39), wide(30)]), BASE, NO_CROWD).tolist() == [NEGATIVE, NEGATIVE]


def test_an_ambiguous_anchor_is_negative() -> None:
    two = torch.tensor([wide(100), wide(100, 20.0)])
    between = torch.tensor([wide(100, 10.0), wide(100), wide(100, 20.0)])
    iou = box_iou(between, two)
    assert (iou[0, 0] - iou[0, 1]).abs() < 0.2
    assert match(between, two, torch.tensor([False, False])).tolist() == [NEGATIVE, 0, 1]


def test_crowds_and_empty_images_are_ignored() -> None:
    boxes, crowd = torch.tensor([wide(100), [200.0, 0.0, 300.0, 100.0]]), torch.tensor([False, True])
    shapes = torch.tensor([wide(100), [240.0, 40.0, 260.0, 60.0], [400.0, 0.0, 420.0, 20.0]])
    assert match(shapes, boxes, crowd).tolist() == [0, IGNORED, NEGATIVE]
    assert match(shapes, boxes.flip(0), crowd.flip(0)).tolist() == [1, IGNORED, NEGATIVE]
    assert match(shapes, torch.zeros(0, 4), torch.zeros(0).bool()).tolist() == [IGNORED] * 3
    assert match(shapes, boxes[1:], crowd[1:]).tolist() == [IGNORED] * 3


def test_matching_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(6, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + torch.rand(6, 2, generator=generator) * 70 + 8], 1)
    shapes, crowd = anchors_of((64, 128)), torch.zeros(6).bool()
    whole = match(shapes, boxes, crowd)
    monkeypatch.setattr(module, "CHUNK", 1000)
    assert torch.equal(match(shapes, boxes, crowd), whole)
    assert set(whole.tolist()) >= {IGNORED, NEGATIVE, 5}


@pytest.mark.parametrize(
    ("overlap", "same", "kept"),
    [(0.95, True, 1), (0.95, False, 1), (0.5, True, 1), (0.5, False, 2), (0.05, True, 2), (0.05, False, 2)],
)
def test_feature_nms_table(overlap: float, same: bool, kept: int) -> None:
    """Above .9 one object, below .1 two; between, the embeddings decide."""
    shift = 100 * (1 - overlap) / (1 + overlap)
    boxes = torch.tensor([wide(100), wide(100, shift)])
    assert box_iou(boxes, boxes)[0, 1].item() == pytest.approx(overlap, abs=1e-5)
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0] if same else [-1.0, 0.0]])
    assert len(feature_nms(boxes, torch.tensor([0.5, 0.9]), embeddings, top=9)) == kept


def test_feature_nms_order_and_limit() -> None:
    boxes = torch.tensor([wide(10, 30.0 * k) for k in range(4)])
    assert feature_nms(boxes, torch.tensor([0.1, 0.9, 0.5, 0.9]), torch.zeros(4, 2), top=3).tolist() == [1, 3, 2]
    assert feature_nms(boxes[:0], torch.zeros(0), torch.zeros(0, 2), top=3).tolist() == []
