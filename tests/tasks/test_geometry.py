"""Boxes, points and masks move exactly, and together."""

from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from tasks import geometry as g

RNG = np.random.default_rng(0)


def test_box_forms_and_areas() -> None:
    boxes = torch.tensor([[[10.0, 20, 30, 60]], [[5, 5, 5, 9]]])
    assert g.xywh_of(boxes).tolist() == [[[10, 20, 20, 40]], [[5, 5, 0, 4]]]
    assert torch.equal(g.xyxy_of(g.xywh_of(boxes)), boxes)
    assert g.box_area(boxes).tolist() == [[800.0], [0.0]]
    assert g.box_area(torch.tensor([3.0, 3, 1, 1])).item() == 0.0


def test_clip() -> None:
    boxes = torch.tensor([[-5.0, -1, 500, 20], [10, 10, 20, 400]])
    assert g.clip_boxes(boxes, (300, 480)).tolist() == [[0, 0, 480, 20], [10, 10, 20, 300]]


def test_iou_by_hand_batched_and_empty() -> None:
    a = torch.tensor([[0.0, 0, 10, 10], [0, 0, 0, 0]])
    b = torch.tensor([[5.0, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30]])
    iou = g.box_overlaps(a, b)[0]
    assert iou[0].tolist() == pytest.approx([50 / 150, 1.0, 0.0])
    assert iou[1].tolist() == [0.0, 0.0, 0.0]
    assert torch.equal(g.box_overlaps(a.expand(3, 2, 4), b.expand(3, 3, 4))[0], iou.expand(3, 2, 3))
    assert g.box_overlaps(a[1:], a[1:])[0].item() == 0.0
    assert g.box_overlaps(a[:0], b)[0].shape == (0, 3)


def test_iou_agrees_with_pycocotools() -> None:
    rng = np.random.default_rng(0)
    xywh = rng.uniform(1, 50, (2, 6, 4))
    a, b = g.xyxy_of(torch.from_numpy(xywh[0])), g.xyxy_of(torch.from_numpy(xywh[1]))
    want = coco_mask.iou(xywh[0], xywh[1], [0] * 6)
    assert np.allclose(g.box_overlaps(a, b)[0].numpy(), want)


def test_flips_are_the_mirror_matrix_and_undo_themselves() -> None:
    boxes = torch.tensor([[10.0, 10, 30, 20], [0, 0, 0.25, 5]])
    flipped = g.hflip_boxes(boxes, 200)
    assert flipped[0].tolist() == [170, 10, 190, 20]
    assert torch.equal(g.affine_boxes(boxes, g.hflip_matrix(200)), flipped)
    assert torch.equal(g.hflip_boxes(flipped, 200), boxes)


def test_keypoints_flip_with_pairs_and_keep_unlabeled() -> None:
    points = torch.tensor([[[10.0, 5, 2], [0, 0, 0], [30, 6, 1]]])
    flipped = g.hflip_keypoints(points, 100, [(1, 2)])
    assert flipped.tolist() == [[[90, 5, 2], [70, 6, 1], [0, 0, 0]]]
    assert torch.equal(g.hflip_keypoints(flipped, 100, [(1, 2)]), points)


def test_affine_keypoints_outside_become_unlabeled() -> None:
    matrix = g.window_matrix((10.0, 10.0, 60.0, 60.0), (100, 100))
    points = torch.tensor([[[10.0, 10, 2], [60, 20, 2], [35, 35, 1], [0, 0, 0]]])
    assert g.affine_keypoints(points, matrix, (100, 100)).tolist() == [[[0, 0, 2], [0, 0, 0], [50, 50, 1], [0, 0, 0]]]


def test_affine_boxes_batched_rotation_hull() -> None:
    quarter = torch.tensor([[0.0, -1, 50], [1, 0, 0]])  # x, y -> 50 - y, x
    boxes = torch.tensor([[[10.0, 20, 30, 25]], [[0, 0, 4, 2]]])
    got = g.affine_boxes(boxes, quarter.expand(2, 2, 3))
    assert got.tolist() == [[[25, 10, 30, 30]], [[48, 0, 50, 4]]]
    assert g.affine_boxes(boxes[:, :0], quarter.expand(2, 2, 3)).shape == (2, 0, 4)


def test_compose_and_invert() -> None:
    first = g.window_matrix((3.0, 5.0, 40.0, 50.0), (90, 160))
    second = g.hflip_matrix(160)
    points = torch.tensor([[3.0, 5], [20, 30]])
    both = g.affine_points(points, g.compose_affine(second, first))
    assert torch.allclose(both, g.affine_points(g.affine_points(points, first), second))
    assert both[0].tolist() == pytest.approx([160, 0], abs=1e-4)
    assert torch.allclose(g.affine_points(both, g.invert_affine(g.compose_affine(second, first))), points, atol=1e-4)


def test_polygon_edges_are_exact_and_flip_with_their_mask() -> None:
    rle = g.rle_of_polygons([[10, 10, 30, 10, 30, 20, 10, 20]], (100, 200))
    assert g.rle_area(rle) == 200
    assert g.mask_box(g.mask_of_rle(rle)) == (10, 10, 30, 20)
    mirrored = g.rle_of_polygons([[190, 10, 170, 10, 170, 20, 190, 20]], (100, 200))
    assert g.hflip_rles([rle, None]) == (mirrored, None)
    assert g.hflip_rles([mirrored]) == (rle,)


def test_polygon_parts_are_united() -> None:
    two = g.rle_of_polygons([[0, 0, 4, 0, 4, 4, 0, 4], [2, 0, 6, 0, 6, 4, 2, 4]], (10, 10))
    assert g.rle_area(two) == 24


def test_uncompressed_rle_is_column_major_zeros_first() -> None:
    mask = g.mask_of_rle(g.rle_of({"size": [10, 5], "counts": [0, 20, 30]}, (10, 5)))
    assert mask[:, :2].all()
    assert not mask[:, 2:].any()


def test_run_lengths_undo_the_compression() -> None:
    rng = np.random.default_rng(1)
    for share in (0.0, 0.02, 0.5, 1.0):
        mask = rng.random((37, 53)) < share
        runs = g.run_lengths(bytes(g.rle_of_mask(mask)["counts"]))  # type: ignore[call-overload]
        assert sum(runs) == mask.size
        assert np.array_equal(np.repeat(np.arange(len(runs)) % 2, runs).reshape(53, 37).T, mask)
        assert g.rle_of(g.rle_of_mask(mask), (37, 53)) == g.rle_of_mask(mask)
        assert g.rle_of({"size": [37, 53], "counts": runs}, (37, 53)) == g.rle_of_mask(mask)


def test_run_lengths_are_those_of_the_plain_algorithm() -> None:
    """COCO's groups of five bits, a byte at a time; also what no mask has, such as runs below 0."""

    def plainly(counts: bytes) -> list[int]:
        runs: list[int] = []
        value = shift = 0
        for byte in counts:
            value |= (byte - 48 & 0x1F) << shift
            shift += 5
            if not byte - 48 & 0x20:
                value -= (1 << shift) if byte - 48 & 0x10 else 0
                runs.append(value + runs[-2] if len(runs) > 2 else value)
                value = shift = 0
        return runs

    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 3, 4, 5, 30, 300):
        for _ in range(20):
            codes = rng.integers(0, 64, count)
            codes[3::4] &= ~32  # no number is longer than four characters
            codes[-1:] = 2
            counts = (codes + 48).astype(np.uint8).tobytes()
            assert g.run_lengths(counts) == plainly(counts)
    with pytest.raises(ValueError, match="more than 7 characters"):
        g.run_lengths(b"o" * 8 + b"1")


@pytest.mark.parametrize(
    "part",
    [
        [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, float("nan")], [float("nan"), 2, 3, 4, 5, 6],
        [1, 2, 3, 4, 5, float("inf")], [1, 2, 3, 4, 5, -1e9], [1, 2, 3, 4, 5, 10**400], [1, 2, "3", 4, 5, 6],
        ["1"] * 6, [None] * 6, [[1]] * 6,
    ],
)  # fmt: skip
def test_what_is_no_polygon_is_told(part: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"a polygon has the \d values .*; expected x, y of >= 3 points in the image"):
        g.rle_of_polygons([[0, 0, 1, 0, 1, 1], part], (20, 30))


@pytest.mark.parametrize(
    "mask",
    [
        {"size": 5, "counts": [600]}, {"size": [20], "counts": [600]}, {"size": [20, None], "counts": [600]},
        {"size": [20, float("inf")], "counts": [600]}, {"size": [20, 30], "counts": 5},
        {"size": [20, 30], "counts": [float("inf")]}, {"size": [20, 30], "counts": [None]},
        {"size": [20, 30], "counts": [10**400]}, {"size": [20, 30], "counts": [601, -1]}, {"size": [20, 30]}, 5, "ab",
    ],
)  # fmt: skip
def test_what_is_no_mask_is_told(mask: Any) -> None:
    with pytest.raises(ValueError, match=r"a mask.*; expected|cannot convert float"):
        g.rle_of(mask, (20, 30))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"size": [10, 5], "counts": [0, 20, 10]}, "add up to 30 px; expected the image's 50"),
        ({"size": [10, 5], "counts": [0, -20, 70]}, "add up to 50"),
        ({"size": [5, 10], "counts": [50]}, "is of 5 x 10 px; expected the image's 10 x 5"),
        ({"size": [10, 5], "counts": "P"}, "end inside a number"),
        ({"size": [10, 5], "counts": b"0d0:"}, "add up to 30"),
        ("nothing", "expected polygons or an RLE"),
        ([[0, 0, 1, 1]], "the 4 values"),
        ([[0, 0, 1, float("nan"), 3, 3]], "the 6 values"),
    ],
)
def test_bad_masks_are_named(mask: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        g.rle_of(mask, (10, 5))


def test_nearest_takes_the_pixel_under_the_centre() -> None:
    image = np.arange(12).reshape(3, 4)
    assert np.array_equal(g.resize_nearest(image, (6, 8)), image.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(g.resize_nearest(image.repeat(3, 0).repeat(3, 1), (3, 4)), image)
    assert np.array_equal(g.sample_nearest(image, (1, 1, 3, 3), (2, 2)), image[1:3, 1:3])
    assert g.resize_nearest(image, (3, 4)) is image


def test_windowed_masks_follow_their_box() -> None:
    rle = g.rle_of_polygons([[10, 10, 30, 10, 30, 20, 10, 20]], (100, 200))
    window = (0.0, 0.0, 100.0, 50.0)
    moved = g.window_rles([rle, None], window, (100, 200))
    assert moved[1] is None
    assert moved[0] is not None
    box = g.affine_boxes(torch.tensor([[10.0, 10, 30, 20]]), g.window_matrix(window, (100, 200)))[0]
    assert g.mask_box(g.mask_of_rle(moved[0])) == tuple(box.tolist()) == (20, 20, 60, 40)


def test_box_of_an_empty_mask_is_none() -> None:
    assert g.mask_box(np.zeros((4, 4), dtype=bool)) is None


def test_polygons_and_points() -> None:
    """By hand, on a U whose opening is [10, 20] x [0, 20]: what lies in the opening is outside."""
    u = np.array([[0, 0], [10, 0], [10, 20], [20, 20], [20, 0], [30, 0], [30, 30], [0, 30]], np.float64)
    assert g.polygon_area(u) == g.polygon_area(u[::-1] + 1e6) == 700
    points = {(5, 5): 0, (30, 7): 0, (0, 0): 0, (15, 25): 0, (13, 5): 3, (15, 19): 1, (33, 34): 5, (-2, 10): 2}
    assert {point: g.polygon_distance(u, *point) for point in points} == points
    mask = np.zeros((10, 10), bool)
    assert g.mask_distance(mask, 1, 1) == np.inf
    mask[4:6, 4:6] = True
    assert [g.mask_distance(mask, *point) for point in ((4.5, 5.5), (6, 6), (9, 10), (1, 5))] == [0, 0, 5, 3]


def test_areas_of_many_are_areas_of_each() -> None:
    rings = [RNG.uniform(-50, 900, (n, 2)) for n in (3, 40, 4, 9)]
    areas = g.polygon_areas(np.concatenate(rings), np.array([0, 3, 43, 47]))
    assert areas.tolist() == [g.polygon_area(ring) for ring in rings]


@pytest.mark.parametrize("full", [0.0, 0.05, 0.6, 1.0])
def test_a_patch_is_its_mask(full: float) -> None:
    for _ in range(20):
        mask = RNG.random((17, 23)) < full
        mask[:, 5:8] |= RNG.random() < 0.3  # runs that go on in the next column
        rle = g.rle_of_mask(mask)
        patch, top, left = g.patch_of_rle(rle)
        again = np.zeros_like(mask)
        again[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
        assert np.array_equal(again, mask)
        assert g.rle_of_patch(patch, top, left, mask.shape) == (rle, mask.sum(), g.mask_box(mask))


def test_runs_of_no_image_are_refused() -> None:
    with pytest.raises(ValueError, match="a number of more than 7 characters; expected a compressed RLE"):
        g.run_lengths(b"oooooooo0"[1:])
    with pytest.raises(ValueError, match="end inside a number"):
        g.run_lengths(b"0o")
    assert g.run_lengths(b"") == []
