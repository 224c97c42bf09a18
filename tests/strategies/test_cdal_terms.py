"""The arithmetic of CDAL against the authors' functions, plain loops, and itself in other blocks."""

from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from strategies.cdal_terms import (
    FLOOR,
    Block,
    ContextDistance,
    box_means,
    contextual_distance,
    dense_means,
    entropy,
    paired_distance,
    profiles,
    region_means,
    segmentation_means,
)
from strategies.k_center import KCenterShard, k_center, k_center_over

CASES = [(aggregate, no_common) for aggregate in ("mean", "sum") for no_common in ("zero", "skip")]


def contexts(seed: int, images: int, regions: int, width: int, absent: float = 0.5) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    found = rng.dirichlet(np.ones(width), (images, regions)) + 1e-4
    found[rng.random((images, regions)) < absent] = 0.0
    return torch.from_numpy(found / np.maximum(found.sum(-1, keepdims=True), 1e-9))


def rows(means: torch.Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = profiles(means).numpy().astype(np.float64)
    return found


# ---- the authors' numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["s0", "s1", "s2", "s3"])
def test_contexts_of_the_segmentation_match_the_reference(shared: Path, case: str) -> None:
    with np.load(shared / "golden" / "cdal_seg_feature.npz") as golden:
        (found,) = segmentation_means([torch.from_numpy(golden[f"{case}_softmax"]).log()]).numpy()
        np.testing.assert_allclose(found, golden[f"{case}_feature"], rtol=0, atol=2e-7)
        assert ((found > 0).all(1) == golden[f"{case}_classes_present"]).all()
        assert ((found > 0).any(1) == golden[f"{case}_classes_present"]).all()


def test_contexts_of_all_cells_match_the_reference(shared: Path) -> None:
    with np.load(shared / "golden" / "cdal_det_feature.npz") as golden:
        expected = np.stack([golden[f"d{i}_feature"] for i in range(12)])
        found = dense_means([torch.from_numpy(golden[f"d{i}_logits"]) for i in range(12)])
        np.testing.assert_allclose(found[:, 0], expected, rtol=0, atol=1e-7)
        for means in (found.double(), torch.from_numpy(expected)[:, None].double()):
            profile = rows(means)
            np.testing.assert_allclose(contextual_distance(profile, profile, 1), golden["kl_object"], rtol=0, atol=1e-7)


@pytest.mark.parametrize("aggregate", ["mean", "sum"])
def test_distances_of_the_authors_own_samples(shared: Path, aggregate: str) -> None:
    with np.load(shared / "golden" / "cdal_det_official_samples.npz") as golden:
        profile = rows(torch.from_numpy(golden["features"])[:, None].double())
        found = contextual_distance(profile, profile, 1, aggregate)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, golden["kl_object"], rtol=0, atol=1e-7)


def test_distances_of_contexts_match_the_reference(shared: Path) -> None:
    with np.load(shared / "golden" / "cdal_cs.npz") as golden:
        profile = rows(torch.from_numpy(golden["features"]))
        mean, total = golden["kl_cs"], golden["kl_segment_sum"]
    np.testing.assert_allclose(contextual_distance(profile, profile, 19), mean, rtol=0, atol=4e-15)
    np.testing.assert_allclose(contextual_distance(profile, profile, 19, "sum"), total, rtol=0, atol=2e-6)


@pytest.mark.parametrize("kept_as", [np.float64, np.float32])
@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_picks_match_the_reference(shared: Path, case: str, kept_as: type[np.floating]) -> None:
    """After the first pick, which is random there."""
    with np.load(shared / "golden" / "cdal_cs.npz") as golden:
        profile = rows(torch.from_numpy(golden["features"])).astype(kept_as)
        labeled = np.zeros(60, dtype=bool)
        labeled[golden[f"cs_{case}_labeled"]] = True
        first, *rest = golden[f"cs_{case}_selected_in_order"].tolist()
        assert first == int(golden[f"cs_{case}_random_first"])
        left = golden[f"cs_{case}_min_distance_after"]
    labeled[first] = True
    keys, distance = np.arange(60, dtype=np.uint64), ContextDistance((Block(0, 19, 19),))
    assert k_center(profile, labeled, len(rest), keys, distance).tolist() == rest
    labeled[rest] = True
    nearest = distance(profile.astype(np.float64), profile[labeled].astype(np.float64)).min(axis=1)
    np.testing.assert_allclose(nearest, left, rtol=0, atol=4e-15 if kept_as is np.float64 else 1e-6)


# ---- plain loops -----------------------------------------------------------------------------------------------------


def slow_means(probs: NDArray[np.float64], region: NDArray[np.int64], regions: int) -> NDArray[np.float64]:
    found = np.zeros((regions, probs.shape[1]))
    for which in range(regions):
        total = 0.0
        for p in probs[region == which]:
            weight = -sum(x * log(x) for x in p if x > 0)
            found[which] += weight * p
            total += weight
        if total > 0:
            found[which] /= total
        elif (region == which).any():
            found[which] = probs[region == which].mean(0)
    return found


def slow_distance(a: torch.Tensor, b: torch.Tensor, aggregate: str, no_common: str) -> float:
    terms = [
        float(((p - q) * (p.log() - q.log())).sum()) / 2
        for p, q in zip(a, b, strict=True)
        if (p > 0).all() and (q > 0).all()
    ]
    if not terms:
        return np.inf if no_common == "skip" and bool((a > 0).all(1).any()) else 0.0
    return sum(terms) / (len(terms) if aggregate == "mean" else 1)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4),
    classes=st.integers(1, 6),
    sharp=st.sampled_from([0.1, 3.0, 60.0]),
)
def test_contexts_are_those_of_plain_loops(seed: int, sizes: list[tuple[int, int]], classes: int, sharp: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.log_softmax(torch.randn(classes, h, w, generator=generator) * sharp, 0) for h, w in sizes]
    for found, one in zip(segmentation_means(maps), maps, strict=True):
        flat = one.double().flatten(1).T
        expected = slow_means(flat.exp().numpy(), one.argmax(0).flatten().numpy(), classes)
        np.testing.assert_allclose(found, expected, atol=3e-6)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32), regions=st.integers(1, 5), width=st.integers(1, 5), case=st.sampled_from(CASES),
    absent=st.sampled_from([0.0, 0.5, 0.9]),
)  # fmt: skip
def test_distances_are_those_of_plain_loops(
    seed: int, regions: int, width: int, case: tuple[str, str], absent: float
) -> None:
    some, others = (contexts(seed + i, 6 + i, regions, width, absent) for i in range(2))
    expected = [[slow_distance(a, b, *case) for b in others] for a in some]
    found = contextual_distance(rows(some), rows(others), regions, *case)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected, atol=1e-13)
    in_place = paired_distance(rows(some), rows(others)[:6], regions, *case)  # type: ignore[arg-type]
    np.testing.assert_allclose(in_place, np.diag(expected), atol=1e-13)


# ---- the same bits in any company ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_an_image_alone_has_the_same_context_to_the_last_bit(threads: int) -> None:
    generator = torch.Generator().manual_seed(5)
    shapes = [(32, 56), (7, 5), (1, 1), (131, 33), (32, 56), (64, 64)]
    maps = [torch.log_softmax(torch.randn(11, *shape, generator=generator) * 3, 0) for shape in shapes]
    cells = [one.flatten(1).T for one in maps]
    probs = torch.rand(90, 11, generator=generator)
    labels, image = torch.randint(0, 11, (90,), generator=generator), torch.arange(90) // 30
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(segmentation_means(maps), torch.cat([segmentation_means([one]) for one in maps]))
        assert torch.equal(dense_means(cells), torch.cat([dense_means([one]) for one in cells]))
        together = profiles(box_means(probs, labels, image, 3))
        for one in range(3):
            mine = image == one
            alone = box_means(probs[mine], labels[mine], image[mine] * 0, 1)
            assert torch.equal(together[one], profiles(alone)[0])
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@settings(derandomize=True, max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32), seg=st.integers(1, 20), det=st.integers(1, 11), case=st.sampled_from(CASES),
    step=st.integers(1, 40), wide=st.integers(1, 9),
)  # fmt: skip
def test_no_bit_of_a_distance_depends_on_the_blocks(
    seed: int, seg: int, det: int, case: tuple[str, str], step: int, wide: int
) -> None:
    summaries = np.concatenate([rows(contexts(seed, 60, seg, seg)), rows(contexts(seed + 1, 60, 1, det))], 1)
    blocks = Block(0, seg, seg, 0.7), Block(2 * seg * seg, 1, det, 0.1)
    distance = ContextDistance(blocks, *case)  # type: ignore[arg-type]
    centres = summaries[40:]
    whole = distance(summaries, centres)
    parts = [
        np.concatenate([distance(summaries[i : i + step], centres[j : j + wide]) for i in range(0, 60, step)])
        for j in range(0, 20, wide)
    ]
    assert (np.concatenate(parts, 1) == whole).all()
    order = np.random.default_rng(seed).permutation(60)
    assert (distance(summaries[order], centres[::-1].copy()) == whole[order][:, ::-1]).all()


@pytest.mark.slow
@settings(derandomize=True, max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32), labeled=st.sampled_from([0, 1, 9]), no_common=st.sampled_from(["zero", "skip"]))
def test_picks_are_the_same_for_any_number_of_shards(seed: int, labeled: int, no_common: str) -> None:
    rng = np.random.default_rng(seed)
    summaries = rows(contexts(seed, 90, 5, 5, 0.7)).astype(np.float32)
    summaries[60:80] = summaries[:20]  # duplicates
    keys, mask = rng.permutation(90).astype(np.uint64), np.arange(90) < labeled
    distance = ContextDistance((Block(0, 5, 5),), no_common=no_common)  # type: ignore[arg-type]
    expected = k_center(summaries, mask, 15, keys, distance).tolist()
    assert len(set(expected)) == 15
    for count in (2, 40):
        home = rng.integers(0, count, 90)
        where = [np.flatnonzero(home == s) for s in range(count)]
        shards = [KCenterShard(summaries[r], keys[r], ~mask[r], distance) for r in where]
        for shard in shards:
            shard.cover(summaries[mask])
        assert [int(where[s][r]) for s, r in k_center_over(shards, 15)] == expected


@settings(derandomize=True, max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    aggregate=st.sampled_from(["mean", "sum"]),
    no_common=st.sampled_from(["zero", "skip"]),
    kept_as=st.sampled_from([np.float32, np.float64]),
)
def test_bounds_hold(seed: int, aggregate: str, no_common: str, kept_as: type[np.floating]) -> None:
    pair = [rows(contexts(seed + i, 40, regions, 6, 0.4)).astype(kept_as) for i, regions in enumerate((6, 1))]
    summaries = np.concatenate([np.zeros((40, 2), kept_as), *pair], axis=1)
    summaries[:5] = summaries[5:10]
    blocks = Block(2, 6, 6, 0.7), Block(2 + pair[0].shape[1], 1, 6, 1e-3)
    distance = ContextDistance(blocks, aggregate, no_common)  # type: ignore[arg-type]
    centres = summaries[3:30]
    exact = distance(summaries.astype(np.float64), centres.astype(np.float64))
    assert (distance.bound(summaries, distance.terms(summaries), centres, distance.terms(centres), 1) >= exact).all()
    assert (distance.bound(summaries, distance.terms(summaries), centres, distance.terms(centres), -1) <= exact).all()


# ---- truths ----------------------------------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), regions=st.integers(1, 12), kept_as=st.sampled_from([np.float64, np.float32]))
def test_a_distance_is_symmetric_not_negative_and_zero_to_its_equal(
    seed: int, regions: int, kept_as: type[np.floating]
) -> None:
    means = contexts(seed, 20, regions, regions)
    profile = profiles(means).numpy().astype(kept_as).astype(np.float64)
    found = contextual_distance(profile, profile, regions)
    assert (found >= 0).all()
    assert (np.diag(found) == 0).all()
    np.testing.assert_allclose(found, found.T, rtol=1e-12, atol=1e-12)
    total, held = contextual_distance(profile, profile, regions, "sum"), (means[..., 0] > 0).double().numpy()
    np.testing.assert_allclose(total, found * (held @ held.T), atol=1e-12)


@settings(derandomize=True, max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_names_of_classes_do_not_matter(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.log_softmax(torch.randn(5, 8, 9, generator=generator) * 4, 0) for _ in range(4)]
    order = torch.randperm(5, generator=generator)
    plain, renamed = segmentation_means(maps), segmentation_means([one[order] for one in maps])
    torch.testing.assert_close(renamed, plain[:, order][:, :, order])
    torch.testing.assert_close(segmentation_means([one.flip(-1).repeat(1, 3, 2) for one in maps]), plain)
    a, b = (contextual_distance(rows(means), rows(means), 5) for means in (plain, renamed))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_unsure_count_more() -> None:
    sure, unsure = torch.tensor([0.98, 0.01, 0.01]), torch.tensor([0.4, 0.3, 0.3])
    weights = entropy(torch.stack([sure, unsure]).log())
    assert float(weights[1]) == pytest.approx(-0.4 * log(0.4) - 0.6 * log(0.3))
    (found,) = segmentation_means([torch.stack([sure, unsure], 1)[:, None].log()])
    torch.testing.assert_close(found[0], (weights[0] * sure + weights[1] * unsure) / weights.sum())
    assert not found[1:].any()


def test_certain_pixels_count_alike() -> None:
    """They weigh nothing, which is 0 / 0 in the authors' program."""
    certain = torch.tensor([[0.0, -torch.inf, -torch.inf], [-torch.inf, 0.0, -torch.inf]])
    found = region_means(certain, torch.tensor([0, 0]), 2)
    assert found[0].tolist() == [0.5, 0.5, pytest.approx(FLOOR)]
    assert found[1].tolist() == [0.0, 0.0, 0.0]
    assert region_means(torch.zeros(4, 1), torch.tensor([1, 1, 1, 0]), 3).flatten().tolist() == [1.0, 1.0, 0.0]
    assert not region_means(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 2).any()


def test_scores_of_boxes_become_distributions() -> None:
    probs = torch.tensor([[0.9, 0.3], [0.0, 0.0], [0.5, 0.5]], dtype=torch.float16)
    found = box_means(probs, torch.tensor([0, 1, 1]), torch.tensor([0, 0, 2]), 3)
    assert found.shape == (3, 2, 2)
    torch.testing.assert_close(found[0], torch.tensor([[0.75, 0.25], [0.5, 0.5]]), atol=1e-4, rtol=0)
    assert not found[1].any()
    assert found[2].tolist() == [[0.0, 0.0], [0.5, 0.5]]
    assert not box_means(torch.zeros(0, 4), *torch.zeros(2, 0, dtype=torch.int64), 2).any()


def test_half_precision_is_summed_in_full() -> None:
    logs = torch.log_softmax(torch.randn(4, 60, 70, generator=torch.Generator().manual_seed(0)) * 2, 0)
    rounded = logs.half()
    assert torch.equal(segmentation_means([rounded]), segmentation_means([rounded.float()]))
    torch.testing.assert_close(segmentation_means([rounded]), segmentation_means([logs]), atol=1e-3, rtol=0)
    cells = logs.flatten(1).T
    assert torch.equal(dense_means([cells.half()]), dense_means([cells.half().float()]))


def test_an_exact_zero_drops_its_class_and_nan_is_not_hidden() -> None:
    means = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.9, 0.1], [0.4, 0.6]]])
    assert rows(means)[0].tolist() == pytest.approx([0, 0, 0.5, 0.5, 0, 0, log(0.5), log(0.5)])
    expected = slow_distance(means[0, 1:].double(), means[1, 1:].double(), "mean", "zero")
    assert contextual_distance(rows(means)[:1], rows(means)[1:], 2)[0, 0] == pytest.approx(expected, rel=1e-6)
    means[1, 0, 0] = torch.nan
    assert np.isnan(rows(means)[1]).any()
    (broken,) = segmentation_means([torch.full((2, 1, 1), torch.nan)])
    assert broken.isnan().any()


def test_images_that_share_no_class() -> None:
    left = torch.tensor([[[0.9, 0.1], [0.0, 0.0]]])
    right = torch.tensor([[[0.0, 0.0], [0.2, 0.8]]])
    nothing = torch.zeros(1, 2, 2)
    profile = rows(torch.cat([left, right, nothing]))
    assert not contextual_distance(profile, profile, 2).any()
    apart = contextual_distance(profile, profile, 2, no_common="skip")
    assert apart.tolist() == [[0.0, np.inf, np.inf], [np.inf, 0.0, np.inf], [0.0, 0.0, 0.0]]


def test_a_joint_distance_is_the_scaled_sum_of_its_blocks() -> None:
    seg, det = contexts(1, 40, 4, 4, 0.2), contexts(2, 40, 1, 3, 0.0)
    summaries = np.concatenate([np.full((40, 2), 7.0), rows(seg), rows(det)], 1)
    plain = ContextDistance((Block(2, 4, 4), Block(34, 1, 3)), "sum")
    joint = plain.scaled(summaries[:20], summaries[20:])
    parts = contextual_distance(rows(seg), rows(seg), 4, "sum"), contextual_distance(rows(det), rows(det), 1)
    scales = [np.diag(part[:20, 20:]).mean() for part in parts]
    assert [block.scale for block in joint.blocks] == pytest.approx(scales)
    expected = parts[0] / scales[0] + parts[1] / scales[1]
    np.testing.assert_allclose(joint(summaries, summaries), expected, atol=1e-12)
    assert plain.scaled(summaries[:5], summaries[:5]).blocks == plain.blocks  # all 0: nothing to divide by


def test_pairs_without_a_common_class_do_not_enter_a_scale() -> None:
    means = torch.tensor([[[0.9, 0.1], [0.0, 0.0]], [[0.0, 0.0], [0.2, 0.8]], [[0.6, 0.4], [0.3, 0.7]]])
    profile = rows(means)
    distance = ContextDistance((Block(0, 2, 2),), no_common="skip")
    (block,) = distance.scaled(profile[[0, 0]], profile[[1, 2]]).blocks
    assert block.scale == pytest.approx(slow_distance(means[0].double(), means[2].double(), "mean", "skip"), rel=1e-6)
    assert distance.scaled(profile[:1], profile[1:2]).blocks[0].scale == 1.0
