"""CALD's views: boxes and holes of the authors' program, and pixels that lie where the matrix says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.base import View
from strategies.cald_views import Cutout, Holes, Resize, Rotate, cut_holes, hole_mask, rotated_size, rotation_matrix
from strategies.views import HFlip
from tasks.geometry import affine_boxes, clip_boxes, invert_affine
from tasks.types import Detections, Prediction

FILL = torch.tensor([0.2, 0.5, 0.7])


def seen(*boxes: list[list[float]]) -> list[Prediction]:
    answers = []
    for some in boxes:
        count = len(some)
        found = Detections(
            torch.tensor(some, dtype=torch.float32).view(count, 4),
            torch.full((count,), 0.9),
            torch.zeros(count, dtype=torch.int64),
            torch.full((count, 1), 0.9),
        )
        answers.append(Prediction({"detection": found}))
    return answers


def rngs(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(i) for i in range(count)]


def ramps(height: int, width: int) -> torch.Tensor:
    """The x and y of each pixel's centre, so that a pixel says where it is from."""
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width), torch.ones(height, width)])[None]


@pytest.mark.parametrize("case", ["s0", "s1", "s2"])
def test_boxes_are_mapped_as_the_authors_do(shared: Path, case: str) -> None:
    with np.load(shared / "golden" / "cald_augment.npz") as golden:
        width, height = golden[f"{case}_size_wh"].tolist()
        boxes = torch.from_numpy(golden[f"{case}_boxes"])
        image = torch.zeros(1, 3, height, width)
        for name, view in (("flip", HFlip()), ("resize08", Resize(0.8, 1)), ("resize12", Resize(1.2, 1))):
            shown = view.render(image, {}, None, [], FILL)
            expected = golden[f"{case}_{name}_boxes"]
            np.testing.assert_allclose(affine_boxes(boxes, shown.matrix[0]), expected, rtol=0, atol=5e-5, err_msg=name)
            if name == "resize08":
                assert [shown.images.shape[3], shown.images.shape[2]] == golden[f"{case}_resize08_wh"].tolist()
        for name, angle in (("rot5", 5.0), ("rotm10", -10.0)):
            tall, wide = rotated_size(angle, (height, width))
            assert [wide, tall] == golden[f"{case}_{name}_expanded_wh"].tolist()
            matrix = rotation_matrix(angle, (height, width), "official")
            mapped = clip_boxes(affine_boxes(boxes.double(), matrix), (height, width))
            np.testing.assert_allclose(mapped, golden[f"{case}_{name}_boxes"], rtol=0, atol=5e-5, err_msg=name)
            exact = clip_boxes(affine_boxes(boxes.double(), rotation_matrix(angle, (height, width))), (height, width))
            off = (exact - mapped).abs()
            assert 0.3 < float(off.max()) <= 1.0, "the authors' map is off by up to a pixel"


@pytest.mark.parametrize("case", range(6))
def test_holes_are_those_of_the_authors(shared: Path, case: int) -> None:
    with np.load(shared / "golden" / "cald_augment.npz") as golden:
        boxes = torch.from_numpy(golden[f"cutout{case}_boxes"])[None]
        drawn = torch.from_numpy(golden[f"cutout{case}_u"]).view(1, 50, 4)
        expected = golden[f"cutout{case}_keep_mask"]
    there = torch.ones(1, boxes.shape[1], dtype=torch.bool)
    holes = cut_holes(drawn, boxes, there, (180, 320), Holes())
    np.testing.assert_array_equal(~hole_mask(holes, (180, 320))[0].numpy(), expected)
    padding = torch.cat([boxes, boxes.new_tensor([[[0.0, 0.0, 9.0, 9.0]]])], 1), torch.cat([there, ~there[:, :1]], 1)
    assert torch.equal(cut_holes(drawn, *padding, (180, 320), Holes()), holes)


def test_pixels_agree_with_pillow(shared: Path) -> None:
    with np.load(shared / "golden" / "cald_augment.npz") as golden:
        image = torch.from_numpy(golden["s2_image_u8_hwc"]).permute(2, 0, 1)[None] / 255
        flipped, small, turned = (torch.from_numpy(golden[f"s2_{n}_image_chw"]) for n in ("flip", "resize08", "rot5"))
    torch.testing.assert_close(HFlip().render(image, {}, None, [], FILL).images[0], flipped)
    ours = Resize(0.8, 1).render(image, {}, None, [], FILL).images[0]
    # 77 columns of 77.6: Pillow stretches, so that only the upper left corner is sampled at the same places
    torch.testing.assert_close(ours[:, :4, :4], small[:, :4, :4], atol=0.01, rtol=0)
    left, right = (Rotate(angle).render(image, {}, None, [], FILL).images[0] for angle in (5.0, -5.0))
    assert not left[:, [0, 0, -1, -1], [0, -1, 0, -1]].any()  # black, as there
    assert float((left - turned).square().mean()) < float((right - turned).square().mean()) / 2


@settings(derandomize=True, max_examples=15, deadline=None)
@given(
    height=st.integers(8, 70),
    width=st.integers(8, 70),
    scale=st.sampled_from([0.3, 0.5, 0.77, 0.8, 1.2, 2.0]),
    multiple=st.sampled_from([1, 16, 32]),
)
def test_resized_pixels_lie_where_the_matrix_says(height: int, width: int, scale: float, multiple: int) -> None:
    view = Resize(scale, multiple)
    inner = view.shown((height, width))
    shown = view.render(ramps(height, width), {"depth": torch.ones(1, 1, height, width)}, None, [], torch.zeros(3))
    assert shown.images.shape[2] % multiple == shown.images.shape[3] % multiple == 0
    assert (shown.inputs["depth"][0, 0] > 0).sum().item() == inner[0] * inner[1]  # the canvas around it is empty
    assert inner == (int(scale * height), int(scale * width))
    x, y = (torch.arange(n) + 0.5 for n in (inner[1], inner[0]))
    rim = 2 * max(
        1.0, 1 / scale
    )  # where the filter reaches over the border; within, its weights are uneven by less than a tenth
    free = (x / scale > rim) & (x / scale < width - rim)
    torch.testing.assert_close(shown.images[0, 0, 0, : inner[1]][free], (x / scale)[free], atol=0.1, rtol=0)
    free = (y / scale > rim) & (y / scale < height - rim)
    torch.testing.assert_close(shown.images[0, 1, : inner[0], 0][free], (y / scale)[free], atol=0.1, rtol=0)
    assert shown.matrix[0].tolist() == [[pytest.approx(scale), 0, 0], [0, pytest.approx(scale), 0]]


def test_around_a_resized_image_is_the_mean_colour() -> None:
    shown = Resize().render(torch.rand(2, 3, 64, 96), {}, None, [], FILL)
    assert shown.images.shape == (2, 3, 64, 96)  # 51 x 76 pixels on multiples of 32
    torch.testing.assert_close(shown.images[1, :, 60, 90], FILL)
    assert Resize().render(torch.rand(1, 3, 160, 320), {}, None, [], FILL).images.shape == (1, 3, 128, 256)


@settings(derandomize=True, max_examples=15, deadline=None)
@given(height=st.integers(20, 70), width=st.integers(20, 70), angle=st.floats(-60, 60))
def test_turned_pixels_lie_where_the_matrix_says(height: int, width: int, angle: float) -> None:
    shown = Rotate(angle).render(ramps(height, width), {"one": torch.ones(1, 1, height, width)}, None, [], FILL)
    back = invert_affine(shown.matrix[0].double())
    x, y, known = shown.images[0]
    centres = ramps(height, width)[0, :2].flatten(1).double()
    source = back[:, :2] @ centres + back[:, 2:]
    free = (known.flatten() > 0.999) & (source > 1).all(0) & (source < torch.tensor([[width - 1], [height - 1]])).all(0)
    assert free.any()
    torch.testing.assert_close(x.flatten().double()[free], source[0, free], atol=1e-3, rtol=0)
    torch.testing.assert_close(y.flatten().double()[free], source[1, free], atol=1e-3, rtol=0)
    assert torch.equal(shown.inputs["one"][0, 0], known)
    corners = affine_boxes(torch.tensor([[0.0, 0.0, width, height]]).double(), shown.matrix[0].double())[0]
    assert corners.min() > -1e-4  # nothing of the image is lost ...
    assert corners[2] <= width + 1e-4
    assert corners[3] <= height + 1e-4


def test_turning_by_nothing_is_the_image() -> None:
    image = torch.rand(2, 3, 30, 41, generator=torch.Generator().manual_seed(1))
    shown = Rotate(0.0).render(image, {}, None, [], FILL)
    torch.testing.assert_close(shown.images, image, atol=1e-4, rtol=0)
    assert torch.equal(shown.matrix[1], torch.eye(2, 3))


def test_the_authors_offset_moves_boxes_and_no_pixel() -> None:
    image = torch.rand(1, 3, 60, 90)
    exact, official = (Rotate(5.0, offset).render(image, {}, None, [], FILL) for offset in ("exact", "official"))
    assert torch.equal(exact.images, official.images)
    off = (exact.matrix - official.matrix)[0]
    assert torch.equal(off[:, :2], torch.zeros(2, 2))
    assert 0 < float(off[:, 2].max()) <= 1.0
    assert Rotate(5.0) != Rotate(5.0, "official")


@settings(derandomize=True, max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 6), holes=st.integers(1, 4))
def test_a_hole_hides_a_part_of_some_box(seed: int, count: int, holes: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.random((1, count, 2)) * 60
    boxes = torch.from_numpy(np.concatenate([corner, corner + rng.random((1, count, 2)) * 40], 2))
    drawn, there = torch.from_numpy(rng.random((1, 50, 4))), torch.ones(1, count, dtype=torch.bool)
    rules = Holes(count=holes)
    found = cut_holes(drawn, boxes, there, (100, 100), rules)
    expected = []
    for h, w, left, top in drawn[0].tolist():  # one try after the other
        h, w = 5 + 15 * h, 5 + 15 * w
        left, top = left * (100 - w), top * (100 - h)
        x1, y1, x2, y2 = int(left), int(top), int(left + w), int(top + h)
        hidden = 0.0
        for a, b, c, d in boxes[0].tolist():
            common = max(0.0, min(x2, c) - max(x1, a)) * max(0.0, min(y2, d) - max(y1, b))
            hidden = max(hidden, common / ((c - a) * (d - b)))
        if 0.1 <= hidden <= 0.4 and len(expected) < holes:
            expected.append([x1, y1, x2, y2])
    assert found[0].tolist() == expected + [[0, 0, 0, 0]] * (holes - len(expected))
    assert hole_mask(found, (100, 100)).any() == bool(expected)


def test_holes_are_black_and_in_every_input() -> None:
    images = torch.ones(2, 3, 64, 64)
    view = Cutout(Holes(cover=(0.01, 1.0)))
    shown = view.render(images, {"depth": images[:, :1]}, seen([[8.0, 8.0, 50.0, 50.0]], []), rngs(2), FILL)
    black = (shown.images[0] == 0).all(0)
    assert 0 < black.sum() < 64 * 64 / 2
    assert torch.equal(shown.inputs["depth"][0, 0] == 0, black)
    assert torch.equal(shown.images[1], images[1])  # nothing was detected
    assert torch.equal(shown.matrix, torch.eye(2, 3).expand(2, 2, 3))
    assert shown.index.tolist() == [0, 1]
    assert images.all()  # the given images stay whole


def test_holes_depend_on_the_rng_of_the_image_alone() -> None:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    boxes = [[[4.0, 4.0, 40.0, 40.0]], [[20.0, 10.0, 60.0, 30.0]] * 60, [[30.0, 30.0, 50.0, 60.0]] * 2]
    view = Cutout(Holes(cover=(0.01, 1.0)))
    together = view.render(images, {}, seen(*boxes), rngs(3), FILL).images
    for row in range(3):
        alone = view.render(images[row : row + 1], {}, seen(boxes[row]), [np.random.default_rng(row)], FILL).images
        assert torch.equal(alone[0], together[row])
    other = view.render(images[:1], {}, seen(boxes[0]), [np.random.default_rng(99)], FILL).images
    assert not torch.equal(other[0], together[0])


@pytest.mark.parametrize("view", [Resize(), Resize(1.3), Rotate(), Rotate(-20.0)])
def test_an_image_alone_is_shown_the_same_to_the_last_bit(view: Resize | Rotate) -> None:
    images = torch.rand(5, 3, 64, 96, generator=torch.Generator().manual_seed(7))
    together = view.render(images, {"depth": images[:, :1]}, None, [], FILL)
    for row in range(5):
        alone = view.render(images[row : row + 1], {"depth": images[row : row + 1, :1]}, None, [], FILL)
        assert torch.equal(alone.images[0], together.images[row])
        assert torch.equal(alone.inputs["depth"][0], together.inputs["depth"][row])
        assert torch.equal(alone.matrix[0], together.matrix[row])


@pytest.mark.parametrize(
    "box", [[5.0, 5.0, 5.0, 30.0], [400.0, 400.0, 500.0, 500.0], [0.0, 0.0, 64.0, 64.0], [9.0, 9.0, 10.0, 10.0]]
)
def test_where_no_try_fits_the_image_stays(box: list[float]) -> None:
    images = torch.rand(1, 3, 64, 64)
    rules = Holes(cover=(0.1, 0.4), size=(0.05, 0.2), tries=20)
    shown = Cutout(rules).render(images, {}, seen([box]), rngs(1), FILL)
    assert torch.equal(shown.images, images)


@pytest.mark.parametrize("view", [Resize(), Rotate(), Cutout()])
def test_equal_parameters_are_one_view_whatever_its_heads(view: Resize | Rotate | Cutout) -> None:
    assert isinstance(view, View)
    twin = type(view)(reads=("segmentation",))
    assert {view: 1}[twin] == 1
    assert repr(view) == repr(twin)
    assert view.after == isinstance(view, Cutout)


def test_bad_settings_are_refused() -> None:
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="scale above 0"):
            Resize(scale)
    with pytest.raises(ValueError, match="multiple"):
        Resize(0.8, 0)
    with pytest.raises(ValueError, match="are none; choose a larger scale"):
        Resize(0.01).render(torch.rand(1, 3, 64, 64), {}, None, [], FILL)
    for angle in (90.0, float("nan")):
        with pytest.raises(ValueError, match=r"Rotate\.angle"):
            Rotate(angle)
    for bad in ({"size": (0.3, 0.2)}, {"size": (0.1, 1.5)}, {"cover": (0.4, 0.1)}, {"count": 0}, {"tries": 0}):
        with pytest.raises(ValueError, match="cutout"):
            Holes(**bad)
