"""Parts read off detections: verdicts, statuses, depth, what counts as right, what cannot be read."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator.checkpoints import Card
from orchestrator.components import Component
from orchestrator.errors import ConfigError, RunError
from orchestrator.placing import Rules, Tally, check_card, matched, parts_found, parts_labeled, placed_in, trios
from tasks.classes import ClassMap
from tasks.data.manifest import Manifest, ObjectRecord, Record, write_manifest
from tasks.data.tabletop import write_maps
from tasks.geometry import rle_of_mask
from tasks.types import Detections, Prediction

CLASSES = ClassMap(("arm", "rod"), (), (-1, -1), ("arm.a", "arm.b", "arm.c", "rod.end"))
TRIO = {0: (0, 1, 2)}
SIZE = (40, 60)


def bar(top: int, height: int = 10) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """A mask of 30 px along x, 10 px high."""
    mask = np.zeros(SIZE, np.bool_)
    mask[top : top + height, 15:45] = True
    return mask


def triple(top: int, up: bool = True) -> list[tuple[float, float, float]]:
    """Two ends on one side of the axis, the middle on the other: the outer side is up, or down."""
    middle, ends = (top + 1.0, top + 8.0) if up else (top + 9.0, top + 2.0)
    return [(18.0, ends, 2.0), (30.0, middle, 2.0), (42.0, ends, 2.0)]


def detections(
    points: Sequence[Sequence[tuple[float, float, float]]], tops: Sequence[int], scores: Sequence[float]
) -> Detections:
    """Arms with their masks and keypoints."""
    rows = len(tops)
    keypoints = torch.zeros(rows, 4, 3)
    for row, own in enumerate(points):
        keypoints[row, :3] = torch.tensor(own)
    boxes = torch.tensor([[15.0, top, 45.0, top + 10.0] for top in tops]).reshape(-1, 4)
    masks = tuple(rle_of_mask(bar(top)) for top in tops)
    labels = torch.zeros(rows, dtype=torch.int64)
    sure = torch.full((rows, 4), 0.5)
    return Detections(boxes, torch.tensor(scores), labels, torch.zeros(rows, 3), masks, keypoints, sure)


def record(objects: Sequence[ObjectRecord] | None, **changes: Any) -> Record:
    return replace(Record("a.png", "a.png", SIZE, "test", objects=objects and tuple(objects)), **changes)


def labeled(top: int, up: bool = True, **changes: Any) -> ObjectRecord:
    flat = (*(value for point in triple(top, up) for value in point), 0.0, 0.0, 0.0)
    one = ObjectRecord((15.0, top, 45.0, top + 10.0), 0, rle=rle_of_mask(bar(top)), keypoints=flat)
    return replace(one, **changes)


def test_which_classes_have_three_keypoints() -> None:
    assert trios(CLASSES) == TRIO
    assert trios(ClassMap(("x", "y"), (), (-1, -1), ("p", "q", "r"))) == {0: (0, 1, 2), 1: (0, 1, 2)}
    assert trios(ClassMap(("x",), (), (-1,), ("p", "q"))) == {}


def test_verdicts_and_depth_in_pixels_of_the_stored_image() -> None:
    """The network saw the image at half its size."""
    found = detections([triple(5), triple(22, up=False)], [5, 22], [0.9, 0.8])
    depth = np.full((80, 120), 0.5, np.float32)
    depth[10:30] += np.linspace(0, 0.02, 120, dtype=np.float32)
    parts = parts_found(found, SIZE, (80, 120), TRIO, Rules(), depth)
    assert [part.verdict for part in parts] == ["correct", "wrong"]
    assert [part.placement.outer for part in parts] == [1, 1]
    assert parts[0].box == (30.0, 10.0, 90.0, 30.0)
    assert parts[0].points[1].tolist() == [60.0, 12.0, 2.0]
    assert parts[0].mask.shape == (80, 120)
    assert parts[0].mask_depth is not None
    assert parts[0].mask_depth.half_range == pytest.approx(0.005 * 59 / 59.5, rel=0.02)
    assert parts[0].point_spread == pytest.approx(0.02 * 48 / 119 / 2, rel=0.01)
    assert parts[1].point_spread == 0.0
    sideways = parts_found(found, SIZE, (80, 120), TRIO, Rules(reference=90.0), None)
    assert [part.verdict for part in sideways] == ["wrong", "correct"]
    assert sideways[0].point_spread is None


def test_a_pixel_that_two_claim_counts_for_the_surer_one() -> None:
    """An arm whose mask takes in another one's half lies as its own part of it does, whichever scores higher."""
    found = detections([triple(5), triple(15, up=False)], [5, 15], [0.9, 0.8])
    boxes = torch.tensor([[15.0, 5.0, 45.0, 25.0], [15.0, 15.0, 45.0, 25.0]])
    values = torch.stack([torch.full((28, 28), 0.6), torch.full((28, 28), 0.7)])
    both = bar(5) | bar(15)
    leaking = replace(found, boxes=boxes, masks=(rle_of_mask(both), rle_of_mask(bar(15))))
    as_answered = parts_found(leaking, SIZE, SIZE, TRIO, Rules(), None)
    assert [part.verdict for part in as_answered] == ["all_same_side", "wrong"]
    shared_out = parts_found(replace(leaking, mask_probs=values), SIZE, SIZE, TRIO, Rules(), None)
    assert [part.verdict for part in shared_out] == ["correct", "wrong"]
    assert [(part.mask == bar(top)).all() for part, top in zip(shared_out, (5, 15), strict=True)] == [True, True]
    alone = parts_found(replace(leaking, mask_probs=values), SIZE, SIZE, TRIO, Rules(score=0.85), None)
    assert (alone[0].mask == both).all()  # what does not count claims nothing


def test_what_lies_in_the_masks_of_others_is_no_part() -> None:
    """One whose mask is made of two halves of surer ones; alone, or in a network without probabilities, it is one."""
    found = detections([triple(5), triple(15), triple(10)], [5, 15, 10], [0.9, 0.8, 0.7])
    values = torch.stack([torch.full((28, 28), value) for value in (0.9, 0.9, 0.6)])
    shown = [len(parts_found(replace(found, mask_probs=v), SIZE, SIZE, TRIO, Rules(), None)) for v in (values, None)]
    assert shown == [2, 3]
    alone = replace(found, mask_probs=values).keep(torch.tensor([False, False, True]))
    assert len(parts_found(alone, SIZE, SIZE, TRIO, Rules(), None)) == 1


def test_what_has_no_verdict_has_a_status() -> None:
    on_axis = [(18.0, 8.0, 2.0), (30.0, 10.0, 2.0), (42.0, 8.0, 2.0)]
    one_side = [(18.0, 8.0, 2.0), (30.0, 7.0, 2.0), (42.0, 8.0, 2.0)]
    missing = [(18.0, 8.0, 2.0), (0.0, 0.0, 0.0), (42.0, 8.0, 2.0)]
    found = detections([on_axis, one_side, missing, triple(5)], [5, 5, 5, 5], [0.9, 0.8, 0.7, 0.4])
    parts = parts_found(found, SIZE, SIZE, TRIO, Rules(), np.full(SIZE, 0.5))
    assert [part.verdict for part in parts] == ["on_axis", "all_same_side", "missing_kp"]
    assert [depth is None for depth in parts[2].point_depths] == [False, True, False]


def test_the_accuracy_counts_missed_ones_and_those_without_a_verdict() -> None:
    """Five labeled parts: one right, one wrong verdict, one status, two missed; one found where nothing is."""
    tally, rules = Tally(), Rules()
    one_side = [(18.0, 8.0, 2.0), (30.0, 7.0, 2.0), (42.0, 8.0, 2.0)]
    images = [
        (detections([triple(5)], [5], [0.9]), [labeled(5), labeled(25)]),
        (detections([triple(5)], [5], [0.9]), [labeled(5, up=False)]),
        (detections([one_side, triple(25)], [5, 25], [0.9, 0.8]), [labeled(5)]),
        (detections([], [], []), [labeled(5, up=False), labeled(25, keypoints=()), labeled(15, crowd=True)]),
    ]
    for found, objects in images:
        one = record(objects)
        tally.add(matched(one, parts_found(found, SIZE, SIZE, TRIO, rules, None), parts_labeled(one, TRIO, rules)))
    assert (tally.images, tally.labeled, tally.right, tally.missed, tally.without_verdict, tally.extra) == (
        *(4, 5, 1, 2, 1, 1),
    )
    assert tally.accuracy == 0.2
    assert tally.confusion == {
        ("correct", "correct"): 1, ("wrong", "correct"): 1, ("correct", "all_same_side"): 1,
        ("correct", "missed"): 1, ("wrong", "missed"): 1,
    }  # fmt: skip
    assert tally.unjudged == {"missing_kp": 1}
    assert Tally().accuracy is None


def test_two_detections_of_one_part_are_one_and_an_extra() -> None:
    one = record([labeled(5)])
    found = parts_found(detections([triple(5), triple(6)], [5, 6], [0.6, 0.9]), SIZE, SIZE, TRIO, Rules(), None)
    placed = matched(one, found, parts_labeled(one, TRIO, Rules()))
    assert [(part.truth, round(part.score, 1)) for part in placed.parts] == [("correct", 0.9), ("none", 0.6)]
    assert not placed.is_right
    unlabeled = matched(record(None), found, parts_labeled(record(None), TRIO, Rules()))
    assert [part.truth for part in unlabeled.parts] == ["", ""]
    assert unlabeled.is_right


class Fixed:
    """A network that always answers the same."""

    def predict(self, images: torch.Tensor, heads: Sequence[str]) -> list[Prediction]:
        return [Prediction({"instances": detections([triple(5)], [5], [0.9])}) for _ in images]


def card(tasks: Sequence[str] = ("detection", "instances", "keypoints"), classes: ClassMap = CLASSES) -> Card:
    return Card(Component("rcnn"), tuple(tasks), classes, SIZE, 1)


def prepared(folder: Path, *records: Record) -> Manifest:
    """A manifest whose images are there."""
    for one in records:
        write_maps(folder, one.id.removesuffix(".png"), {"images": np.zeros((*SIZE, 3), np.uint8)})
    there = [replace(one, uri=f"images/{one.id}") for one in records]
    write_manifest(folder / "manifest.parquet", there, CLASSES, (255,) * 256, SIZE)
    return Manifest.open(folder)


def test_depth_maps_lie_beside_or_in_a_folder_of_their_own(tmp_path: Path) -> None:
    manifest = prepared(tmp_path, record([labeled(5)]), record(None, id="b.png"))
    rows = manifest.rows()
    plain = list(placed_in(Fixed(), card(), manifest, rows, Rules()))
    assert [one.parts[0].mask_depth for one in plain] == [None, None]
    maps = tmp_path / "maps"
    maps.mkdir()
    rules = Rules(depth=maps)
    with pytest.raises(RunError, match=r"has no depth map of [ab]\.png; expected [ab]\.npy"):
        list(placed_in(Fixed(), card(), manifest, rows, rules))
    for name in "ab":
        np.save(maps / f"{name}.npy", np.full(SIZE, 0.47, np.float32))
    found = list(placed_in(Fixed(), card(), manifest, rows, rules))
    assert all(one.parts[0].mask_depth.mean == pytest.approx(0.47) for one in found)  # type: ignore[union-attr]
    np.save(maps / "b.npy", np.full((3, 3), 0.47, np.float32))
    with pytest.raises(RunError, match=r"b\.npy: is 3 x 3 px .*; expected 40 x 60"):
        list(placed_in(Fixed(), card(), manifest, rows, rules))
    (tmp_path / "images" / "b.png").write_bytes(b"no picture")
    with pytest.raises(RunError, match=r"data: images/b\.png: cannot be decoded"):
        list(placed_in(Fixed(), card(), manifest, rows, Rules()))


def test_networks_and_rules_that_cannot_be(tmp_path: Path) -> None:
    check_card(card(), "model.pt")
    with pytest.raises(ConfigError, match=r"model\.pt: has no task instances \(its tasks are detection\); expected"):
        check_card(card(("detection",)), "model.pt")
    with pytest.raises(ConfigError, match=r"no class has three keypoints \(they are p\)"):
        check_card(card(classes=ClassMap(("x",), (), (-1,), ("p",))), "model.pt")
    for name, wrong in (("reference", float("inf")), ("score", 1.5), ("erosion", -1), ("per_metre", 0.0)):
        with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} .*: expected"):
            Rules(**{name: wrong})
    with pytest.raises(ConfigError, match=r"--depth .*gone: no such folder"):
        Rules(depth=tmp_path / "gone")
