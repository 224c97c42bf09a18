"""Decoding against a slow reference; ties, limits, settings."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks.nets.decode import Decode, decode
from tasks.types import Detections

CELLS, SIZE = (48, 12), (48, 64)


def dense(seed: int, images: int = 3, classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    count = sum(CELLS)
    corner = rng.uniform(-8, 50, (images, count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(4, 30, (images, count, 2))], -1)
    scores, probs = rng.uniform(0, 1, (2, images, count, classes)) ** 3
    return torch.from_numpy(scores).float(), torch.from_numpy(probs).float(), torch.from_numpy(boxes).float()


def iou(a: list[float], b: list[float]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0.0) * max(h, 0.0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both + 1e-12)


def slowly(scores: Tensor, boxes: Tensor, settings: Decode) -> list[tuple[int, int, float]]:
    """(location, class, score) kept in one image, best first: loops, as one would explain it."""
    chosen: list[tuple[float, int, int]] = []
    start = 0
    for count in CELLS:
        level = [(-float(scores[a, c]), a, c) for a in range(start, start + count) for c in range(scores.shape[1])]
        chosen += sorted(level)[: settings.candidates]
        start += count
    limit = torch.tensor([SIZE[1], SIZE[0], SIZE[1], SIZE[0]]).float()
    clipped = torch.minimum(boxes.clamp(min=0), limit).tolist()
    kept: list[tuple[float, int, int]] = []
    for minus, a, c in sorted(chosen):
        if -minus <= settings.score:
            continue
        if all(k != c or iou(clipped[a], clipped[b]) <= settings.nms for _, b, k in kept):
            kept.append((minus, a, c))
    return [(a, c, -minus) for minus, a, c in kept[: settings.top]]


@pytest.mark.parametrize(
    "settings",
    [Decode(), Decode(score=0.4), Decode(nms=0.2), Decode(top=7), Decode(candidates=20), Decode(score=0.0, nms=1.0)],
    ids=str,
)
def test_decode_is_the_slow_reference(settings: Decode) -> None:
    scores, probs, boxes = dense(1)
    found = decode(scores, probs, boxes, CELLS, SIZE, settings)
    limit = torch.tensor([SIZE[1], SIZE[0], SIZE[1], SIZE[0]]).float()
    for b, detections in enumerate(found):
        expected = slowly(scores[b], boxes[b], settings)
        assert detections.labels.tolist() == [c for _, c, _ in expected]
        assert detections.scores.tolist() == pytest.approx([s for _, _, s in expected])
        rows = [a for a, _, _ in expected]
        assert torch.equal(detections.probs, probs[b, rows])
        assert torch.equal(detections.boxes, torch.minimum(boxes[b, rows].clamp(min=0), limit))


def test_every_setting_changes_the_answer() -> None:
    scores, probs, boxes = dense(2)
    changes = {"score": 0.5, "nms": 0.1, "top": 5, "candidates": 10}
    assert set(changes) == {f.name for f in dataclasses.fields(Decode)}
    counts = [len(decode(scores, probs, boxes, CELLS, SIZE, Decode(**{n: v}))[0].scores) for n, v in changes.items()]  # type: ignore[arg-type]
    assert len(decode(scores, probs, boxes, CELLS, SIZE, Decode())[0].scores) not in counts


def test_ties_go_to_the_lower_location_and_company_does_not_matter() -> None:
    scores, probs, boxes = dense(3)
    scores = (scores * 4).round() / 4
    together = decode(scores, probs, boxes, CELLS, SIZE, Decode())
    for b in range(3):
        alone = decode(scores[b : b + 1], probs[b : b + 1], boxes[b : b + 1], CELLS, SIZE, Decode())[0]
        assert torch.equal(alone.boxes, together[b].boxes)
        expected = slowly(scores[b], boxes[b], Decode())
        assert together[b].labels.tolist() == [c for _, c, _ in expected]
        assert torch.equal(alone.labels, together[b].labels)


def test_an_image_without_candidates_and_no_images_at_all() -> None:
    scores, probs, boxes = dense(4)
    scores[1] = 0
    found = decode(scores, probs, boxes, CELLS, SIZE, Decode())
    assert [len(d.scores) > 0 for d in found] == [True, False, True]
    empty: Detections = found[1]
    assert empty.boxes.shape == (0, 4)
    assert empty.probs.shape == (0, 4)
    assert decode(scores[:0], probs[:0], boxes[:0], CELLS, SIZE, Decode()) == []


@pytest.mark.parametrize("wrong", [{"score": 1.0}, {"nms": 0.0}, {"top": 0}, {"candidates": 0}])
def test_senseless_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="decode: "):
        Decode(**wrong)  # type: ignore[arg-type]
