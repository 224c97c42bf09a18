"""Views say truly where their pixels come from."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.views import BoxCrops, HFlip, boxmask_windows, confident_boxes
from tasks.types import Detections, Prediction

FILL = torch.tensor([0.2, 0.5, 0.7])


def detections(boxes: list[list[float]], scores: list[float]) -> Detections:
    count = len(boxes)
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).view(count, 4),
        torch.tensor(scores),
        torch.zeros(count, dtype=torch.int64),
        torch.ones(count, 2),
    )


def seen(*found: Detections) -> list[Prediction]:
    return [Prediction({"detection": one}) for one in found]


def ramps(height: int, width: int) -> torch.Tensor:
    """Two channels that hold the x and y of each pixel's centre, so that a pixel says where it is from."""
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width), torch.zeros(height, width)])[None]


def test_equal_parameters_are_one_view_whatever_its_heads() -> None:
    assert {HFlip(("segmentation",)): 1}[HFlip(("detection",))] == 1
    assert BoxCrops(64) == BoxCrops(64, reads=("depth",))
    assert BoxCrops(64) != BoxCrops(128)
    assert repr(HFlip(("segmentation",))) == repr(HFlip(("detection",)))


def test_flip_maps_pixels_where_its_matrix_says() -> None:
    images = ramps(4, 6).repeat(2, 1, 1, 1)
    shown = HFlip().render(images, {"depth": images[:, :1]}, None, [], FILL)
    assert shown.index.tolist() == [0, 1]
    x, y = 1.5, 2.5
    moved = shown.matrix[1] @ torch.tensor([x, y, 1.0])
    assert moved.tolist() == [4.5, 2.5]
    assert shown.images[1, :2, int(moved[1]), int(moved[0])].tolist() == [x, y]
    assert torch.equal(shown.inputs["depth"], images[:, :1].flip(-1))
    assert torch.equal(HFlip().render(shown.images, {}, None, [], FILL).images, images)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(
    left=st.floats(5, 40),
    top=st.floats(5, 20),
    width=st.floats(1, 30),
    height=st.floats(1, 25),
    size=st.sampled_from([8, 16]),
)
def test_crops_show_what_their_matrix_says(left: float, top: float, width: float, height: float, size: int) -> None:
    images = ramps(64, 96)
    view = BoxCrops(size, margin=0.0, min_side=4.0)
    plain = seen(detections([[left, top, left + width, top + height]], [0.9]))
    shown = view.render(images, {}, plain, [], torch.zeros(3))
    assert shown.images.shape == (1, 3, size, size)
    back = torch.linalg.inv(torch.cat([shown.matrix[0], torch.tensor([[0.0, 0.0, 1.0]])]))
    for row, column in ((0, 0), (size // 2, 1), (size - 1, size - 1)):
        x, y, _ = (back @ torch.tensor([column + 0.5, row + 0.5, 1.0])).tolist()
        if 1 <= x <= 95 and 1 <= y <= 63:
            side = float(size / shown.matrix[0, 0, 0])
            near = max(side / size, 1.0)  # a bin at the border of the image averages points on one side only
            assert shown.images[0, 0, row, column].item() == pytest.approx(x, abs=1e-3 if 3 < x < 93 else near)
            assert shown.images[0, 1, row, column].item() == pytest.approx(y, abs=1e-3 if 3 < y < 61 else near)


def test_outside_of_the_image_is_the_mean_colour() -> None:
    plain = seen(detections([[-90.0, -90.0, -60.0, -60.0]], [0.9]))
    shown = BoxCrops(8).render(torch.rand(1, 3, 16, 16), {"s": torch.ones(1, 1, 16, 16)}, plain, [], FILL)
    torch.testing.assert_close(shown.images[0, :, 4, 4], FILL)
    assert not shown.inputs["s"].any()


def test_the_whole_image_as_a_crop_is_the_image() -> None:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    plain = seen(detections([[0.0, 0.0, 64.0, 64.0]], [0.9]))
    shown = BoxCrops(64, margin=0.0).render(image, {}, plain, [], torch.zeros(3))
    assert torch.equal(shown.images, image)
    assert shown.matrix[0].tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


def test_confident_boxes_filter_by_score_then_number_and_keep_the_order_of_images() -> None:
    boxes = [[0.0, 0.0, 4.0, 4.0]] * 3
    found = confident_boxes(
        [detections(boxes, [0.9, 0.5, 0.2]), detections([], []), detections(boxes, [0.3, 0.29, 0.1])], 0.3, 50
    )
    assert found.image.tolist() == [0, 0, 2]
    assert confident_boxes([detections(boxes, [0.9, 0.5, 0.4])], 0.3, 2).image.tolist() == [0, 0]


def test_windows_are_square_centred_and_not_too_small() -> None:
    windows = boxmask_windows(torch.tensor([[10.0, 20.0, 50.0, 30.0], [10.0, 10.0, 12.0, 12.0]]))
    np.testing.assert_allclose(windows, [[6.0, 1.0, 48.0], [-5.0, -5.0, 32.0]], atol=1e-5)


def test_no_box_gives_no_crop() -> None:
    shown = BoxCrops(8).render(torch.rand(2, 3, 16, 16), {}, seen(detections([], []), detections([], [])), [], FILL)
    assert shown.images.shape == (0, 3, 8, 8)
    assert shown.matrix.shape == (0, 2, 3)
