"""Pictures of what was picked and why: what the model answered, and the maps that made the score."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from orchestrator.drawing import (
    Pixels,
    Shape,
    Tile,
    color_of,
    colors_of,
    draw_classes,
    draw_heat,
    draw_shapes,
    draw_tag,
    font,
    resized,
    sheet_of,
)
from orchestrator.store import replacing, write_json
from strategies.base import Score
from tasks.data.files import Place
from tasks.geometry import mask_of_rle, resize_nearest
from tasks.types import ClassMap, DepthMap, Detections, Pickups, Prediction, SegMap

TILE = (312, 260)  # largest width and height of one picture in a panel
LEAST_SCORE, MOST_BOXES = 0.3, 15  # which boxes are drawn


@dataclass(frozen=True)
class GalleryEntry:
    """One picked image and why it was picked."""

    id: str
    rank: int  # 0 = picked first
    value: float
    parts: Mapping[str, float]
    panel: bytes = field(repr=False)  # PNG


def panel(
    image: Tensor, prediction: Prediction, maps: Mapping[str, Tensor], classes: ClassMap, score: Score, title: str
) -> bytes:
    """A PNG: the image with its boxes, its segmentation, its depth and each map, side by side with captions.

    ``image`` is ``[3, H, W]`` in 0..1, boxes are in its pixels; the maps ``[h, w]`` may have another resolution.
    Outputs that the prediction lacks are left out. ValueError when a shape is wrong.
    """
    if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise ValueError(f"panel: the image is {list(image.shape)}; expected [3, H, W]")
    height, width = int(image.shape[1]), int(image.shape[2])
    scale = min(TILE[0] / width, TILE[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    rgb = (image.detach().cpu().float().nan_to_num().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    picture = resized(rgb, size)
    outputs = list({id(o): o for o in prediction.outputs.values()}.values())  # heads may share their detections
    found = [o for o in outputs if isinstance(o, Detections)]
    tiles = [
        boxes_found(picture, o, classes, scale)
        if o.masks is None and o.keypoints is None
        else parts_found(picture, o, classes, scale)
        for o in found
    ] or [Tile("image", picture)]
    tiles += [map_found(picture, o, classes) for o in outputs if isinstance(o, SegMap)]
    tiles += [_heat(picture, o.metres, "depth, m") for o in outputs if isinstance(o, DepthMap)]
    tiles += [
        _heat(picture, o.activations.amax(0), "pickup, strongest class") for o in outputs if isinstance(o, Pickups)
    ]
    tiles += [_heat(picture, heat, caption) for caption, heat in maps.items()]
    parts = " · ".join(f"{name} {part:.3g}" for name, part in score.parts.items())
    return sheet_of(tiles, title, f"score {score.value:.4g}", parts)


def write_gallery(folder: Place, entries: Sequence[GalleryEntry]) -> Place:
    """The path of ``gallery.json``, written after all its pictures; each file appears whole or not at all."""
    digits = max(2, len(str(len(entries) - 1)))
    rows = []
    for i, entry in enumerate(sorted(entries, key=lambda e: e.rank)):
        name = f"{i:0{digits}d}.png"
        with replacing(folder / name) as temporary:
            temporary.write_bytes(entry.panel)
        parts = {k: _finite(v) for k, v in entry.parts.items()}
        value = _finite(entry.value)
        rows.append({"id": entry.id, "rank": entry.rank, "value": value, "parts": parts, "panel": name})
    write_json(folder / "gallery.json", rows)
    return folder / "gallery.json"


# ---- tiles ---------------------------------------------------------------------------------------------------------


def boxes_found(picture: Pixels, found: Detections, classes: ClassMap, scale: float) -> Tile:
    """The image with its best boxes, the surest on top."""
    sheet = Image.fromarray(picture)
    draw, colors = ImageDraw.Draw(sheet), colors_of(classes)[0]
    keep = (found.scores >= LEAST_SCORE).nonzero().flatten().tolist()[:MOST_BOXES]
    for i in reversed(keep):
        label = int(found.labels[i])
        name = classes.detection[label] if label < len(classes.detection) else f"class {label}"
        color = colors[label] if label < len(colors) else color_of(name, label)
        x0, y0, x1, y1 = (float(v) * scale for v in found.boxes[i])
        if not all(math.isfinite(v) for v in (x0, y0, x1, y1)):
            continue
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        draw.rectangle((x0, y0, x1, y1), outline=color, width=2)
        text = f"{name} {float(found.scores[i]):.2f}"
        wide = draw.textlength(text, font=font(12)) + 6
        draw_tag(draw, text, color, max(0.0, min(x0, sheet.width - wide)), y0 - 15 if y0 >= 15 else max(0.0, y0))
    return Tile(f"detection: {len(keep)} of {len(found.scores)} boxes, score ≥ {LEAST_SCORE:g}", np.asarray(sheet))


def parts_found(picture: Pixels, found: Detections, classes: ClassMap, scale: float) -> Tile:
    """The image with its best boxes, each with its mask and its keypoints where the model answers them."""
    keep = (found.scores >= LEAST_SCORE).nonzero().flatten().tolist()[:MOST_BOXES]
    shapes = [_shape(found, i, classes, scale, picture.shape[:2]) for i in keep]
    drawn = draw_shapes(picture, [one for one in shapes if one], classes.skeleton, classes.keypoints)
    return Tile(f"found: {len(keep)} of {len(found.scores)} objects, score ≥ {LEAST_SCORE:g}", drawn)


def _shape(found: Detections, row: int, classes: ClassMap, scale: float, size: Sequence[int]) -> Shape | None:
    """A detection in pixels of a picture of h, w; None where its box cannot be drawn."""
    label, colors = int(found.labels[row]), colors_of(classes)[0]
    name = classes.detection[label] if label < len(classes.detection) else f"class {label}"
    x0, y0, x1, y1 = (float(v) * scale for v in found.boxes[row])
    if not all(math.isfinite(v) for v in (x0, y0, x1, y1)):
        return None
    mask, points = None, tuple[tuple[float, float, int], ...]()
    if found.masks is not None:
        mask = resize_nearest(mask_of_rle(found.masks[row]), (size[0], size[1]))
    if found.keypoints is not None:
        rows = found.keypoints[row].tolist()
        points = tuple((x * scale, y * scale, int(v)) for x, y, v in rows if math.isfinite(x + y + v))
    color = colors[label] if label < len(colors) else color_of(name, label)
    box = min(x0, x1), min(y0, y1), max(x0, x1) - 1, max(y0, y1) - 1
    box = (*box[:2], max(box[0], box[2]), max(box[1], box[3]))
    return Shape(f"{name} {float(found.scores[row]):.2f}", color, box, mask, points)


def map_found(picture: Pixels, output: SegMap, classes: ClassMap) -> Tile:
    """The most likely class of each pixel over the dimmed image, with a legend of those that cover 0.1 % or more."""
    label = output.log_probs.detach().cpu().argmax(0).byte().numpy()
    names = classes.segmentation
    known = max(output.log_probs.shape[0], len(names))
    colors = [color_of(names[k] if k < len(names) else "", k) for k in range(known)]
    present = np.bincount(label.ravel(), minlength=known)
    order = [int(k) for k in np.argsort(-present, kind="stable") if present[k] >= 0.001 * label.size]
    legend = tuple((names[k] if k < len(names) else f"class {k}", colors[k]) for k in order)
    return Tile("segmentation", draw_classes(picture, label, colors), legend)


def _heat(picture: Pixels, heat: Tensor, caption: str) -> Tile:
    """A map as colours over the grey image, with the range of its values; undefined pixels stay grey."""
    if heat.ndim != 2 or heat.numel() == 0:
        raise ValueError(f"panel: the map {caption!r} is {list(heat.shape)}; expected [h, w]")
    values = heat.detach().cpu().float().numpy()
    known = np.isfinite(values)
    low, high = (float(values[known].min()), float(values[known].max())) if known.any() else (0.0, 0.0)
    start = 0.0 if abs(low) < 0.005 * (high - low) else low  # as good as nothing reads "0", not "1.37e-07"
    span = f"{start:.3g} to {high:.3g}" if high > low else (f"{low:.3g} everywhere" if known.any() else "undefined")
    return Tile(caption, draw_heat(picture, values, low, high, cv2.COLORMAP_INFERNO), span=f": {span}")


def _finite(value: float) -> float | None:
    """JSON knows no infinity: -inf ("take it last") is stored as null."""
    return float(value) if math.isfinite(value) else None
