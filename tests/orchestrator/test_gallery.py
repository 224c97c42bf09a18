import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from orchestrator.drawing import color_of
from orchestrator.gallery import GalleryEntry, panel, write_gallery
from strategies.base import Score
from tasks.geometry import rle_of_mask
from tasks.types import ClassMap, DepthMap, Detections, Prediction, SegMap
from tests.orchestrator.fake_run import CLASSES, fake_scene

SCORE = Score(1.25, {"s_loc": 0.4, "s_seg": 2.0})


def opened(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def holds(pixels: np.ndarray, color: tuple[int, int, int]) -> int:
    """How many pixels have exactly this colour."""
    return int((pixels == np.array(color)).all(-1).sum())


@pytest.mark.slow
@pytest.mark.parametrize("size", [(96, 160), (900, 1600), (160, 96), (33, 47)])
def test_a_panel_is_readable_at_any_size_of_image(size: tuple[int, int]) -> None:
    image, prediction, doubt = fake_scene(0, size)
    pixels = opened(panel(image, prediction, {"doubt": doubt}, CLASSES, SCORE, "one"))
    assert 240 * 3 < pixels.shape[1] < 1100
    assert 150 < pixels.shape[0] < 420
    assert holds(pixels, color_of("car", 2)) > 100, "the car's box, its label and its legend"


def test_boxes_are_scaled_with_the_image_and_hidden_below_the_least_score() -> None:
    image = torch.zeros(3, 100, 200)
    scores = torch.tensor([0.9, 0.1])
    boxes = torch.tensor([[50.0, 20, 150, 80], [0, 0, 20, 20]])
    found = Detections(boxes, scores, torch.tensor([0, 1]), torch.zeros(2, 3))
    pixels = opened(panel(image, Prediction({"detection": found}), {}, CLASSES, Score(1.0), ""))
    rows, columns = np.nonzero((pixels == np.array(color_of("car", 2))).all(-1))
    assert columns.max() - columns.min() + 1 == pytest.approx(100 * 312 / 200, abs=2)
    assert rows.max() - rows.min() + 1 == pytest.approx(60 * 312 / 200 + 15, abs=2), "the box and the label above it"
    assert holds(pixels, color_of("bus", 3)) == 0


def test_objects_have_their_masks_and_keypoints_on_one_picture() -> None:
    image = torch.zeros(3, 100, 200)
    mask = np.zeros((100, 200), np.bool_)
    mask[30:70, 60:100] = True
    points = torch.tensor([[[140.0, 60, 2], [0, 0, 0]]])
    found = Detections(
        torch.tensor([[50.0, 20, 150, 80]]), torch.tensor([0.9]), torch.tensor([0]), torch.zeros(1, 3),
        (rle_of_mask(mask),), points,
    )  # fmt: skip
    plain = Prediction({"detection": replace(found, masks=None, keypoints=None)})
    parts = Prediction(dict.fromkeys(("detection", "instances", "keypoints"), found))
    bare, drawn = (opened(panel(image, one, {}, CLASSES, Score(1.0), "")) for one in (plain, parts))
    assert bare.shape[1] == drawn.shape[1], "one picture for three heads"
    tint = tuple(int(0.45 * value) for value in color_of("car", 2))
    assert holds(drawn, tint) == pytest.approx(1600 * 1.56**2, rel=0.1)
    assert holds(bare, tint) == 0
    lost = replace(found, boxes=found.boxes * torch.nan)
    assert holds(opened(panel(image, Prediction({"instances": lost}), {}, CLASSES, Score(1.0), "")), tint) == 0


def test_what_a_prediction_lacks_is_left_out() -> None:
    image, prediction, doubt = fake_scene(1, (96, 160))
    widths = [
        opened(panel(image, Prediction({t: prediction[t] for t in tasks}), {}, CLASSES, SCORE, "")).shape[1]
        for tasks in ((), ("detection",), ("segmentation",), ("detection", "segmentation"))
    ]
    assert widths[0] == widths[1] < widths[2] == widths[3]
    deep = Prediction({**prediction.outputs, "depth": DepthMap(torch.rand(48, 80))})
    taller = opened(panel(image, deep, {"a": doubt, "b": doubt, "c": doubt}, CLASSES, SCORE, ""))
    assert taller.shape[0] > opened(panel(image, deep, {}, CLASSES, SCORE, "")).shape[0], "more than four wrap"


def test_no_detections_odd_labels_and_odd_maps_still_give_a_panel() -> None:
    image = torch.full((3, 40, 60), math.nan)
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3))
    seg = SegMap(torch.zeros(7, 5, 9).log_softmax(0))
    maps = {
        "flat": torch.zeros(4, 4),
        "undefined": torch.full((4, 4), math.nan),
        "-inf": torch.tensor([[0.0, -math.inf]]),
    }
    first = opened(panel(image, Prediction({"detection": none, "segmentation": seg}), maps, ClassMap(), SCORE, "x"))
    assert first.std() > 0
    odd = Detections(torch.tensor([[30.0, 30, -5, -5]]), torch.tensor([0.9]), torch.tensor([9]), torch.zeros(1, 3))
    title = "a title that is much longer than any panel is wide " * 9
    assert opened(panel(image, Prediction({"detection": odd}), {}, CLASSES, Score(-math.inf), title)).shape[1] == 336


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the image is \[1, 4, 4\]; expected \[3, H, W\]"):
        panel(torch.zeros(1, 4, 4), Prediction({}), {}, CLASSES, SCORE, "")
    with pytest.raises(ValueError, match=r"the map 'm' is \[1, 4, 4\]; expected \[h, w\]"):
        panel(torch.zeros(3, 4, 4), Prediction({}), {"m": torch.zeros(1, 4, 4)}, CLASSES, SCORE, "")


def test_a_heat_map_is_bright_where_its_values_are_high() -> None:
    heat = torch.zeros(10, 20)
    heat[:, 10:] = 5.0
    pixels = opened(panel(torch.zeros(3, 100, 200), Prediction({}), {"heat": heat}, CLASSES, SCORE, ""))
    tile = pixels[60:200, 12 + 312 + 12 :]
    assert tile[:, 200:300].mean() > tile[:, :100].mean() + 60


def test_a_span_that_starts_at_almost_nothing_reads_0() -> None:
    heat = torch.linspace(0, 5, 200).view(10, 20)

    def drawn(least: float) -> bytes:
        return panel(torch.zeros(3, 100, 200), Prediction({}), {"heat": heat.clamp(min=least)}, CLASSES, SCORE, "")

    assert drawn(1.4e-7) == drawn(0.0)
    assert drawn(1.0) != drawn(0.0)


def test_a_long_caption_is_cut_and_its_span_is_not() -> None:
    def drawn(most: float, caption: str) -> bytes:
        heat = torch.linspace(0, most, 200).view(10, 20)
        return panel(torch.zeros(3, 100, 200), Prediction({}), {caption: heat}, CLASSES, SCORE, "")

    long = "a caption that is much longer than any panel is wide " * 3
    assert drawn(5.0, long) == drawn(5.0, long + "more"), "both are cut"
    assert drawn(5.0, long) != drawn(7.0, long), "what the span says is seen"


def test_equal_input_gives_equal_bytes() -> None:
    image, prediction, doubt = fake_scene(2, (48, 80))
    first, second = (panel(image, prediction, {"d": doubt}, CLASSES, SCORE, "t") for _ in range(2))
    assert first == second


def test_a_gallery_is_written_in_the_order_of_its_ranks(tmp_path: Path) -> None:
    entries = [
        GalleryEntry(f"id/{r}", r, -math.inf if r else 2.0, {"p": 1.5, "q": math.nan}, b"%d" % r) for r in (2, 0, 1)
    ]
    path = write_gallery(tmp_path / "deep" / "gallery", entries)
    rows = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert [row["id"] for row in rows] == ["id/0", "id/1", "id/2"]
    assert [(path.parent / row["panel"]).read_bytes() for row in rows] == [b"0", b"1", b"2"]
    assert rows[0] == {"id": "id/0", "rank": 0, "value": 2.0, "parts": {"p": 1.5, "q": None}, "panel": "00.png"}
    assert rows[1]["value"] is None
    assert sorted(p.name for p in path.parent.iterdir()) == ["00.png", "01.png", "02.png", "gallery.json"]
