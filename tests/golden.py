"""The reference vectors as the product's functions take them: for the tests, and for the table of deviations."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from strategies.base import Seen
from strategies.boxmask_terms import BoxScores, BoxTable, Rules, boxmask_scores
from strategies.cald import Cald
from strategies.cald_terms import (
    box_distances,
    class_vectors,
    consistency,
    padded,
    references,
    view_consistency,
)
from strategies.views import boxmask_windows, crop_windows
from tasks.classes import ClassMap
from tasks.nets.lossnet import LossNet
from tasks.types import Detections, Prediction

Golden = Mapping[str, np.ndarray]
SHARED = Path(os.environ.get("MTAL_SHARED", Path(__file__).parents[2] / "shared"))  # beside the repository
CALD_VIEWS = ("flip", "cut_out", "smaller_resize", "rotation")
BOXMASK_VARIANTS = {
    "default": Rules(),
    "eps1e3": Rules(eps=1e-3),
    "eps1e8": Rules(eps=1e-8),
    "empty_one": Rules(empty="one"),
    "empty_box": Rules(empty="box"),
    "support_det": Rules(support="det"),
    "soft_seg": Rules(soft_seg=True),
    "tau05": Rules(tau=0.5),
}


def load(shared: Path, name: str) -> dict[str, np.ndarray]:
    """Every array of one file."""
    with np.load(shared / "golden" / f"{name}.npz") as file:
        return dict(file)


# ---- BoxMask ---------------------------------------------------------------------------------------------------------


def boxmask_table(golden: Golden, names: Sequence[str], dtype: torch.dtype) -> tuple[BoxTable, Tensor]:
    """Cases of one class map as one batch, and that map."""
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


def boxmask_pipeline(golden: Golden, case: str) -> tuple[Tensor, Tensor, BoxScores]:
    """``(windows, crops, scores)`` in float64, from the image and the boxes of one case on."""
    of = {k.split("/")[1]: torch.from_numpy(golden[k]) for k in golden if k.startswith(f"{case}/")}
    weight, bias = (torch.from_numpy(golden[k]).double() for k in ("weight", "bias"))
    to_seg = torch.from_numpy(golden["det_to_seg"])

    def network(images: Tensor) -> Tensor:
        return torch.softmax(torch.einsum("kc,nchw->nkhw", weight, images) + bias[:, None, None], 1)

    image, boxes, labels = of["image"][None].double(), of["boxes"].double(), to_seg[of["labels"]]
    every = torch.zeros(len(boxes), dtype=torch.int64)
    windows = boxmask_windows(boxes)
    crops = crop_windows(image, every, windows, int(of["crop_size"]), int(of["points_per_bin"]))
    table = BoxTable(
        seg_probs=network(image),
        image=every,
        boxes=boxes,
        labels=labels,
        class_probs=of["det_prob"].double(),
        crop_probs=network(crops)[torch.arange(len(boxes)), labels],
        windows=windows[:, [0, 1, 2, 2]],
    )
    return windows, crops, boxmask_scores(table, to_seg)


def boxmask_value(found: BoxScores) -> float:
    """The score of the one image."""
    return float(found.s_seg[0]) + max((found.s_loc + found.s_cls).tolist(), default=0.0)


# ---- CALD ------------------------------------------------------------------------------------------------------------


def cald_detections(golden: Golden, name: str) -> list[Detections]:
    """Of every image; the background, which is first there, comes last."""
    found = []
    for low, high in pairwise(golden[f"{name}_off"]):
        boxes, scores, probs = (
            torch.from_numpy(golden[f"{name}_{x}"][low:high]) for x in ("boxes", "scores", "scores_cls")
        )
        labels = torch.from_numpy(golden[f"{name}_labels"][low:high]) - 1
        found.append(Detections(boxes, scores, labels, probs.roll(-1, 1)))
    return found


def cald_scores(golden: Golden, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """``(M [B], M_v [B, V], class vectors [B, C])`` through the public functions, with the boxes mapped there."""
    base = cald_detections(golden, "base")
    views = [cald_detections(golden, name) for name in CALD_VIEWS]
    sizes = np.diff(golden["base_off"]).tolist()
    count, classes = len(base), int(golden["num_fg"])
    refs = references(padded(base, 0.0, 1000))
    answers = padded([views[v][b] for b in range(count) for v in range(len(views))], 0.0, 1000).view(count, len(views))
    moved = []
    for name in CALD_VIEWS:  # the file holds the mapped boxes of all: they are thinned out as the references are
        mapped = torch.split(torch.from_numpy(golden[f"{name}_mapped_base_boxes"]), sizes)
        rows = [replace(one, boxes=boxes) for one, boxes in zip(base, mapped, strict=True)]
        moved.append(references(padded(rows, 0.0, 1000)).boxes)
    distances = box_distances(torch.stack(moved, 1), refs.one_view(), answers, classes, beta)
    per_view = view_consistency(distances, refs.one_view(), answers)
    return consistency(per_view), per_view, class_vectors(refs, answers, classes)


def cald_seen(golden: Golden, strategy: Cald) -> list[Seen]:
    """What the strategy would see: every image with its views, boxes to be mapped by the views' own matrices."""
    width, height = golden["image_wh"].tolist()
    base = cald_detections(golden, "base")
    image = torch.zeros(1, 3, height, width)
    plain = [Prediction({"detection": one}) for one in base]
    classes = ClassMap(tuple("abcdefghij"), (), (-1,) * 10)
    looks: list[dict[object, object]] = [{} for _ in base]
    for view, name in zip(strategy.views, CALD_VIEWS, strict=True):
        matrix = view.render(image, {}, plain[:1], [np.random.default_rng(0)], torch.zeros(3)).matrix[0]
        for mine, answer in zip(looks, cald_detections(golden, name), strict=True):
            mine[view] = ((Prediction({"detection": answer}), matrix),)
    return [
        Seen(str(b), b, (height, width), classes, 0.5, one, mine)  # type: ignore[arg-type]
        for b, (one, mine) in enumerate(zip(plain, looks, strict=True))
    ]


def inside_smaller(golden: Golden) -> np.ndarray:
    """``[B]`` bool: no box reaches beyond the resized image. Made-up boxes may; a network's do not, and are cut off."""
    corner = torch.from_numpy(golden["image_wh"]).repeat(2) * 0.8
    return np.array([bool((d.boxes <= corner).all()) for d in cald_detections(golden, "smaller_resize")])


def label_counts(golden: Golden, prefix: str = "") -> tuple[np.ndarray, int]:
    """How many labeled objects there are of each of 10 classes, and how many labeled images."""
    return np.bincount(golden[f"{prefix}lab_labels"] - 1, minlength=10), len(golden[f"{prefix}lab_off"]) - 1


# ---- loss prediction -------------------------------------------------------------------------------------------------


def predicted_losses(golden: Golden, kind: str, dtype: torch.dtype) -> Tensor:
    """What the module of one kind (``lossnet``, ``fpnlossnet``) answers with the stored weights and feature maps."""
    maps = [torch.from_numpy(golden[f"{kind}_feat{i}"]).to(dtype) for i in range(4)]
    net = LossNet([m.shape[1] for m in maps], 12).to(dtype)
    names = {f"FC{i + 1}": f"levels.{i}" for i in range(4)} | {"linear": "out"}
    net.load_state_dict(
        {
            f"{ours}.{of}": torch.from_numpy(golden[f"{kind}_w_{theirs}.{of}"])
            for theirs, ours in names.items()
            for of in ("weight", "bias")
        }
    )
    with torch.no_grad():
        found: Tensor = net([m.mean((2, 3)) for m in maps])
    return found
