"""CDAL as a strategy: what it keeps of an image, whom it picks, every switch."""

from dataclasses import fields, replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from strategies.base import Budget, Seen
from strategies.candidates import ShardCandidates
from strategies.cdal import CDAL
from strategies.cdal_terms import (
    box_means,
    contextual_distance,
    dense_means,
    paired_distance,
    profiles,
    segmentation_means,
)
from strategies.conformance import assert_conforms
from strategies.sample_pool import SampleNetwork, sample_seen
from tasks.seeding import rng_of


def scored(strategy: CDAL, seen: list[Seen], labeled: int, amount: float = 4) -> ShardCandidates:
    scores = strategy.score_batch(seen, [])
    table = {
        "id": pa.array([one.id for one in seen]),
        "key": pa.array([one.key for one in seen], pa.uint64()),
        "labeled": pa.array([row < labeled for row in range(len(seen))]),
        "value": pa.array([score.value for score in scores], pa.float64()),
        "summary": pa.array([score.summary for score in scores], pa.list_(pa.float32())),
    }
    return ShardCandidates((pa.table(table),), Budget(amount), ("detection", "segmentation"))


def picks(strategy: CDAL, seen: list[Seen], labeled: int, amount: float = 4) -> list[str]:
    return [pick.id for pick in strategy.select(scored(strategy, seen, labeled, amount), rng_of(3))]


def brute_force(distances: np.ndarray, seen: list[Seen], labeled: int, amount: int) -> list[str]:
    """Farthest-first over a whole matrix of distances."""
    chosen = list(range(labeled))
    while len(chosen) < labeled + amount:
        rest = [row for row in range(len(seen)) if row not in chosen]
        chosen.append(min(rest, key=lambda row: (-distances[row, chosen].min(), seen[row].key)))
    return [seen[row].id for row in chosen[labeled:]]


@pytest.mark.parametrize("aggregate", ["mean", "sum"])
@pytest.mark.parametrize(("tasks", "det"), [("seg", "boxes"), ("det", "boxes"), ("det", "dense")])
def test_one_task_picks_by_its_own_distance(tasks: str, det: str, aggregate: str) -> None:
    strategy = CDAL(tasks=tasks, det=det, aggregate=aggregate)  # type: ignore[arg-type]
    seen = sample_seen(strategy, 30)
    if tasks == "seg":
        means = segmentation_means([one.plain.log_probs for one in seen])
    elif det == "dense":
        means = dense_means([one.plain.dense for one in seen if one.plain.dense is not None])
    else:
        found = [one.plain.detections for one in seen]
        boxes = [one.keep((one.scores >= 0.3).nonzero().flatten()[:50]) for one in found]
        image = torch.repeat_interleave(torch.arange(30), torch.tensor([len(one.scores) for one in boxes]))
        means = box_means(torch.cat([b.probs for b in boxes]), torch.cat([b.labels for b in boxes]), image, 30)
    rows = profiles(means).numpy().astype(np.float64)
    distances = contextual_distance(rows, rows, means.shape[1], aggregate)  # type: ignore[arg-type]
    assert len(np.unique(distances)) > 100
    assert picks(strategy, seen, 5) == brute_force(distances, seen, 5, 4)


def test_both_tasks_weigh_alike() -> None:
    strategy = CDAL(pairs_for_scale=4000)
    seen = sample_seen(strategy, 30)
    rows = {}
    for tasks in ("seg", "det"):
        part = replace(strategy, tasks=tasks).score_batch(seen, [])
        rows[tasks] = np.stack([one.summary for one in part if one.summary is not None])[:, 2:].astype(np.float64)
    expected = np.zeros((30, 30))
    for tasks, regions in (("seg", 5), ("det", 4)):
        pairs = np.array([(i, j) for i in range(5, 30) for j in range(5, 30) if i != j])  # the unlabeled ones
        scale = paired_distance(rows[tasks][pairs[:, 0]], rows[tasks][pairs[:, 1]], regions).mean()
        expected += contextual_distance(rows[tasks], rows[tasks], regions) / scale
    candidates = scored(strategy, seen, 5)
    sample = np.stack(candidates.rows(candidates.top_k(99))["summary"].to_pylist())
    every = np.stack(candidates.table()["summary"].to_pylist()).astype(np.float64)
    found = strategy.distance(sample, rng_of(3))(every, every)
    np.testing.assert_allclose(found, expected, rtol=0.1, atol=0.01)  # 4000 drawn pairs in place of all
    assert picks(strategy, seen, 5) == brute_force(found, seen, 5, 4)


def test_the_first_pick_is_the_farthest_and_without_labels_the_lowest_key() -> None:
    strategy = CDAL(tasks="seg")
    seen = sample_seen(strategy, 12)
    twin = replace(seen[11], plain=seen[0].plain)  # looks like a labeled image
    assert twin.id not in picks(strategy, [*seen[:11], twin], 1, 10)
    assert picks(strategy, [*seen[:11], twin], 1, 11)[-1] == twin.id
    assert picks(strategy, seen, 0, 1) == [min(seen, key=lambda one: one.key).id]
    assert len(picks(strategy, seen, 0, 99)) == 12


def test_what_an_image_keeps() -> None:
    seen = sample_seen(CDAL(), 4)
    for strategy, length in (
        (CDAL(), 2 + 50 + 32),
        (CDAL(tasks="seg"), 2 + 50),
        (CDAL(tasks="det"), 2 + 32),
    ):
        for one, score in zip(seen, strategy.score_batch(seen, []), strict=True):
            assert score.summary is not None
            assert len(score.summary) == length
            assert score.summary[:2].tolist() == [5.0 * (strategy.tasks != "det"), 4.0 * (strategy.tasks != "seg")]
            assert score.value == one.u
            if strategy.tasks != "det":
                assert score.parts["seg_classes"] == len(one.plain.log_probs.argmax(0).unique())
            if strategy.tasks != "seg":
                found = one.plain.detections
                assert score.parts["det_classes"] == len(found.labels[found.scores >= 0.3].unique())
    (dense, *_) = CDAL(tasks="det", det="dense").score_batch(sample_seen(CDAL(det="dense"), 2), [])
    assert dense.summary is not None
    assert len(dense.summary) == 2 + 8


def test_a_background_column_is_left_out() -> None:
    strategy = CDAL(det="boxes")
    (seen,) = sample_seen(strategy, 1)
    found = seen.plain.detections
    softmax = replace(found, probs=torch.cat([found.probs, torch.full((len(found.probs), 1), 0.7)], 1))
    twin = replace(seen, plain=replace(seen.plain, outputs={**seen.plain.outputs, "detection": softmax}))
    for one, other in zip(strategy.score_batch([seen], []), strategy.score_batch([twin], []), strict=True):
        np.testing.assert_array_equal(one.summary, other.summary)


def test_images_of_different_sizes_share_a_batch() -> None:
    strategy = CDAL()
    seen = sample_seen(strategy, 3)
    outputs = dict(seen[1].plain.outputs)
    outputs["segmentation"] = replace(outputs["segmentation"], log_probs=seen[1].plain.log_probs[:, 1:, :7])
    seen[1] = replace(seen[1], plain=replace(seen[1].plain, outputs=outputs))
    together = strategy.score_batch(seen, [])
    for one, score in zip(seen, together, strict=True):
        np.testing.assert_array_equal(score.summary, strategy.score_batch([one], [])[0].summary)


def test_where_nothing_is_detected() -> None:
    seen = sample_seen(CDAL(), 12, SampleNetwork(min_score=2.0))
    alone, joint = (picks(CDAL(tasks=tasks), seen, 2, 5) for tasks in ("det", "both"))
    assert alone == [one.id for one in sorted(seen[2:], key=lambda one: one.key)[:5]]  # all are alike
    assert joint == picks(CDAL(tasks="seg"), seen, 2, 5)  # its other half decides


def test_empty_images_come_last_however_missing_classes_are_treated() -> None:
    for no_common in ("zero", "skip"):
        strategy = CDAL(tasks="det", no_common=no_common)  # type: ignore[arg-type]
        seen = sample_seen(strategy, 12)
        nothing = sample_seen(strategy, 12, SampleNetwork(min_score=2.0))
        mixed = [*seen[:6], *nothing[6:]]
        order = picks(strategy, mixed, 2, 99)
        assert set(order[-6:]) >= {one.id for one in mixed[6:] if one.id not in order[:4]}
        assert set(order[:3]) <= {one.id for one in mixed[2:6]}


CHANGED = {
    "det": "dense",
    "aggregate": "sum",
    "no_common": "skip",
    "tasks": "seg",
    "pairs_for_scale": 1,
    "min_score": 0.8,
    "max_boxes": 1,
}


@pytest.mark.parametrize("field", [field.name for field in fields(CDAL)])
def test_every_switch_changes_a_pick_or_a_distance(field: str) -> None:
    found = []
    base = CDAL(max_boxes=1) if field == "no_common" else CDAL()  # few classes an image: some pairs share none
    for strategy in (base, replace(base, **{field: CHANGED[field]})):
        candidates = scored(strategy, sample_seen(strategy, 40), 3)
        summaries = np.stack(candidates.table()["summary"].to_pylist()).astype(np.float64)
        found.append(strategy.distance(summaries, rng_of(0))(summaries, summaries))
    assert not np.allclose(*found)


def test_a_plan_reads_only_the_heads_of_its_tasks() -> None:
    assert CDAL().reads == ("detection", "segmentation")
    assert CDAL(tasks="seg", det="dense").reads == ("segmentation",)
    assert CDAL(tasks="det").reads == ("detection",)
    assert CDAL(tasks="det", det="dense").reads == ("detection.dense",)
    assert CDAL().scores_labeled
    assert CDAL().views == ()


def test_the_gallery_shows_where_pixels_weigh() -> None:
    (seen,) = sample_seen(CDAL(), 1)
    (picture,) = CDAL().explain(seen).values()
    logs = seen.plain.log_probs
    torch.testing.assert_close(picture, -(logs.exp() * logs).sum(0))
    assert CDAL(tasks="det").explain(seen) == {}


def test_bad_settings_and_missing_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="pairs_for_scale is 0"):
        CDAL(pairs_for_scale=0)
    with pytest.raises(ValueError, match="max_boxes is 0"):
        CDAL(max_boxes=0)
    with pytest.raises(ValueError, match="'sample/0' has no dense logits"):
        CDAL(det="dense").score_batch(sample_seen(CDAL(), 1), [])


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    [
        CDAL(),
        CDAL(tasks="det", det="dense", aggregate="sum"),
        CDAL(no_common="skip", pairs_for_scale=7),
        CDAL(tasks="seg"),
    ],
)
def test_conforms(strategy: CDAL) -> None:
    assert_conforms(strategy)
