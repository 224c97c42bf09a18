"""What each file of reference vectors is compared with: the product's public functions, quantity by quantity."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from strategies.alternation import Alternation
from strategies.boxmask_terms import boxmask_scores
from strategies.cald import Cald
from strategies.cald_views import Holes, Resize, cut_holes, hole_mask, rotated_size, rotation_matrix
from strategies.cdal_terms import (
    Block,
    ContextDistance,
    contextual_distance,
    dense_means,
    profiles,
    segmentation_means,
)
from strategies.class_balance import candidate_count, class_balance
from strategies.entropy import entropy_maps
from strategies.equal import equal_maps, equal_scores
from strategies.k_center import Distance, SquaredL2, k_center
from strategies.ll4al import LL4AL
from strategies.ranks import rank_combination
from strategies.selection import Leaders, top_k, top_k_over
from strategies.views import HFlip, boxmask_windows
from tasks.geometry import affine_boxes, clip_boxes
from tasks.nets.lossnet import ranking_loss
from tasks.seeding import uniforms
from tests.golden import (
    BOXMASK_VARIANTS,
    boxmask_pipeline,
    boxmask_table,
    boxmask_value,
    cald_scores,
    cald_seen,
    inside_smaller,
    label_counts,
    predicted_losses,
)

PRECISIONS = (("float64", torch.float64, 1e-8), ("float32", torch.float32, 1e-5))


class Golden(dict[str, np.ndarray]):
    """The arrays of a file; knows which were asked for."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            super().__init__(file)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> np.ndarray:
        self.asked.add(name)
        return super().__getitem__(name)

    def tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self[name])

    def cases(self, ending: str) -> list[str]:
        """What stands before an ending in the names of the arrays."""
        return [name.removesuffix(ending) for name in self if name.endswith(ending)]


@dataclass(frozen=True)
class Compared:
    """One quantity of one case."""

    quantity: str
    by: str  # public function
    ours: ArrayLike
    theirs: ArrayLike
    within: float | None = 0.0  # as stated with the files; 0 = identical, None = nothing is stated

    @property
    def deviation(self) -> tuple[float, float, bool]:
        """The largest absolute difference, the reference's value there, and whether all are within the tolerance.

        Infinite where a shape, an id or NaN differs. A tolerance is absolute for values up to 1 and relative beyond.
        """
        ours, theirs = np.asarray(self.ours), np.asarray(self.theirs)
        if np.array_equal(ours, theirs):
            return 0.0, 0.0, True
        if ours.shape != theirs.shape or self.within == 0:
            return np.inf, 0.0, False
        off = np.abs(ours.astype(np.float64) - theirs).ravel()
        off[np.isnan(off)] = np.inf
        worst, values = int(off.argmax()), np.abs(theirs.astype(np.float64)).ravel()
        allowed = np.inf if self.within is None else self.within * np.maximum(values, 1)
        return float(off[worst]), float(values[worst]), bool(np.isfinite(off).all() and (off <= allowed).all())


def boxmask_cases(golden: Golden) -> Iterator[Compared]:
    by = "boxmask_terms.boxmask_scores"
    for precision, dtype, within in PRECISIONS:
        for case in golden["case_names"]:
            table, to_seg = boxmask_table(golden, [case], dtype)
            for variant, rules in BOXMASK_VARIANTS.items():
                of, found = f"{case}/expect_{variant}", boxmask_scores(table, to_seg, rules)
                parts: dict[str, ArrayLike] = {"s_loc": found.s_loc, "s_cls": found.s_cls, "s_seg": found.s_seg[0]}
                parts |= {"s_box": found.s_loc + found.s_cls, "score": boxmask_value(found)}
                for name, ours in parts.items():
                    yield Compared(f"{name}, {precision}", by, ours, golden[f"{of}/{name}"], within)
                yield Compared("pixels of the masks", by, found.area, golden[f"{of}/bm_area"])
                if variant == "default":
                    yield Compared("union of the masks", by, found.union[0], golden[f"{of}/union"])
    for case in golden["case_names"]:
        windows = boxmask_windows(golden.tensor(f"{case}/boxes"))
        yield Compared("windows, float32", "views.boxmask_windows", windows, golden[f"{case}/windows"], 1e-5)


def boxmask_end_to_end(golden: Golden) -> Iterator[Compared]:
    by = "boxmask_terms.boxmask_scores"
    for case in golden.cases("/image"):
        windows, crops, found = boxmask_pipeline(golden, case)
        expect = {name: golden[f"{case}/expect_{name}"] for name in ("s_loc", "s_cls", "score", "bm_area", "union")}
        yield Compared("windows", "views.boxmask_windows", windows, golden[f"{case}/expect_windows"], 5e-9)
        yield Compared("crops", "views.crop_windows", crops, golden[f"{case}/expect_crop_images"], 1e-7)
        yield Compared("s_loc", by, found.s_loc, expect["s_loc"], 5e-9)
        yield Compared("s_cls", by, found.s_cls, expect["s_cls"], 5e-9)
        yield Compared("s_seg", by, found.s_seg[0], golden[f"{case}/expect_s_seg"], 5e-9)
        yield Compared("score", by, boxmask_value(found), expect["score"], 5e-9)
        yield Compared("pixels and union of the masks", by, found.area, expect["bm_area"])
        yield Compared("pixels and union of the masks", by, found.union[0], expect["union"])


def cald_augment(golden: Golden) -> Iterator[Compared]:
    for case in golden.cases("_size_wh"):
        (width, height), boxes = golden[f"{case}_size_wh"].tolist(), golden.tensor(f"{case}_boxes")
        size, by = (height, width), "cald_views.rotation_matrix (official)"
        for name, view in (("flip", HFlip()), ("resize08", Resize(0.8, 1)), ("resize12", Resize(1.2, 1))):
            matrix = view.render(torch.zeros(1, 3, *size), {}, None, [], torch.zeros(3)).matrix[0]
            expected, by_view = golden[f"{case}_{name}_boxes"], f"{type(view).__name__}.render"
            yield Compared(f"boxes, {name}", by_view, affine_boxes(boxes, matrix), expected, 5e-5)
        smaller = Resize(0.8).shown(size)[::-1]
        yield Compared("size, resize08", "Resize.shown", smaller, golden[f"{case}_resize08_wh"])
        for name, angle in (("rot5", 5.0), ("rotm10", -10.0)):
            expanded = rotated_size(angle, size)[::-1]
            yield Compared("expanded size", "cald_views.rotated_size", expanded, golden[f"{case}_{name}_expanded_wh"])
            mapped = clip_boxes(affine_boxes(boxes.double(), rotation_matrix(angle, size, "official")), size)
            yield Compared(f"boxes, {name}", by, mapped, golden[f"{case}_{name}_boxes"], 5e-5)
    image = golden.tensor("s2_image_u8_hwc").permute(2, 0, 1)[None] / 255
    flipped = HFlip().render(image, {}, None, [], torch.zeros(3)).images[0]
    yield Compared("pixels, flip", "HFlip.render", flipped, golden["s2_flip_image_chw"])
    for case in golden.cases("_keep_mask"):
        boxes, kept = golden.tensor(f"{case}_boxes")[None], golden[f"{case}_keep_mask"]
        drawn, there = golden.tensor(f"{case}_u").view(1, -1, 4), torch.ones(boxes.shape[:2], dtype=torch.bool)
        holes = cut_holes(drawn, boxes, there, kept.shape, Holes())
        yield Compared("kept by cutout", "cald_views.cut_holes, hole_mask", ~hole_mask(holes, kept.shape)[0], kept)


def cald_consistency(golden: Golden) -> Iterator[Compared]:
    for beta, name in ((1.0, "consistency_beta1.0"), (1.5, "consistency_beta1.5"), (1.3, "consistency")):
        m, per_view, vectors = cald_scores(golden, beta)
        yield Compared(f"M, beta {beta}", "cald_terms.consistency", m, golden[name], 3e-7)
        if beta == golden["beta"]:
            yield Compared(
                "M of each view", "cald_terms.view_consistency", per_view, golden["consistency_per_aug"], 3e-7
            )
            yield Compared("class vectors", "cald_terms.class_vectors", vectors, golden["cls_corrs"], 3e-7)
    strategy = Cald(rotation_offset="official", min_score=0.0)
    scores = strategy.score_batch(cald_seen(golden, strategy), [])
    whole = np.array([[score.parts[f"m_{look}"] for look in strategy.looks] for score in scores])
    known = np.ones(whole.shape, dtype=bool)
    known[:, strategy.looks.index("resize")] = inside_smaller(golden)
    theirs = golden["consistency_per_aug"][known]  # what is stated holds for boxes that are mapped already
    yield Compared("M of each view, boxes mapped by us", "Cald.score_batch", whole[known], theirs, None)
    summaries = [np.asarray(score.summary) for score in scores]
    yield Compared("class vectors", "Cald.score_batch", summaries, golden["cls_corrs"], 3e-7)


def cald_second_stage(golden: Golden) -> Iterator[Compared]:
    for case in golden.cases("_budget"):
        (counts, images), vectors = label_counts(golden, f"{case}_"), golden[f"{case}_cls_corrs"]
        keys, budget = np.arange(len(vectors), dtype=np.uint64), int(golden[f"{case}_budget"])
        for target, name in (("labeled", "default"), ("uniform", "uniform")):
            ours = class_balance(vectors, counts / images, keys, budget, target)  # type: ignore[arg-type]
            theirs = golden[f"{case}_selected_{name}"][:budget]  # exceeds the budget where many images are empty
            yield Compared(f"picks within the budget, {target}", "class_balance.class_balance", ours, theirs)


def cald_selection(golden: Golden) -> Iterator[Compared]:
    (counts, images), budget = label_counts(golden), int(golden["budget"])
    values, vectors = -golden["uncertainty"], golden["cls_corrs"]
    keys = np.arange(len(values), dtype=np.uint64)
    first = top_k(values, keys, candidate_count(budget, float(golden["mr"])))
    second = class_balance(vectors[first].astype(np.float32), counts / images, keys[first], budget)
    yield Compared("first stage", "selection.top_k", first, golden["stage1_positions"])
    yield Compared("second stage", "class_balance.class_balance", second, golden["stage2_positions"])
    yield Compared(
        "ids",
        "selection.top_k, class_balance.class_balance",
        golden["subset_ids"][first[second]],
        golden["selected_ids"],
    )


def cdal_seg_feature(golden: Golden) -> Iterator[Compared]:
    for case in golden.cases("_feature"):
        (found,) = segmentation_means([golden.tensor(f"{case}_softmax").log()]).numpy()
        by, present = "cdal_terms.segmentation_means", golden[f"{case}_classes_present"]
        yield Compared("contexts", by, found, golden[f"{case}_feature"], 2e-7)
        yield Compared("classes present", by, (found > 0).all(1), present)


def cdal_det_feature(golden: Golden) -> Iterator[Compared]:
    cases = golden.cases("_logits")
    expected = np.stack([golden[f"{case}_feature"] for case in cases])
    found = dense_means([golden.tensor(f"{case}_logits") for case in cases])
    yield Compared("contexts", "cdal_terms.dense_means", found[:, 0], expected, 1e-7)
    yield from object_distances(found.double(), golden["kl_object"], "of our contexts")
    yield from object_distances(torch.from_numpy(expected)[:, None].double(), golden["kl_object"], "of theirs")


def cdal_det_official_samples(golden: Golden) -> Iterator[Compared]:
    yield from object_distances(golden.tensor("features")[:, None].double(), golden["kl_object"], "of their samples")


def object_distances(means: torch.Tensor, expected: np.ndarray, whose: str) -> Iterator[Compared]:
    rows = profiles(means).double().numpy()
    found = contextual_distance(rows, rows, 1)
    yield Compared(f"distances {whose}", "cdal_terms.contextual_distance", found, expected, 1e-7)


def cdal_cs(golden: Golden) -> Iterator[Compared]:
    rows, by = profiles(golden.tensor("features")).numpy(), "cdal_terms.contextual_distance"
    yield Compared("distances, mean", by, contextual_distance(rows, rows, 19), golden["kl_cs"], 4e-15)
    total = contextual_distance(rows, rows, 19, "sum")
    yield Compared("distances, sum", by, total, golden["kl_segment_sum"], 2e-6)
    for case in golden.cases("_random_first"):
        first, expected = int(golden[f"{case}_random_first"]), golden[f"{case}_selected_in_order"]
        centres, count = [*golden[f"{case}_labeled"], first], int(golden[f"{case}_budget"]) - 1
        picks, left = farthest_first(rows, centres, count, ContextDistance((Block(0, 19, 19),)))
        yield Compared("picks after the first", "k_center.k_center", [first, *picks], expected)
        yield Compared(
            "distances left", "cdal_terms.ContextDistance", left, golden[f"{case}_min_distance_after"], 4e-15
        )


def coreset(golden: Golden) -> Iterator[Compared]:
    for case in golden.cases("_selected_in_order"):
        expected = golden[f"{case}_selected_in_order"]
        picks, left = farthest_first(golden["features"], golden[f"{case}_labeled"], int(golden[f"{case}_budget"]))
        yield Compared("picks in order", "k_center.k_center", picks, expected)
        left, by = np.sqrt(left), "k_center.SquaredL2"
        yield Compared("distances left", by, left, golden[f"{case}_min_distances_after"], None)
        yield Compared("largest distance", by, left.max(), golden[f"{case}_final_max_min_distance"], None)
        if case == "a":
            theirs = golden["a_deepcore_selected_sorted"]
            yield Compared("picks of DeepCore", "k_center.k_center", sorted(picks), theirs)


def farthest_first(
    rows: np.ndarray, centres: ArrayLike, count: int, distance: Distance | None = None
) -> tuple[list[int], np.ndarray]:
    """``count`` picks, and how far every row is from the nearest centre then."""
    labeled = np.zeros(len(rows), dtype=bool)
    labeled[np.asarray(centres, dtype=np.int64)] = True
    distance = distance or SquaredL2()
    picks = k_center(rows, labeled, count, np.arange(len(rows), dtype=np.uint64), distance).tolist()
    labeled[picks] = True
    return picks, distance(rows.astype(np.float64), rows[labeled].astype(np.float64)).min(axis=1)


def equal(golden: Golden) -> Iterator[Compared]:
    for case in golden.cases("_logits"):
        given = [golden.tensor(f"{case}_{x}") for x in ("logits", "logits_unflipped")]
        a, b = (torch.log_softmax(one, 0)[None] for one in given)
        both = golden[f"{case}_entropy_map"]
        yield Compared("entropy of both, map", "equal.equal_maps", equal_maps(a, b, "entropy")[0], both, 1e-6)
        found = equal_scores(a, b, "entropy")[0]
        yield Compared("entropy of both, mean", "equal.equal_scores", found, golden[f"{case}_image_score"], 1e-6)
        for number, one in ((1, a), (2, b)):
            expected = golden[f"{case}_entropy_map_{number}"]
            yield Compared("entropy of one, map", "entropy.entropy_maps", entropy_maps(one)[0], expected, 1e-6)
        for precision, dtype, _ in PRECISIONS:
            a, b = (torch.log_softmax(one.to(dtype), 0)[None] for one in given)
            for name, form in (("kl_fwd", "fwd"), ("kl_sym", "sym"), ("js", "js")):
                found, mean = equal_scores(a, b, "kl", form)[0], golden[f"{case}_ref_{name}_mean"]  # type: ignore[arg-type]
                yield Compared(f"{name}, mean, {precision}", "equal.equal_scores", found, mean, 1e-6)


def ll4al(golden: Golden) -> Iterator[Compared]:
    by = "tasks.nets.lossnet.ranking_loss"
    for case in golden.cases("_margin"):
        predicted, target = golden.tensor(f"{case}_pred").requires_grad_(), golden.tensor(f"{case}_target")
        margin, half = float(golden[f"{case}_margin"]), len(target) // 2
        loss = ranking_loss(predicted, target, margin)
        loss.backward()  # type: ignore[no-untyped-call]
        assert predicted.grad is not None
        yield Compared("loss", by, loss.item(), golden[f"{case}_loss_mean"], 2e-8)
        yield Compared("gradient", by, predicted.grad, golden[f"{case}_grad_pred"], 2e-8)
        each = [ranking_loss(predicted[[i, -1 - i]], target[[i, -1 - i]], margin).item() for i in range(half)]
        yield Compared("loss of each pair", by, each, golden[f"{case}_loss_none"], 2e-8)
    for kind in ("lossnet", "fpnlossnet"):
        for precision, dtype, _ in PRECISIONS:
            found, expected = predicted_losses(golden, kind, dtype), golden[f"{kind}_out"].ravel()
            yield Compared(f"predicted losses, {precision}", "tasks.nets.lossnet.LossNet", found, expected, 2e-8)


def random_scores(golden: Golden) -> Iterator[Compared]:
    for name in (name for name in golden if name.startswith("u_")):
        seed, cycle = (int(part.lstrip("sedcyl")) for part in name.split("_")[1:])
        yield Compared("u", "tasks.seeding.uniforms", uniforms(golden["ids"], seed, cycle), golden[name])
    keys = np.arange(1000, dtype=np.uint64)
    picks = top_k(uniforms(keys, 3, 2), keys, 100)
    yield Compared("picks", "selection.top_k", picks, golden["top_seed3_cycle2_n1000_k100"])


def selection_rules(golden: Golden) -> Iterator[Compared]:
    ids, scores, k = golden["ids"].astype(np.uint64), golden["scores"], int(golden["k"])
    yield Compared("picks, high first", "selection.top_k", ids[top_k(scores, ids, k)], golden["top_k_high"])
    yield Compared("picks, low first", "selection.top_k", ids[top_k(-scores, ids, k)], golden["top_k_low"])
    workers = [Leaders(k) for _ in np.unique(golden["shard"])]
    for shard, worker in enumerate(workers):
        worker.offer(scores, ids, open=golden["shard"] == shard)
    yield Compared("picks over shards", "selection.top_k_over", ids[top_k_over(workers, k)[1]], golden["top_k_high"])
    pair = np.stack([-golden["det_scores_low_first"], golden["seg_scores_high_first"]], 1).astype(np.float64)
    ranked = ids[rank_combination(pair, ids, k)]
    yield Compared("rank combination", "ranks.rank_combination", ranked, golden["rank_combination_selected"])
    turns, members = golden["alternation_tasks_6_cycles"], {LL4AL("det"): "det", LL4AL("seg"): "seg"}
    whose = [members[Alternation(tuple(members)).at(cycle)] for cycle in range(len(turns))]  # type: ignore[index]
    yield Compared("turns", "Alternation.at", whose, turns)


# by file; one that is not here has to be left out by name in bench_golden.py
COMPARISONS: dict[str, Callable[[Golden], Iterator[Compared]]] = {
    "boxmask_end_to_end": boxmask_end_to_end,
    "boxmask_scores": boxmask_cases,
    "cald_augment": cald_augment,
    "cald_consistency": cald_consistency,
    "cald_second_stage": cald_second_stage,
    "cald_selection": cald_selection,
    "cdal_cs": cdal_cs,
    "cdal_det_feature": cdal_det_feature,
    "cdal_det_official_samples": cdal_det_official_samples,
    "cdal_seg_feature": cdal_seg_feature,
    "coreset": coreset,
    "equal": equal,
    "ll4al": ll4al,
    "random_scores": random_scores,
    "selection_rules": selection_rules,
}
