"""Pictures of labels: what was labeled is seen where it is, in the colour of its class."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from orchestrator.drawing import (
    CYCLE,
    PAPER,
    SIDES,
    Shape,
    Tile,
    color_of,
    colors_of,
    draw_classes,
    draw_depth,
    draw_sentence,
    draw_shapes,
    sheet_of,
)
from tasks.classes import ClassMap

RED, BLUE = (213, 94, 0), (0, 114, 178)
BLACK = np.zeros((200, 400, 3), np.uint8)


def where(pixels: np.ndarray, color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of all pixels of a colour, the last ones included."""
    rows, columns = np.nonzero((pixels == np.array(color)).all(-1))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_a_class_has_one_colour_and_neighbours_have_others() -> None:
    assert color_of("thing", 3) == color_of("other", 3) == CYCLE[3]
    assert color_of("Road", 3) == color_of("road", 9)
    assert len({color_of("x", i) for i in range(48)}) == 48
    classes = ClassMap(("thing", "cup", "pen"), ("wall", "thing"), (1, -1, -1))
    boxes, pixels = colors_of(classes)
    assert boxes[0] == pixels[1]
    assert len({*boxes, *pixels}) == 4


def test_a_box_is_a_frame_of_its_colour() -> None:
    pixels = draw_shapes(BLACK, [Shape("", RED, (50, 60, 149, 119))])
    assert tuple(pixels[60, 100]) == RED
    assert tuple(pixels[100, 50]) == RED
    assert tuple(pixels[90, 100]) == (0, 0, 0)
    crowd = draw_shapes(BLACK, [Shape("", RED, (50, 60, 149, 119), is_crowd=True)])
    assert 0.3 < (crowd[60, 50:150] == RED).all(-1).mean() < 0.8, "dashed"


def test_a_mask_is_tinted_and_small_objects_lie_on_top() -> None:
    large, small = np.zeros((200, 400), bool), np.zeros((200, 400), bool)
    large[50:150, 50:250], small[80:100, 100:140] = True, True
    shapes = [Shape("", BLUE, (100, 80, 139, 99), small), Shape("", RED, (50, 50, 249, 149), large)]
    pixels = draw_shapes(BLACK, shapes).astype(int)
    assert pixels[60, 60] == pytest.approx(0.45 * np.array(RED), abs=1)
    assert pixels[90, 120] == pytest.approx(0.55 * 0.45 * np.array(RED) + 0.45 * np.array(BLUE), abs=2)
    assert tuple(pixels[10, 10]) == (0, 0, 0)


def test_names_do_not_cover_each_other() -> None:
    one = draw_shapes(BLACK, [Shape("pen", RED, (50, 60, 149, 119))])
    assert where(one, RED)[1] == 45, "the name stands above its box"
    many = draw_shapes(BLACK, [Shape("pen", RED, (50, 60, 149, 119)) for _ in range(9)])
    assert (many[0:44] == 0).all()


def test_keypoints_are_joined_and_the_hidden_are_rings() -> None:
    points = ((100.0, 100.0, 2), (200.0, 100.0, 1), (300.0, 100.0, 0))
    pixels = draw_shapes(
        BLACK, [Shape("", RED, (0, 0, 399, 199), points=points)], [(0, 1), (1, 2)], ("left_a", "right_a")
    )
    assert tuple(pixels[100, 100]) == SIDES["left"]
    assert tuple(pixels[100, 150]) == PAPER, "a line"
    assert tuple(pixels[100, 200]) != SIDES["right"]
    assert (pixels[95:106, 195:206] == SIDES["right"]).all(-1).any()
    assert tuple(pixels[100, 300]) == tuple(pixels[100, 250]) == (0, 0, 0), "what is not labeled is not drawn"


def test_a_semantic_map_has_the_colours_of_its_classes_and_grey_where_nothing_is_labeled() -> None:
    labels = np.full((20, 40), 255, np.uint8)
    labels[:, :10], labels[:, 10:20] = 0, 1
    pixels = draw_classes(BLACK, labels, (RED, BLUE))
    assert pixels[100, 50] == pytest.approx(0.62 * np.array(RED), abs=1)
    assert pixels[100, 150] == pytest.approx(0.62 * np.array(BLUE), abs=1)
    assert tuple(pixels[100, 300]) == (100, 100, 100)
    named = draw_classes(BLACK, labels, (RED, BLUE), ("wall", "floor"))
    assert (named[:, :90] > 200).all(-1).sum() > 20, "the name in the middle of the region"


def test_depth_grows_lighter_and_has_a_bar_in_metres() -> None:
    metres = np.tile(np.linspace(1, 5, 400, dtype=np.float32), (200, 1))
    metres[:50] = np.nan
    pixels, words = draw_depth(BLACK, metres)
    assert words == "1 to 5 m"
    brightness = pixels[100].sum(-1)
    assert brightness[10] < brightness[200] < brightness[390]
    assert (pixels[:50] == 0).all(), "no label: the picture itself, grey"
    assert pixels.shape == (226, 400, 3)
    assert (pixels[200:] == PAPER).all(-1).sum() > 20, "figures on the bar"
    assert draw_depth(BLACK, np.full((2, 2), np.nan, np.float32))[1] == "no pixel has a value"


def test_a_sentence_is_read_in_its_frame() -> None:
    pixels = draw_sentence("the file is gone " * 9, (300, 160))
    assert pixels.shape == (160, 300, 3)
    rows = np.flatnonzero((pixels.sum(-1) < 200).any(1))
    assert rows.max() - rows.min() > 40, "several lines"


def test_tiles_of_several_sizes_make_a_sheet() -> None:
    tiles = [Tile("one", BLACK), Tile("two", BLACK[:50, :100], (("pen", RED),))]
    data = sheet_of(tiles, "title", "value", "details")
    assert data[:4] == b"\x89PNG"
    from_file = np.asarray(Image.open(BytesIO(data)).convert("RGB"))
    assert where(from_file, RED)[0] > 400, "the legend of the second"
