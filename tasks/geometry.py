"""All box, keypoint, affine and mask arithmetic.

Continuous edges everywhere: pixel (i, j) covers ``[j, j + 1) x [i, i + 1)``, so an image is ``[0, W] x [0, H]``, its
mirror sends x to W - x, and resizing multiplies by the ratio of the sizes. Functions of boxes and points are torch and
take any number of leading dimensions; functions of masks are numpy. A "window" is the part of an image, xyxy in its
pixels, that becomes a whole new image.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor

Rle = Mapping[str, object]  # {"size": [H, W], "counts": bytes}, column-major runs, zeros first
Size = tuple[int, int]  # H, W
Window = tuple[float, float, float, float]  # x1, y1, x2, y2
_T = TypeVar("_T", bound=np.generic)
_GROUPS = 7  # of 5 bits, in the longest number of a compressed RLE: pycocotools holds 32 bits
_NEAR = 16.0  # sides of its image that a polygon may reach beyond it


# ---- boxes --------------------------------------------------------------------------------------------------------


def xyxy_of(box_xywh: Tensor) -> Tensor:
    """Boxes ``[..., 4]`` as corners, from corner and extent (COCO's form)."""
    corner, extent = box_xywh[..., :2], box_xywh[..., 2:]
    return torch.cat([corner, corner + extent], dim=-1)


def xywh_of(boxes: Tensor) -> Tensor:
    """Boxes ``[..., 4]`` as corner and extent (COCO's form), from corners."""
    first, last = boxes[..., :2], boxes[..., 2:]
    return torch.cat([first, last - first], dim=-1)


def box_area(boxes: Tensor) -> Tensor:
    """Areas ``[...]`` of boxes ``[..., 4]``; 0 where a box is inverted."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def clip_boxes(boxes: Tensor, size: Size) -> Tensor:
    """Boxes ``[..., 4]`` cut at the border of an image of H, W."""
    height, width = size
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def box_overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union ``[..., A, B]`` of boxes ``[..., A, 4]`` and ``[..., B, 4]``; and whether they touch.

    The IoU is 0 where both are without area. Boxes touch where they have a point in common, be it of their edges.
    """
    # coordinate by coordinate: an innermost axis of two or four is slow
    left, top, right, bottom = a.movedim(-1, 0).contiguous()[..., None]
    other_left, other_top, other_right, other_bottom = b.movedim(-1, 0).contiguous()[..., None, :]
    width = torch.minimum(right, other_right) - torch.maximum(left, other_left)
    height = torch.minimum(bottom, other_bottom) - torch.maximum(top, other_top)
    touching = torch.minimum(width, height) >= 0
    common = width.clamp_(min=0).mul_(height.clamp_(min=0))
    union = (box_area(a)[..., :, None] + box_area(b)[..., None, :]).sub_(common)
    return common.div_(union.clamp(min=torch.finfo(union.dtype).tiny)).masked_fill_(~(union > 0), 0.0), touching


def hflip_boxes(boxes: Tensor, width: float) -> Tensor:
    """Boxes ``[..., 4]`` in the mirrored image."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=-1)


# ---- affine maps: [..., 2, 3], source xy -> target xy ---------------------------------------------------------------


def hflip_matrix(width: float) -> Tensor:
    """The map ``[2, 3]`` of an image of this width to its mirror image."""
    return torch.tensor([[-1.0, 0.0, width], [0.0, 1.0, 0.0]])


def window_matrix(window: Window, size: Size) -> Tensor:
    """The map ``[2, 3]`` that spreads a window over an image of H, W (a resize is the window of the whole image)."""
    x1, y1, x2, y2 = window
    sx, sy = size[1] / (x2 - x1), size[0] / (y2 - y1)
    return torch.tensor([[sx, 0.0, -x1 * sx], [0.0, sy, -y1 * sy]])


def invert_affine(matrix: Tensor) -> Tensor:
    """The inverse maps ``[..., 2, 3]``."""
    linear = torch.linalg.inv(matrix[..., :2])
    return torch.cat([linear, -linear @ matrix[..., 2:]], dim=-1)


def compose_affine(second: Tensor, first: Tensor) -> Tensor:
    """The maps ``[..., 2, 3]`` that do ``first`` and then ``second``."""
    linear = second[..., :2] @ first[..., :2]
    return torch.cat([linear, second[..., :2] @ first[..., 2:] + second[..., 2:]], dim=-1)


def affine_points(points: Tensor, matrix: Tensor) -> Tensor:
    """Points ``[..., N, 2]`` under maps ``[..., 2, 3]``."""
    return points @ matrix[..., :2].transpose(-1, -2) + matrix[..., None, :, 2]


def affine_boxes(boxes: Tensor, matrix: Tensor) -> Tensor:
    """The upright boxes ``[..., N, 4]`` around the four mapped corners; exact when the map does not rotate or shear."""
    corners = boxes[..., [0, 1, 2, 1, 2, 3, 0, 3]]  # [..., N, 8]
    shape = corners.shape[:-1]
    mapped = affine_points(corners.reshape(*shape[:-1], 4 * shape[-1], 2), matrix).reshape(*shape, 4, 2)
    return torch.cat([mapped.amin(-2), mapped.amax(-2)], dim=-1)


# ---- keypoints: [..., P, 3] = x, y, v -------------------------------------------------------------------------------


def hflip_keypoints(keypoints: Tensor, width: float, flip_pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Keypoints ``[..., P, 3]`` in the mirrored image: pairs change places, unlabeled points stay (0, 0, 0)."""
    order = list(range(keypoints.shape[-2]))
    for left, right in flip_pairs:
        order[left], order[right] = right, left
    x, y, v = keypoints[..., order, :].unbind(-1)
    return torch.stack([torch.where(v > 0, width - x, x), y, v], dim=-1)


def affine_keypoints(keypoints: Tensor, matrix: Tensor, size: Size) -> Tensor:
    """Keypoints ``[..., P, 3]`` under one map ``[2, 3]``; those that leave the image of H, W become (0, 0, 0)."""
    xy = affine_points(keypoints[..., :2], matrix)
    inside = (xy >= 0).all(-1) & (xy[..., 0] < size[1]) & (xy[..., 1] < size[0]) & (keypoints[..., 2] > 0)
    return torch.cat([xy, keypoints[..., 2:]], dim=-1) * inside[..., None]


# ---- polygons: [N, 2], closed by themselves -------------------------------------------------------------------------


def polygon_area(points: NDArray[np.float64]) -> float:
    """The area of a polygon ``[N, 2]`` by the shoelace formula, whichever way round it goes."""
    return float(polygon_areas(points, np.zeros(1, np.intp))[0])


def polygon_areas(points: NDArray[np.float64], starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """The areas ``[P]`` of polygons whose points stand one after the other in ``[N, 2]``, each from its start on.

    An area depends on its own points alone: sums are in one order, whatever the company and the processor.
    """
    ends = np.append(starts[1:], len(points))
    following = np.arange(1, len(points) + 1)
    following[ends - 1] = starts
    # from its first corner: no digits are lost far from the origin
    x, y = (points - points[starts].repeat(ends - starts, axis=0)).T
    found: NDArray[np.float64] = np.abs(np.add.reduceat(x * y[following] - y * x[following], starts)) / 2
    return found


def polygon_distance(points: NDArray[np.float64], x: float, y: float) -> float:
    """How far a point is from a polygon ``[N, 2]``: 0 inside (even-odd) and on its border."""
    a, b = points - (x, y), np.roll(points, -1, axis=0) - (x, y)
    along = b - a
    share = -(a * along).sum(1) / np.maximum((along * along).sum(1), np.finfo(np.float64).tiny)
    nearest = a + share.clip(0, 1)[:, None] * along
    crosses = (a[:, 1] > 0) != (b[:, 1] > 0)
    if np.count_nonzero(crosses & ((a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1] > 0) == (b[:, 1] > a[:, 1]))) % 2:
        return 0.0
    return float(np.sqrt((nearest * nearest).sum(1).min()))


def mask_distance(mask: NDArray[np.bool_], x: float, y: float) -> float:
    """How far a point is from the nearest pixel of a mask ``[H, W]``: 0 on one; infinite where there is none."""
    rows, columns = np.nonzero(mask)
    dx = np.maximum(np.maximum(columns - x, x - columns - 1), 0)
    dy = np.maximum(np.maximum(rows - y, y - rows - 1), 0)
    return float(np.hypot(dx, dy).min(initial=np.inf))


# ---- masks ----------------------------------------------------------------------------------------------------------


def rle_of_mask(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> dict[str, object]:
    """The compressed RLE of a mask ``[H, W]``."""
    rle: dict[str, object] = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return rle


def mask_of_rle(rle: Rle) -> NDArray[np.bool_]:
    """The mask ``[H, W]`` of a compressed RLE; ValueError when its runs do not add up to its size.

    Not pycocotools' own decoder, which answers such runs with whatever the memory held.
    """
    height, width = _size_of(rle)
    runs = _runs_of(rle)
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def patch_of_rle(rle: Rle) -> tuple[NDArray[np.bool_], int, int]:
    """What a box around a mask holds, ``[h, w]``, and the row and the column that it begins at; ``[0, 0]`` if empty.

    The box is tight where no run crosses from one column to the next, else as high as the image.
    """
    height, _ = _size_of(rle)
    places = np.cumsum(_runs_of(rle))
    starts, ends = places[: len(places) // 2 * 2 : 2], places[1::2]
    filled = ends > starts
    if not filled.any():
        return np.zeros((0, 0), np.bool_), 0, 0
    starts, ends = starts[filled], ends[filled]
    left, right = int(starts[0] // height), int((ends[-1] - 1) // height) + 1
    top, bottom = 0, height
    if (starts // height == (ends - 1) // height).all():
        top, bottom = int((starts % height).min()), int(((ends - 1) % height).max()) + 1
    steps = np.zeros((right - left) * height + 1, np.int8)
    steps[starts - left * height] = 1
    steps[ends - left * height] -= 1
    columns = steps[:-1].cumsum(dtype=np.int8).view(np.bool_).reshape(right - left, height)
    return columns[:, top:bottom].T, top, left


def rle_of_patch(patch: NDArray[np.bool_], top: int, left: int, size: Size) -> tuple[Rle, int, Window | None]:
    """The compressed RLE of a mask of H, W that is empty beside a patch ``[h, w]``; its pixels and its tight box."""
    height, width = size
    edges = np.zeros((patch.shape[1], patch.shape[0] + 1), np.bool_)  # column by column, as runs go
    edges[:, :-1] = patch.T
    edges[:, 1:] ^= patch.T
    columns, rows = np.nonzero(edges)
    places = (columns + left) * height + rows + top  # where a run begins, where it ends, ...
    box = None
    if len(places):
        box = float(columns[0] + left), float(rows.min() + top), float(columns[-1] + left + 1), float(rows.max() + top)
    if patch.shape[0] == height:  # a run may go on in the next column
        meets = np.flatnonzero(places[1:-1:2] == places[2::2])
        places = np.delete(places, np.concatenate([2 * meets + 1, 2 * meets + 2]))
    runs: list[int] = np.diff(places, prepend=0, append=height * width).tolist()
    rle: Rle = coco_mask.frPyObjects(
        {"size": list(size), "counts": runs if runs[-1] or len(runs) == 1 else runs[:-1]}, *size
    )
    return rle, int((places[1::2] - places[::2]).sum()), box


def rle_area(rle: Rle) -> int:
    """How many pixels the mask holds."""
    return int(coco_mask.area(dict(rle)))


def check_polygons(polygons: Sequence[Sequence[float]], size: Size) -> None:
    """ValueError when a part has fewer than three points, an odd number of values, or no place near an image of H, W.

    A value that is not finite has none, and pycocotools takes memory for each pixel that an edge passes.
    """
    limit = _NEAR * max(size)
    for part in polygons:
        try:
            is_near = len(part) >= 6 and not len(part) % 2 and -limit <= min(part) and max(part) <= limit
        except TypeError:
            is_near = False
        if not is_near or not isfinite(sum(part)):  # NaN is neither below nor above a limit
            raise ValueError(
                f"a polygon has the {len(part)} values {str(list(part)[:8])[:80]}; expected x, y of >= 3 points in the "
                f"image or near it"
            )


def rle_of_polygons(polygons: Sequence[Sequence[float]], size: Size) -> dict[str, object]:
    """The union of some polygons (each x1, y1, x2, y2, ...) as the RLE of an image of H, W.

    pycocotools fills exactly the pixels between integer edges; cv2.fillPoly also paints the border pixels, so it is not
    used. ValueError when a part is none: see ``check_polygons``.
    """
    check_polygons(polygons, size)
    rle: dict[str, object] = coco_mask.merge(coco_mask.frPyObjects([list(map(float, p)) for p in polygons], *size))
    return rle


def rle_of(segmentation: object, size: Size) -> dict[str, object]:
    """The compressed RLE of a COCO ``segmentation``: polygons, an uncompressed RLE or a compressed one.

    ValueError when it is none of these, is of another size than H, W, or its runs do not add up to the image.
    """
    if isinstance(segmentation, list | tuple):
        return rle_of_polygons(segmentation, size)
    if not isinstance(segmentation, Mapping) or not {"size", "counts"} <= segmentation.keys():
        raise ValueError(f"a mask is {str(segmentation)[:60]!r}; expected polygons or an RLE with 'size' and 'counts'")
    found, counts = _size_of(segmentation), segmentation["counts"]
    if found != tuple(size):
        raise ValueError(f"a mask is of {found[0]} x {found[1]} px; expected the image's {size[0]} x {size[1]}")
    if isinstance(counts, str):
        counts = counts.encode("ascii", "replace")
    if isinstance(counts, bytes):
        runs = _run_array(counts)
        _check_runs(int(runs.min(initial=0)), int(runs.sum()), size)
        return {"size": list(size), "counts": counts}
    try:
        listed = [int(n) for n in counts]
    except (TypeError, OverflowError):
        raise ValueError(f"a mask has the counts {str(counts)[:60]}; expected a list of runs, or a text") from None
    _check_runs(min(listed, default=0), sum(listed), size)
    rle: dict[str, object] = coco_mask.frPyObjects({"size": list(size), "counts": listed}, *size)
    return rle


def run_lengths(counts: bytes) -> list[int]:
    """The runs of a compressed RLE, zeros first.

    COCO's form: little-endian groups of 5 bits, bit 6 = more follows, sign-extended; from the fourth run on each is the
    difference to the run two before. ValueError when the last number is cut off.
    """
    runs: list[int] = _run_array(counts).tolist()
    return runs


def _run_array(counts: bytes) -> NDArray[np.int64]:
    codes = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 0x20 == 0)
    if not len(ends) or len(codes) != ends[-1] + 1:
        if not len(codes):
            return codes
        raise ValueError("a mask's counts end inside a number; expected a complete compressed RLE")
    starts = np.zeros_like(ends)
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts + 1
    if lengths.max() > _GROUPS:
        raise ValueError(f"a mask's counts hold a number of more than {_GROUPS} characters; expected a compressed RLE")
    shifts = 5 * (np.arange(len(codes)) - starts.repeat(lengths))
    values = np.add.reduceat((codes & 0x1F) << shifts, starts)
    negative = np.flatnonzero(codes[ends] & 0x10)
    values[negative] -= 1 << 5 * lengths[negative]
    for first in (1, 2):
        values[first::2] = values[first::2].cumsum()
    return values


def hflip_rles(rles: Sequence[Rle | None]) -> tuple[Rle | None, ...]:
    """The masks in the mirrored image, where there is one."""
    return tuple(None if rle is None else rle_of_mask(mask_of_rle(rle)[:, ::-1]) for rle in rles)


def window_rles(rles: Sequence[Rle | None], window: Window, size: Size) -> tuple[Rle | None, ...]:
    """The masks after spreading a window over an image of H, W (nearest, as semantic maps)."""
    return tuple(None if rle is None else rle_of_mask(sample_nearest(mask_of_rle(rle), window, size)) for rle in rles)


def mask_box(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> Window | None:
    """The tight box of a mask ``[H, W]``; None where it is empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if columns.size == 0:
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def sample_nearest(image: NDArray[_T], window: Window, size: Size) -> NDArray[_T]:
    """The window of a map ``[h, w]`` as a map of H, W: each new pixel takes the old one under its centre."""
    x1, y1, x2, y2 = window
    rows = np.floor(y1 + (np.arange(size[0]) + 0.5) * ((y2 - y1) / size[0])).astype(np.intp)
    columns = np.floor(x1 + (np.arange(size[1]) + 0.5) * ((x2 - x1) / size[1])).astype(np.intp)
    picked: Any = image[rows.clip(0, image.shape[0] - 1)][:, columns.clip(0, image.shape[1] - 1)]
    return np.ascontiguousarray(picked)


def resize_nearest(image: NDArray[_T], size: Size) -> NDArray[_T]:
    """A map ``[h, w]`` at another size H, W: each new pixel takes the old one under its centre."""
    if image.shape == tuple(size):
        return image
    return sample_nearest(image, (0.0, 0.0, float(image.shape[1]), float(image.shape[0])), size)


def _size_of(rle: Rle) -> Size:
    size: Any = rle["size"]
    try:
        return int(size[0]), int(size[1])
    except (TypeError, ValueError, LookupError, OverflowError):
        raise ValueError(f"a mask has the size {str(size)[:40]}; expected its height and width in px") from None


def _runs_of(rle: Rle) -> list[int]:
    counts = rle["counts"]
    assert isinstance(counts, bytes)
    runs = run_lengths(counts)
    _check_runs(min(runs, default=0), sum(runs), _size_of(rle))
    return runs


def _check_runs(least: int, total: int, size: Size) -> None:
    if least < 0 or total != size[0] * size[1]:
        raise ValueError(f"a mask's runs add up to {total} px; expected the image's {size[0] * size[1]}, none below 0")
