"""Masks in their place to the pixel, and each pixel to one object."""

import numpy as np
import pytest
import torch
from torchvision.ops import roi_align

from tasks.geometry import mask_of_rle, rle_area
from tasks.mask_patches import owners, pasted

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


def test_a_pixel_is_of_the_surest_object() -> None:
    """An object that is alone keeps its whole mask; what leaks into a surer neighbour is the neighbour's."""
    boxes = torch.tensor(
        [[0.0, 0.0, 30.0, 40.0], [20.0, 0.0, 50.0, 40.0], [52.0, 2.0, 58.0, 8.0], [9.6, 5.0, 9.9, 6.0]]
    )
    values = torch.stack([FULL * 0.9, FULL * 0.8, FULL * 0.6, FULL])
    expected = np.full(SIZE, -1)
    expected[:, 20:50] = 1
    expected[:, :30] = 0
    expected[2:8, 52:58] = 2
    assert (owners(values, boxes, SIZE) == expected).all()
    turned = owners(values.flip(0), boxes.flip(0), SIZE)
    assert (np.where(turned < 0, -1, 3 - turned) == expected).all()


def test_of_equals_the_first_has_the_pixel_and_a_half_is_not_enough() -> None:
    boxes = torch.tensor([[0.0, 0.0, 30.0, 40.0]] * 2)
    both = owners(torch.stack([FULL, FULL]), boxes, SIZE)
    assert [int((both == i).sum()) for i in (-1, 0, 1)] == [1200, 1200, 0]
    assert (owners(torch.stack([FULL, FULL]) / 2, boxes, SIZE) == -1).all()
    assert (owners(torch.zeros(0, 28, 28), torch.zeros(0, 4), SIZE) == -1).all()


def test_alone_it_is_the_pasted_mask() -> None:
    values = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(1))
    box = torch.tensor([3.3, 4.7, 41.2, 33.9])
    assert ((owners(values, box[None], SIZE) == 0) == mask_of_rle(pasted(values[0], box, SIZE))).all()
