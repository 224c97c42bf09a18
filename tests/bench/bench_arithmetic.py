"""What the scoring arithmetic alone costs, against plain loops that give the same values.

    python tests/bench/bench_arithmetic.py
    python tests/bench/bench_arithmetic.py --only cald

Predictions are made once; no network runs. Values are compared before anything is timed. One thread, CPU seconds of
this process, loop and product in turns, the best of some rounds each; the product gets a batch of images, and its time
is divided by their number. What is a loop here is in loops.py.
"""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strategies.base import Seen, View
from strategies.boxmask import BoxMask
from strategies.cald import Cald
from strategies.cald_terms import (
    box_distances,
    class_vectors,
    consistency,
    padded,
    references,
    view_consistency,
)
from strategies.cdal_terms import Block, ContextDistance, contextual_distance, profiles
from strategies.equal import equal_scores
from strategies.k_center import KCenterShard, k_center
from strategies.views import boxmask_windows
from tasks.classes import ClassMap
from tasks.seeding import rng_of
from tasks.types import Detections, Prediction, SegMap
from tests.bench import loops
from tests.bench.race import ROUNDS, Operations, race, seconds
from tests.bench.results import record

BATCH = 16  # images, as the product scores by default


# ---- CALD ------------------------------------------------------------------------------------------------------------

SIZE = (480, 800)
DETECTED = tuple(f"object {c}" for c in range(10))
ORIGINAL_OPERATIONS = {5: 1692, 20: 6010, 50: 13950}  # of the authors' loop, by boxes an image


def found_boxes(rng: np.random.Generator, count: int, size: tuple[int, int]) -> Detections:
    """Boxes with a softmax over 10 classes and the background, best first."""
    corner = rng.uniform(0, 0.8, (count, 2)) * size[::-1]
    boxes = np.concatenate([corner, corner + rng.uniform(20, 0.2 * size[0], (count, 2))], 1)
    return with_vectors(rng, boxes)


def with_vectors(rng: np.random.Generator, boxes: NDArray[np.float64]) -> Detections:
    logits = rng.normal(0, 2, (len(boxes), len(DETECTED) + 1))
    probs = torch.softmax(torch.from_numpy(logits).float(), 1)
    scores, labels = probs[:, :-1].max(1)
    order = scores.clamp(min=0.06).sort(descending=True).indices
    return Detections(
        torch.from_numpy(boxes).float()[order], scores.clamp(min=0.06)[order], labels[order], probs[order]
    )


def hulls(boxes: Tensor, matrix: Tensor) -> Tensor:
    """The upright boxes around mapped ones, ``[N, 4]``, corner by corner."""
    found = []
    for x1, y1, x2, y2 in boxes.double().tolist():
        corners = torch.tensor([[x1, y1, 1], [x2, y1, 1], [x1, y2, 1], [x2, y2, 1]], dtype=torch.float64)
        moved = corners @ matrix.double().T
        found.append(torch.cat([moved.amin(0), moved.amax(0)]))
    return torch.stack(found).float()


@dataclass(frozen=True)
class Consistent:
    """The detections in one image and its views, and its boxes in each view."""

    base: Detections
    answers: list[Detections]
    mapped: list[Tensor]
    seen: Seen

    @property
    def sure(self) -> list[Tensor]:
        return [found.probs[:, : len(DETECTED)].amax(1) for found in (self.base, *self.answers)]


def consistent(row: int, boxes: int, matrices: dict[View, Tensor]) -> Consistent:
    """An image whose boxes are found again, moved a little and in another order."""
    rng = rng_of("cald", row, boxes)
    base = found_boxes(rng, boxes, SIZE)
    answers, mapped = [], []
    for name, matrix in zip(Cald.looks, matrices.values(), strict=True):
        moved = hulls(base.boxes, matrix)
        if name == "rotate":
            moved = torch.minimum(moved.clamp(min=0), torch.tensor([SIZE[1], SIZE[0], SIZE[1], SIZE[0]]))
        mapped.append(moved)
        again = rng.permutation(moved.numpy().astype(np.float64) + rng.normal(0, 2, moved.shape))
        limit = np.array([SIZE[1], SIZE[0]] * 2) * (0.8 if name == "resize" else 1.0)
        answers.append(with_vectors(rng, np.clip(again, 0, limit)))
    views = {
        view: ((Prediction({"detection": answer}), matrix),)
        for (view, matrix), answer in zip(matrices.items(), answers, strict=True)
    }
    classes = ClassMap(DETECTED, (), (-1,) * len(DETECTED))
    seen = Seen(f"{row}", row, SIZE, classes, 0.5, Prediction({"detection": base}), views)
    return Consistent(base, answers, mapped, seen)


def cald() -> str:
    return "; ".join(cald_of(boxes) for boxes in ORIGINAL_OPERATIONS)


def cald_of(boxes: int) -> str:
    strategy, blank = Cald(), torch.zeros(1, 3, *SIZE)
    some = Prediction({"detection": found_boxes(rng_of("cald"), 1, SIZE)})
    matrices = {
        view: view.render(blank, {}, [some], [rng_of("cald")], blank[0, :, 0, 0]).matrix[0] for view in strategy.views
    }
    images = [consistent(row, boxes, matrices) for row in range(BATCH)]
    seen, rngs = [one.seen for one in images], [rng_of("unused")] * BATCH
    stacked = torch.stack([torch.stack(one.mapped) for one in images])

    def loop(
        relative_entropy: Callable[..., float] = loops.entropy,
    ) -> list[tuple[float, list[float], NDArray[np.float64]]]:
        return [loops.cald_image(one.base, one.mapped, one.answers, one.sure, relative_entropy) for one in images]

    def terms() -> Tensor:
        refs = references(padded([one.base for one in images], 0.05, 100))
        answers = padded([answer for one in images for answer in one.answers], 0.05, 100).view(BATCH, len(matrices))
        distances = box_distances(stacked, refs.one_view(), answers, len(DETECTED))
        class_vectors(refs, answers, len(DETECTED))
        return consistency(view_consistency(distances, refs.one_view(), answers))

    expected, found = loop(), strategy.score_batch(seen, rngs)
    for (m, per_view, vector), score in zip(expected, found, strict=True):
        np.testing.assert_allclose(-score.value, m, rtol=0, atol=2e-6)
        np.testing.assert_allclose([score.parts[f"m_{look}"] for look in strategy.looks], per_view, rtol=0, atol=2e-6)
        np.testing.assert_allclose(score.summary, vector, rtol=0, atol=3e-7)
    np.testing.assert_allclose([m for m, *_ in loop(loops.short_entropy)], [m for m, *_ in expected], atol=2e-6)
    np.testing.assert_allclose(terms(), [m for m, *_ in expected], rtol=0, atol=2e-6)
    operations, first = Operations(), images[0]
    with operations:
        loops.cald_image(first.base, first.mapped, first.answers, first.sure)
    original = ORIGINAL_OPERATIONS[boxes]
    assert abs(operations.count / original - 1) <= 0.2, f"{operations.count} operations; expected {original} +- 20 %"
    whole = race(loop, BATCH, lambda: strategy.score_batch(seen, rngs), BATCH)
    alone = race(lambda: loop(loops.short_entropy), BATCH, terms, BATCH)
    verdict = whole.against(300) if boxes == 50 else whole.figures()
    return (
        f"CALD {boxes} boxes: {verdict}; loop of {operations.count:,} aten ops (original {original:,}) and "
        f"{operations.syncs:,} reads of a number, {alone.loop * 1e3:.3g} ms without scipy's entropy = "
        f"{alone.loop / whole.product:,.3g}x; terms alone {alone.product * 1e3:.3g} ms"
    )


# ---- CDAL ------------------------------------------------------------------------------------------------------------


def cdal() -> str:
    rng, classes, count = rng_of("cdal"), 19, 20_000
    means = rng.dirichlet(np.ones(classes), (count, classes)) + 1e-4
    means = (means / means.sum(-1, keepdims=True)).astype(np.float32)
    means[rng.random((count, classes)) < 0.4] = 0.0
    rows = profiles(torch.from_numpy(means)).numpy().astype(np.float64)  # as it is summarised
    flat = means.reshape(count, -1).astype(np.float64)
    few, some = 40, 25

    def loop() -> NDArray[np.float64]:
        return loops.pairwise(flat[:few], flat[-some:], loops.context_divergence)

    expected = loop()
    np.testing.assert_allclose(contextual_distance(rows[:few], rows[-some:], classes), expected, rtol=0, atol=2e-6)
    kept, distance = rows.astype(np.float32), ContextDistance((Block(0, classes, classes),))
    terms = distance.terms(kept)
    bounds = [distance.bound(kept[:few], terms[:few], kept[-some:], terms[-some:], side) for side in (-1, 1)]
    assert (bounds[0] <= expected + 2e-6).all()
    assert (bounds[1] >= expected - 2e-6).all()
    shard = KCenterShard(kept, np.arange(count, dtype=np.uint64), np.ones(count, bool), distance)
    parts = []
    for centres in (1, 64):
        new = rng.choice(count, centres, replace=False)

        def covered(new: NDArray[np.int64] = new) -> None:
            shard.cover(kept[new])
            shard.settle()

        found = race(loop, few * some, covered, count * centres)
        parts.append(f"{centres} centres {found.against(1000, 1e9, 'ns a pair')}")
    exact = race(loop, few * some, lambda: contextual_distance(rows, rows[:64], classes), count * 64)
    return (
        f"CDAL, pairs of a traversal over {count:,} images of {classes} classes: {', '.join(parts)}; "
        f"its exact distances of what is in question {exact.product * 1e9:.3g} ns a pair"
    )


# ---- EquAL -----------------------------------------------------------------------------------------------------------


def equal() -> str:
    generator = torch.Generator().manual_seed(0)
    plain, mirrored = (torch.randn(20, 512, 1024, generator=generator) * 4 for _ in range(2))
    grid = (8, 16)

    def product() -> Tensor:
        logs = [torch.log_softmax(logits, 0)[None] for logits in (plain, mirrored)]
        return equal_scores(logs[0], logs[1].flip(-1), "entropy")

    logs = [torch.log_softmax(plain, 0)[None], torch.log_softmax(mirrored, 0)[None]]
    expected, patches = loops.equal_image(plain, mirrored, grid)
    np.testing.assert_allclose(product(), [expected], rtol=2e-6)
    np.testing.assert_allclose(patches.mean(), expected, rtol=2e-6)
    parts = []
    whole = race(lambda: loops.equal_image(plain, mirrored, grid), 1, product, 1)
    parts.append(f"log_softmax and entropy {whole.against(2)}")
    for form in ("entropy", "kl"):
        alone = race(lambda: None, 1, lambda f=form: equal_scores(logs[0], logs[1].flip(-1), f), 1)  # type: ignore[misc]
        parts.append(f"{form} of log-probabilities {alone.product * 1e3:.3g} ms")
    return f"EquAL 20 x 512 x 1024: {', '.join(parts)}"


# ---- core-set --------------------------------------------------------------------------------------------------------


def coreset() -> str:
    count, width, labeled, picks = 20_000, 256, 100, 100
    rng = rng_of("coreset")
    scenes = rng.normal(size=(200, 32))
    lively = scenes[rng.integers(0, len(scenes), count)] + 0.5 * rng.normal(size=(count, 32))
    pooled = np.maximum(lively @ rng.normal(size=(32, width)) / 6 + 0.3, 0) + 0.02 * rng.normal(size=(count, width))
    parts = []
    for name, features in (("200 kinds of scenes", pooled), ("pure noise", rng.normal(size=(count, width)))):
        kept = features.astype(np.float32)
        exact, mask = kept.astype(np.float64), np.arange(count) < labeled
        keys = np.arange(count, dtype=np.uint64)
        norms = np.square(exact).sum(1)
        first = loops.k_center_greedy(exact, mask, 10)
        assert k_center(kept, mask, 10, keys).tolist() == first == loops.k_center_greedy(exact, mask, 10, norms)

        def product(x=kept, m=mask, k=keys) -> object:  # type: ignore[no-untyped-def]
            return k_center(x, m, picks, k)

        found = race(lambda x=exact, m=mask: loops.k_center_greedy(x, m, picks), picks, product, picks)  # type: ignore[misc]
        kept_norms = seconds(lambda x=exact, m=mask, n=norms: loops.k_center_greedy(x, m, picks, n), 3) / 3 / picks  # type: ignore[misc]
        parts.append(
            f"{name} {found.against(8, 1e3, 'ms a pick')}, a loop that squares the rows once {kept_norms * 1e3:.3g} ms"
        )
    return f"core-set {count:,} x {width}, {labeled} labeled, {picks} picks: {', '.join(parts)}"


# ---- BoxMask ---------------------------------------------------------------------------------------------------------

SEGMENTED = (*(f"stuff {c}" for c in range(9)), *DETECTED)
STREETS = ClassMap(DETECTED, SEGMENTED, tuple(range(9, 19)))


def street(row: int, boxes: int, strategy: BoxMask) -> Seen:
    """An image of 900 x 1600 with boxes of 60 to 360 pixels; segmentation and crops are at a quarter of the size."""
    rng = rng_of("boxmask", row)
    size, stride = (900, 1600), 4
    corner = rng.uniform(0, 0.8, (boxes, 2)) * size[::-1]
    sides = rng.permutation(np.geomspace(60, 360, boxes))[:, None] * rng.uniform(0.6, 1.0, (boxes, 2))
    probs = torch.softmax(torch.from_numpy(rng.normal(0, 2, (boxes, len(DETECTED) + 1))).float(), 1)
    corners = torch.from_numpy(np.concatenate([corner, corner + sides], 1)).float()
    found = Detections(corners, torch.linspace(0.9, 0.35, boxes), probs[:, :-1].argmax(1), probs)
    rough = torch.from_numpy(rng.normal(0, 2, (1, len(SEGMENTED), 15, 26))).float()
    shape = (size[0] // stride, size[1] // stride)
    logits = torch.nn.functional.interpolate(rough, shape, mode="bilinear")[0]
    small = strategy.crop_size // stride
    within = torch.from_numpy(rng.normal(0, 1, (boxes, len(SEGMENTED), small, small))).float()
    within[torch.arange(boxes), found.labels + 9] += torch.linspace(0, 6, small)  # the object is to the right
    crops = tuple((Prediction({"segmentation": SegMap(one)}), torch.eye(3)[:2]) for one in within.log_softmax(1))
    plain = Prediction({"detection": found, "segmentation": SegMap(logits.log_softmax(0))})
    return Seen(f"{row}", row, size, STREETS, 0.5, plain, {strategy.crops: crops})


def as_arrays(seen: Seen, strategy: BoxMask) -> tuple[object, ...]:
    """What the loops take: everything in pixels of the segmentation."""
    found = seen.plain.detections
    labels = (found.labels + 9).tolist()
    shares = found.probs[:, :-1].double().numpy()
    dists = np.concatenate([np.zeros((len(shares), 9)), shares / shares.sum(1, keepdims=True)], 1)
    crops = [one.log_probs[row] for row, (one, _) in zip(labels, seen.views[strategy.crops], strict=True)]
    return (
        seen.plain.log_probs.numpy(),
        found.boxes.double().numpy() / 4,
        labels,
        dists,
        torch.stack(crops).numpy(),
        boxmask_windows(found.boxes.double(), strategy.margin, strategy.min_side).numpy() / 4,
        set(range(9, 19)),
    )


def boxmask() -> str:
    strategy, boxes, count = BoxMask(), 20, 8
    seen = [street(row, boxes, strategy) for row in range(count)]
    arrays, rngs = [as_arrays(one, strategy) for one in seen], [rng_of("unused")] * count

    def loop() -> list[tuple[float, float, float]]:
        return [loops.boxmask_image(*one) for one in arrays]  # type: ignore[arg-type]

    def by_box() -> list[tuple[float, float, float]]:
        return [loops.boxmask_image_by_arrays(*one) for one in arrays]  # type: ignore[arg-type]

    expected = loop()
    np.testing.assert_allclose(by_box(), expected, rtol=1e-9)
    for score, (s_seg, s_loc, s_cls) in zip(strategy.score_batch(seen, rngs), expected, strict=True):
        assert s_loc > 0
        assert s_cls > 0
        found = [score.value, score.parts["s_seg"], score.parts["s_loc"], score.parts["s_cls"]]
        np.testing.assert_allclose(found, [s_seg + s_loc + s_cls, s_seg, s_loc, s_cls], rtol=2e-5)
    whole = race(loop, count, lambda: strategy.score_batch(seen, rngs), count)
    other = race(by_box, count, lambda: strategy.score_batch(seen, rngs), count)
    return (
        f"BoxMask {boxes} boxes, 225 x 400 x {len(SEGMENTED)}: score_batch {whole.against(20)}; against a numpy loop "
        f"over boxes alone {other.ratio:.3g}x ({other.loop * 1e3:.3g} ms)"
    )


WORK = (cald, cdal, equal, coreset, boxmask)
CASES: dict[str, Callable[[], str]] = {case.__name__: case for case in WORK}


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--only", choices=CASES, help="one strategy instead of all")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    with torch.no_grad():  # as the authors run theirs; inference mode counts other operations
        parts = [case() for name, case in CASES.items() if only in (None, name)]
    record(f"arithmetic alone, 1 thread, best of {ROUNDS}: " + "; ".join(parts))


if __name__ == "__main__":
    main()
