"""Masks in their place to the pixel; what lies in a crowd."""

import numpy as np
import pytest
import torch
from torchvision.ops import roi_align

from tasks.geometry import mask_of_rle, rle_area
from tasks.nets.regions import in_crowd, pasted

SIZE = (40, 60)
FULL = torch.ones(28, 28)


@pytest.mark.parametrize("box", [(5, 7, 25, 30), (0, 0, 60, 40), (59, 39, 60, 40), (3, 3, 4, 30)])
def test_a_full_mask_of_an_integer_box_is_its_rectangle(box: tuple[int, int, int, int]) -> None:
    x1, y1, x2, y2 = box
    truth = np.zeros(SIZE, np.bool_)
    truth[y1:y2, x1:x2] = True
    assert (mask_of_rle(pasted(FULL, torch.tensor(box).float(), SIZE)) == truth).all()


def test_a_pixel_belongs_to_a_box_that_holds_its_centre() -> None:
    assert rle_area(pasted(FULL, torch.tensor([4.4, 7.0, 25.4, 30.0]), SIZE)) == 21 * 23
    assert rle_area(pasted(FULL, torch.tensor([4.6, 7.0, 25.6, 30.0]), SIZE)) == 21 * 23
    assert rle_area(pasted(FULL, torch.tensor([4.6, 7.0, 5.4, 30.0]), SIZE)) == 0
    assert rle_area(pasted(FULL * 0, torch.tensor([4.0, 7.0, 25.0, 30.0]), SIZE)) == 0


def test_what_is_cut_out_for_training_comes_back_in_its_place() -> None:
    """The target of a region, pasted into it again, is the mask: neither is shifted by half a pixel."""
    y, x = np.mgrid[:40, :60] + 0.5
    truth = ((x - 27.3) / 15) ** 2 + ((y - 19.6) / 11) ** 2 < 1
    box = torch.tensor([10.0, 6.0, 45.0, 33.0])
    rois = torch.cat([torch.zeros(1), box])[None]
    target = roi_align(torch.from_numpy(truth)[None, None].float(), rois, (28, 28), aligned=True)[0, 0]
    again = mask_of_rle(pasted(target, box, SIZE))
    assert (again & truth).sum() / (again | truth).sum() > 0.97
    for axis in (0, 1):
        middles = [np.nonzero(mask)[axis].mean() for mask in (again, truth)]
        assert middles[0] == pytest.approx(middles[1], abs=0.1)


def test_more_than_half_in_a_crowd() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 4, 4], [4.9, 0, 9.9, 10], [20.0, 20, 30, 30]])
    crowd = torch.tensor([[0.0, 0, 5, 10], [20.0, 20, 60, 60]])
    assert in_crowd(boxes, crowd).tolist() == [False, True, False, True]
    assert in_crowd(boxes, crowd[:0]).tolist() == [False] * 4
