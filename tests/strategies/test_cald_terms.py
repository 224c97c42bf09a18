"""The arithmetic of CALD against the authors' function and a plain loop; the same bits in any company."""

from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from torch import Tensor

from strategies.cald import Cald
from strategies.cald_terms import (
    box_distances,
    class_vectors,
    consistency,
    fixed_sum,
    padded,
    references,
    vector_divergence,
    view_consistency,
)
from tasks.types import Detections
from tests.golden import CALD_VIEWS, cald_scores, cald_seen, inside_smaller, load


def test_the_score_is_that_of_the_authors(shared: Path) -> None:
    golden = load(shared, "cald_consistency")
    assert golden["aug_order"].tolist() == list(CALD_VIEWS)
    for beta, name in ((1.3, "consistency"), (1.0, "consistency_beta1.0"), (1.5, "consistency_beta1.5")):
        m, per_view, vectors = cald_scores(golden, beta)
        np.testing.assert_allclose(m, golden[name], rtol=0, atol=3e-7)
        if beta == 1.3:
            np.testing.assert_allclose(per_view, golden["consistency_per_aug"], rtol=0, atol=3e-7)
            np.testing.assert_allclose(vectors, golden["cls_corrs"], rtol=0, atol=3e-7)


def test_the_whole_strategy_scores_as_the_authors_do(shared: Path) -> None:
    """From detections to the score, boxes mapped by the views' own matrices."""
    golden = load(shared, "cald_consistency")
    strategy = Cald(rotation_offset="official", min_score=0.0)
    scores = strategy.score_batch(cald_seen(golden, strategy), [])
    found = np.array([[score.parts[f"m_{look}"] for look in strategy.looks] for score in scores])
    expected = golden["consistency_per_aug"]
    np.testing.assert_allclose(found[:, [0, 1, 3]], expected[:, [0, 1, 3]], rtol=0, atol=2e-6)
    inside = inside_smaller(golden)
    assert inside.sum() > 10
    np.testing.assert_allclose(found[inside, 2], expected[inside, 2], rtol=0, atol=2e-6)
    np.testing.assert_allclose([-s.value for s in scores], found.mean(1), rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.stack([s.summary for s in scores]), golden["cls_corrs"], rtol=0, atol=3e-7)


def random_detections(rng: np.random.Generator, count: int, columns: int, classes: int) -> Detections:
    corner = rng.random((count, 2)) * 30
    side = rng.random((count, 2)) * 20 * (rng.random((count, 1)) > 0.2)  # a fifth without area
    boxes = np.round(np.concatenate([corner, corner + side], 1) / 10) * 10  # many of them touch
    probs = rng.random((count, columns)) * (rng.random((count, columns)) > 0.2)
    if columns > classes:
        probs = (probs + 1e-3) / (probs + 1e-3).sum(1, keepdims=True)
    return Detections(
        torch.from_numpy(boxes).float(),
        torch.from_numpy(np.sort(rng.random(count))[::-1].copy()).float(),
        torch.from_numpy(rng.integers(0, classes, count)),
        torch.from_numpy(probs).float(),
    )


def slow(base: Detections, mapped: np.ndarray, answer: Detections, classes: int, beta: float) -> float:
    """M_v, one box after the other, in float64."""
    if len(base.scores) == 0 or len(answer.scores) == 0:
        return 0.0
    worst = 1.0
    for k in range(len(base.scores)):
        overlaps = []
        for box in answer.boxes.double().numpy():
            w, h = (
                min(mapped[k][2], box[2]) - max(mapped[k][0], box[0]),
                min(mapped[k][3], box[3]) - max(mapped[k][1], box[1]),
            )
            areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (mapped[k], box)]
            common = w * h
            whole = sum(areas) - common
            overlaps.append(0.0 if w < 0 or h < 0 else common / whole if whole else np.nan)
        if np.isnan(overlaps).any():
            continue
        j = int(np.argmax(overlaps))
        p, q = base.probs[k].double().numpy(), answer.probs[j].double().numpy()
        with np.errstate(invalid="ignore"):  # a vector of zeros
            js = np.nan_to_num([0.5 * entropy(p, (p + q) / 2), 0.5 * entropy(q, (p + q) / 2)]).sum()
        sure = p[:classes].max() + q[:classes].max()
        worst = min(worst, abs(overlaps[j] + 0.5 * (1 - max(0.0, js)) * sure - beta))
    return worst


@settings(derandomize=True, max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4),
    softmax=st.booleans(),
    beta=st.sampled_from([0.5, 1.3, 2.5]),
)
def test_the_score_is_that_of_a_plain_loop(seed: int, sizes: list[tuple[int, int]], softmax: bool, beta: float) -> None:
    rng, classes = np.random.default_rng(seed), 3
    base = [random_detections(rng, n, classes + softmax, classes) for n, _ in sizes]
    answers = [random_detections(rng, n, classes + softmax, classes) for _, n in sizes]
    refs, answer = references(padded(base, 0.0, 99)).one_view(), padded(answers, 0.0, 99).one_view()
    found = view_consistency(box_distances(refs.boxes, refs, answer, classes, beta), refs, answer)[:, 0]
    expected = [slow(b, b.boxes.double().numpy(), a, classes, beta) for b, a in zip(base, answers, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@settings(derandomize=True, max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), columns=st.sampled_from([1, 2, 5, 33, 81]), pad=st.integers(1, 5))
def test_company_and_padding_change_no_bit(seed: int, columns: int, pad: int) -> None:
    rng = np.random.default_rng(seed)
    base = [random_detections(rng, n, columns, columns) for n in (7, 0, 60)]
    answers = [[random_detections(rng, n, columns, columns) for n in (5, 0, 30 + pad)] for _ in range(2)]

    def numbers(rows: list[int]) -> Tensor:
        refs = references(padded([base[row] for row in rows], 0.05, 100))
        answer = padded([answers[v][row] for row in rows for v in range(2)], 0.05, 100).view(len(rows), 2)
        mapped = refs.boxes[:, None].expand(-1, 2, -1, -1)
        per_view = view_consistency(box_distances(mapped, refs.one_view(), answer, columns), refs.one_view(), answer)
        return torch.cat([consistency(per_view)[:, None], per_view, class_vectors(refs, answer, columns)], 1)

    together = numbers([0, 1, 2])
    for row in range(3):
        assert torch.equal(numbers([row])[0], together[row])


@settings(derandomize=True, max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), columns=st.integers(1, 100))
def test_the_divergence_of_vectors_is_scipys(seed: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    q, r = (rng.random((6, columns)) ** 4 for _ in range(2))
    expected = 0.5 * entropy(q, (q + r) / 2, axis=1) + 0.5 * entropy(r, (q + r) / 2, axis=1)
    found = vector_divergence(torch.from_numpy(q).float(), torch.from_numpy(r).float())
    np.testing.assert_allclose(found, np.maximum(expected, 0), atol=3e-7)
    assert float(vector_divergence(torch.from_numpy(q), torch.from_numpy(q)).max()) < 1e-15
    same_sum = vector_divergence(*(torch.from_numpy(x / x.sum(1, keepdims=True)).float() for x in (q, r)))
    assert float(same_sum.max()) <= log(2) + 1e-6  # else it may be more


def test_vectors_that_underflow_are_no_nan() -> None:
    least = torch.tensor([[1e-45, 0.0], [0.0, 0.0], [1.0, 0.0]])
    for other in least.unbind():
        assert torch.isfinite(vector_divergence(least, other)).all()


def test_sums_have_a_fixed_order() -> None:
    x = torch.rand(3, 4, 81, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fixed_sum(x), x.sum(-1))
    assert torch.equal(fixed_sum(x)[1, 2], fixed_sum(x[1, 2]))
    assert fixed_sum(x[..., :1]).equal(x[..., 0])


@pytest.mark.parametrize("count", [0, 1, 40, 41, 49, 50, 60, 100])
def test_many_boxes_are_thinned_out_evenly(count: int) -> None:
    scores = torch.linspace(0.9, 0.1, count)
    found = Detections(
        torch.arange(count)[:, None].expand(-1, 4), scores, torch.zeros(count).long(), torch.ones(count, 1)
    )
    few = Detections(*(x[:3] for x in (found.boxes, found.scores, found.labels, found.probs)))
    refs = references(padded([found, few], 0.05, 100))
    expected = np.arange(count) if count <= 40 else np.round(np.linspace(0, count - 1, 50))
    assert refs.boxes[0, :, 0][refs.there[0]].tolist() == expected.tolist()
    assert refs.there[1].sum() == min(count, 3)
    limited = references(padded([found], 0.05, 100), 10, 1)
    assert limited.there.sum() == (count if count <= 10 else 1)


def test_padding_is_no_box() -> None:
    rng = np.random.default_rng(0)
    found = padded([random_detections(rng, 0, 1, 1), random_detections(rng, 2, 1, 1)], 0.0, 1)
    assert found.there.tolist() == [[False], [True]]
    assert padded([random_detections(rng, 0, 1, 1)], 0.05, 100).there.tolist() == [[False]]
