"""The arithmetic of BoxMask against independent float64 loops, and its edge cases."""

from pathlib import Path

import numpy as np
import pytest
import torch

from strategies.boxmask_terms import BoxTable, Rules, boxmask_scores, on_classes
from strategies.views import crop_windows
from tests.golden import BOXMASK_VARIANTS, boxmask_pipeline, boxmask_table, boxmask_value, load

PRECISIONS = {"float32": (torch.float32, 1e-5), "float64": (torch.float64, 1e-8)}


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("variant", BOXMASK_VARIANTS)
def test_all_cases_match_the_loops(shared: Path, variant: str, precision: str) -> None:
    golden = load(shared, "boxmask_scores")
    dtype, tolerance = PRECISIONS[precision]
    for name in golden["case_names"]:
        table, to_seg = boxmask_table(golden, [name], dtype)
        found = boxmask_scores(table, to_seg, BOXMASK_VARIANTS[variant])
        expected = {k: golden[f"{name}/expect_{variant}/{k}"] for k in ("s_loc", "s_cls", "s_seg", "bm_area", "score")}
        np.testing.assert_array_equal(found.area, expected["bm_area"])
        for key in ("s_loc", "s_cls"):
            np.testing.assert_allclose(getattr(found, key), expected[key], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(found.s_seg[0], expected["s_seg"], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(boxmask_value(found), expected["score"], rtol=tolerance, atol=tolerance)
        if variant == "default":
            np.testing.assert_array_equal(found.union[0], golden[f"{name}/expect_default/union"])


@pytest.mark.slow
def test_a_batch_equals_its_images_alone_to_the_last_bit(shared: Path) -> None:
    golden = load(shared, "boxmask_scores")
    same = [n for n in golden["case_names"] if golden[f"{n}/det_to_seg"].tolist() == [4, 5, 6, 7, 8]]
    for rules in BOXMASK_VARIANTS.values():
        together = boxmask_scores(*boxmask_table(golden, same, torch.float32), rules)
        alone = [boxmask_scores(*boxmask_table(golden, [n], torch.float32), rules) for n in same]
        for key in ("s_loc", "s_cls", "s_seg", "area", "union"):
            assert torch.equal(getattr(together, key), torch.cat([getattr(one, key) for one in alone])), key


@pytest.mark.parametrize("case", ["e0", "e1", "e2"])
def test_from_image_to_score(shared: Path, case: str) -> None:
    golden = load(shared, "boxmask_end_to_end")
    expected = {k.partition("/expect_")[2]: golden[k] for k in golden if k.startswith(f"{case}/expect_")}
    windows, crops, found = boxmask_pipeline(golden, case)
    np.testing.assert_allclose(windows, expected["windows"], rtol=0, atol=5e-9)
    np.testing.assert_allclose(crops, expected["crop_images"], atol=1e-7)  # and rtol 1e-7: kept in float32
    np.testing.assert_array_equal(found.area, expected["bm_area"])
    np.testing.assert_array_equal(found.union[0], expected["union"])
    for key in ("s_loc", "s_cls"):
        np.testing.assert_allclose(getattr(found, key), expected[key], rtol=0, atol=5e-9)
    np.testing.assert_allclose(found.s_seg[0], expected["s_seg"], rtol=0, atol=5e-9)
    np.testing.assert_allclose(boxmask_value(found), expected["score"], rtol=0, atol=5e-9)


def test_a_window_never_gets_a_second_point_a_bin_by_rounding() -> None:
    """A side equal to the crop size means one sampling point a bin: the crop shows pixels, not means of pixels."""
    image = torch.rand(1, 1, 300, 400, generator=torch.Generator().manual_seed(1))
    lefts = torch.arange(200, dtype=torch.float32) * 1.7 + 0.1
    windows = torch.stack([lefts, torch.full_like(lefts, 100.3), torch.full_like(lefts, 32.0)], 1)
    rows = torch.zeros(len(lefts), dtype=torch.int64)
    narrow = windows - torch.tensor([0.0, 0.0, 1e-3])  # surely one point a bin, and moved by less than 1e-3 px
    difference = crop_windows(image, rows, windows, 32) - crop_windows(image, rows, narrow, 32)
    assert difference.abs().max() < 5e-3


def test_classes_that_share_a_target_add_up_and_a_zero_vector_is_no_nan() -> None:
    probs = torch.tensor([[0.2, 0.2, 0.4], [0.0, 0.0, 0.0]])
    spread = on_classes(probs, torch.tensor([1, 1, -1]), 3)
    torch.testing.assert_close(spread, torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))


def test_outside_the_boxes_is_not_outside_the_masks() -> None:
    seg = torch.full((1, 2, 4, 4), 0.5)
    seg[:, 1] = 0.9
    table = BoxTable(
        seg_probs=seg / seg.sum(1, keepdim=True),
        image=torch.tensor([0]),
        boxes=torch.tensor([[0.0, 0.0, 4.0, 4.0]]),
        labels=torch.tensor([1]),
        class_probs=torch.tensor([[1.0]]),
        crop_probs=torch.zeros(1, 4, 4),
        windows=torch.tensor([[0.0, 0.0, 4.0, 4.0]]),
    )
    to_seg = torch.tensor([1])
    assert boxmask_scores(table, to_seg, Rules(outside="masks")).s_seg.tolist() == [1.0]
    assert boxmask_scores(table, to_seg, Rules(outside="boxes")).s_seg.tolist() == [0.0]


def one_box(seg: torch.Tensor, box: list[float], probs: list[float], label: int = 1) -> BoxTable:
    """A box in an image of ``seg [K, h, w]``, whose crop is the object everywhere."""
    height, width = seg.shape[1:]
    return BoxTable(
        seg_probs=seg[None],
        image=torch.tensor([0]),
        boxes=torch.tensor([box]),
        labels=torch.tensor([label]),
        class_probs=torch.tensor([probs]),
        crop_probs=torch.ones(1, 4, 4),
        windows=torch.tensor([[0.0, 0.0, width, height]]),
    )


def test_of_equal_classes_the_lowest_wins() -> None:
    seg = torch.tensor([0.4, 0.4, 0.2])[:, None, None].expand(3, 4, 8).contiguous()
    found = boxmask_scores(one_box(seg, [0.0, 0.0, 4.0, 4.0], [1.0]), torch.tensor([1]))
    assert found.s_loc.tolist() == [1.0]  # the box's class is the second of the two
    assert found.s_seg.tolist() == [0.0]
    found = boxmask_scores(one_box(seg, [0.0, 0.0, 4.0, 4.0], [1.0], 0), torch.tensor([0]))
    assert found.s_loc.tolist() == [0.0]
    assert found.s_seg.tolist() == [1.0]


@pytest.mark.parametrize(
    ("box", "area"),
    [
        ([3.0, 2.0, 3.0, 2.0], 1),  # a point
        ([3.2, 1.0, 3.2, 4.0], 3),  # without width
        ([-5.0, -5.0, 1.5, 1.0], 2),  # partly outside
        ([7.5, 3.5, 99.0, 99.0], 1),
        ([8.0, 0.0, 9.0, 4.0], 0),  # wholly outside: its left edge is the image's right one
        ([-3.0, 0.0, 0.0, 4.0], 0),
    ],
)
def test_a_box_has_at_least_a_pixel_unless_it_is_off_the_image(box: list[float], area: int) -> None:
    seg = torch.full((2, 4, 8), 0.5)
    found = boxmask_scores(one_box(seg, box, [1.0]), torch.tensor([1]))
    assert found.area.tolist() == [area]
    assert all(torch.isfinite(x).all() for x in (found.s_loc, found.s_cls, found.s_seg))
    assert bool(found.s_cls[0] > 0) == (area > 0)


@pytest.mark.parametrize("eps", [1e-2, 1e-3, 1e-6, 1e-8])
def test_the_floor_decides_how_much_total_disagreement_counts(eps: float) -> None:
    seg = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 4, 8).contiguous()
    found = boxmask_scores(one_box(seg, [0.0, 0.0, 4.0, 4.0], [1.0]), torch.tensor([1]), Rules(eps=eps))
    assert float(found.s_cls[0]) == pytest.approx(np.log(1 / eps) * (1 - eps) / (1 + 2 * eps), rel=1e-5)
