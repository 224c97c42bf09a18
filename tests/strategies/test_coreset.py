"""Core-set against the reference, through the table of candidates; both metrics; what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from strategies.base import Budget, Seen
from strategies.candidates import ShardCandidates
from strategies.conformance import assert_conforms
from strategies.coreset import CoreSet
from strategies.sample_pool import sample_seen
from tasks.seeding import rng_of
from tasks.types import Prediction


def looks(features: torch.Tensor) -> list[Seen]:
    (blank,) = sample_seen(CoreSet(), 1)
    return [
        replace(blank, id=str(row), key=row, plain=Prediction({}, features=one)) for row, one in enumerate(features)
    ]


def picks(strategy: CoreSet, features: torch.Tensor, labeled: list[int], amount: float) -> list[int]:
    scores = strategy.score_batch(looks(features), [])
    count = len(scores)
    table = {
        "id": pa.array([str(row) for row in range(count)]),
        "key": pa.array(range(count), pa.uint64()),
        "labeled": pa.array([row in labeled for row in range(count)]),
        "value": pa.array([score.value for score in scores], pa.float64()),
        "summary": pa.array([score.summary for score in scores], pa.list_(pa.float32())),
    }
    candidates = ShardCandidates((pa.table(table),), Budget(amount), ("detection",))
    found = strategy.select(candidates, rng_of(0))
    assert all(pick.tasks == ("detection",) for pick in found)
    return [int(pick.id) for pick in found]


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_picks_match_the_reference(shared: Path, case: str) -> None:
    with np.load(shared / "golden" / "coreset.npz") as golden:
        features, labeled = torch.from_numpy(golden["features"]), golden[f"{case}_labeled"].tolist()
        expected, amount = golden[f"{case}_selected_in_order"].tolist(), int(golden[f"{case}_budget"])
    assert picks(CoreSet(), features, labeled, amount) == expected


def test_the_farthest_first_and_the_lowest_key_where_nothing_is_labeled() -> None:
    line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 0.0], [4.0, 0.0], [1.0, 0.0]])
    assert picks(CoreSet(), line, [0], 9) == [2, 3, 1, 4]
    assert picks(CoreSet(), line, [], 2) == [0, 2]
    assert picks(CoreSet(), line, [0, 1, 2, 3, 4], 2) == []
    assert picks(CoreSet(), line, [0], 0) == []


def test_the_cosine_metric_forgets_lengths() -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(40, 6)))
    longer = features * torch.from_numpy(rng.uniform(0.1, 9.0, (40, 1)))
    cosine = CoreSet(metric="cosine")
    assert picks(cosine, longer, [0, 1], 12) == picks(cosine, features, [0, 1], 12)
    assert picks(CoreSet(), longer, [0, 1], 12) != picks(CoreSet(), features, [0, 1], 12)
    assert picks(CoreSet(), features + 5, [0, 1], 12) == picks(CoreSet(), features, [0, 1], 12)
    (nothing,) = cosine.score_batch(looks(torch.zeros(1, 3)), [])
    assert nothing.summary is not None
    assert nothing.summary.tolist() == [0.0, 0.0, 0.0]


def test_close_points_far_from_the_origin_keep_their_distances() -> None:
    """A product of matrices would lose them: the squares are a million times the distances."""
    steps = torch.tensor([0.0, 1.0, 3.0, 7.0, 8.5, 20.0]) * 2.0**-7
    near = torch.stack([steps, torch.zeros(6)], 1)
    assert picks(CoreSet(), near + 4096, [0], 5) == picks(CoreSet(), near, [0], 5) == [5, 4, 2, 3, 1]


def test_half_precision_features_and_no_alias_of_the_prediction() -> None:
    (seen,) = looks(torch.tensor([[1.5, -2.0]], dtype=torch.float16))
    (score,) = CoreSet().score_batch([seen], [])
    assert score.summary is not None
    assert score.summary.dtype == np.float32
    assert score.summary.tolist() == [1.5, -2.0]
    features = torch.ones(1, 3)
    (kept,) = CoreSet().score_batch(looks(features), [])
    features.zero_()
    assert kept.summary is not None
    assert kept.summary.tolist() == [1.0, 1.0, 1.0]


def test_a_model_without_features_is_named() -> None:
    (seen,) = sample_seen(CoreSet(), 1)
    blank = replace(seen, plain=Prediction({}))
    with pytest.raises(ValueError, match="'sample/0' has no features"):
        CoreSet().score_batch([blank], [])


@pytest.mark.parametrize("strategy", [CoreSet(), CoreSet(metric="cosine")])
def test_conforms(strategy: CoreSet) -> None:
    assert_conforms(strategy)
    assert strategy.reads == ("features",)
    assert strategy.scores_labeled
