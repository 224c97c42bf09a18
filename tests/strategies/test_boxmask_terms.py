"""The arithmetic of BoxMask against independent float64 loops, and its edge cases."""

from pathlib import Path

import numpy as np
import pytest
import torch

from strategies.boxmask_terms import BoxTable, Rules, boxmask_scores, on_classes
from strategies.views import boxmask_windows, crop_windows

VARIANTS = {
    "default": Rules(),
    "eps1e3": Rules(eps=1e-3),
    "eps1e8": Rules(eps=1e-8),
    "empty_one": Rules(empty="one"),
    "empty_box": Rules(empty="box"),
    "support_det": Rules(support="det"),
    "soft_seg": Rules(soft_seg=True),
    "tau05": Rules(tau=0.5),
}
PRECISIONS = {"float32": (torch.float32, 1e-5), "float64": (torch.float64, 1e-8)}


def load(shared: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(shared / "golden" / f"{name}.npz") as file:
        return dict(file)


def golden_table(golden, names, dtype) -> tuple[BoxTable, torch.Tensor]:
    """Cases of one class map as one batch."""
    of = {
        key: [torch.from_numpy(golden[f"{n}/{key}"]) for n in names]
        for key in ("seg_prob", "boxes", "labels", "det_prob", "crop_prob", "windows", "det_to_seg")
    }
    to_seg = of["det_to_seg"][0]
    labels = to_seg[torch.cat(of["labels"])]
    crops = torch.cat(of["crop_prob"])[torch.arange(len(labels)), labels.clamp(min=0)]
    windows = torch.cat(of["windows"])
    return BoxTable(
        seg_probs=torch.stack(of["seg_prob"]).to(dtype),
        image=torch.repeat_interleave(torch.tensor([len(b) for b in of["boxes"]])),
        boxes=torch.cat(of["boxes"]).to(dtype),
        labels=labels,
        class_probs=torch.cat(of["det_prob"]).to(dtype),
        crop_probs=crops.to(dtype),
        windows=windows[:, [0, 1, 2, 2]].to(dtype),
    ), to_seg


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_all_cases_match_the_loops(shared: Path, variant: str, precision: str) -> None:
    golden = load(shared, "boxmask_scores")
    dtype, tolerance = PRECISIONS[precision]
    for name in golden["case_names"]:
        table, to_seg = golden_table(golden, [name], dtype)
        found = boxmask_scores(table, to_seg, VARIANTS[variant])
        expected = {k: golden[f"{name}/expect_{variant}/{k}"] for k in ("s_loc", "s_cls", "s_seg", "bm_area", "score")}
        np.testing.assert_array_equal(found.area, expected["bm_area"])
        for key in ("s_loc", "s_cls"):
            np.testing.assert_allclose(getattr(found, key), expected[key], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(found.s_seg[0], expected["s_seg"], rtol=tolerance, atol=tolerance)
        best = max((found.s_loc + found.s_cls).tolist(), default=0.0)
        np.testing.assert_allclose(float(found.s_seg[0]) + best, expected["score"], rtol=tolerance, atol=tolerance)
        if variant == "default":
            np.testing.assert_array_equal(found.union[0], golden[f"{name}/expect_default/union"])


def test_a_batch_equals_its_images_alone_to_the_last_bit(shared: Path) -> None:
    golden = load(shared, "boxmask_scores")
    same = [n for n in golden["case_names"] if golden[f"{n}/det_to_seg"].tolist() == [4, 5, 6, 7, 8]]
    for rules in VARIANTS.values():
        together = boxmask_scores(*golden_table(golden, same, torch.float32), rules)
        alone = [boxmask_scores(*golden_table(golden, [n], torch.float32), rules) for n in same]
        for key in ("s_loc", "s_cls", "s_seg", "area", "union"):
            assert torch.equal(getattr(together, key), torch.cat([getattr(one, key) for one in alone])), key


@pytest.mark.parametrize("case", ["e0", "e1", "e2"])
def test_from_image_to_score(shared: Path, case: str) -> None:
    golden = load(shared, "boxmask_end_to_end")
    of = {k.split("/")[1]: torch.from_numpy(golden[k]) for k in golden if k.startswith(case + "/")}
    weight, bias = (torch.from_numpy(golden[k]).double() for k in ("weight", "bias"))
    to_seg = torch.from_numpy(golden["det_to_seg"])

    def network(images: torch.Tensor) -> torch.Tensor:
        return torch.softmax(torch.einsum("kc,nchw->nkhw", weight, images) + bias[:, None, None], 1)

    image, boxes, labels = of["image"][None].double(), of["boxes"].double(), to_seg[of["labels"]]
    windows = boxmask_windows(boxes)
    np.testing.assert_allclose(windows, of["expect_windows"], atol=1e-9)
    crops = crop_windows(
        image, torch.zeros(len(boxes), dtype=torch.int64), windows, int(of["crop_size"]), int(of["points_per_bin"])
    )
    np.testing.assert_allclose(crops, of["expect_crop_images"], atol=1e-6)
    table = BoxTable(
        seg_probs=network(image),
        image=torch.zeros(len(boxes), dtype=torch.int64),
        boxes=boxes,
        labels=labels,
        class_probs=of["det_prob"].double(),
        crop_probs=network(crops)[torch.arange(len(boxes)), labels],
        windows=windows[:, [0, 1, 2, 2]],
    )
    found = boxmask_scores(table, to_seg)
    np.testing.assert_array_equal(found.area, of["expect_bm_area"])
    np.testing.assert_array_equal(found.union[0], of["expect_union"])
    np.testing.assert_allclose(found.s_loc, of["expect_s_loc"], atol=5e-9)
    np.testing.assert_allclose(found.s_cls, of["expect_s_cls"], atol=5e-7)
    np.testing.assert_allclose(found.s_seg[0], of["expect_s_seg"], atol=5e-9)
    np.testing.assert_allclose(found.s_seg[0] + (found.s_loc + found.s_cls).max(), of["expect_score"], atol=5e-7)


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
