"""Random is a pure function of seed, cycle and key."""

from pathlib import Path

import numpy as np

from strategies.base import Seen
from strategies.conformance import assert_conforms
from strategies.selection import top_k
from strategies.uniform import Random
from tasks.classes import ClassMap
from tasks.seeding import Rngs, uniforms
from tasks.types import Prediction


def values(keys: np.ndarray, seed: int, cycle: int) -> list[float]:
    """The scores as a run makes them: u is hashed for each key, Random hands it on."""
    seen = [
        Seen(str(key), int(key), (0, 0), ClassMap(), float(u), Prediction({}))
        for key, u in zip(keys, uniforms(keys, seed, cycle), strict=True)
    ]
    return [score.value for score in Random().score_batch(seen, Rngs((), [int(key) for key in keys]))]


def test_scores_match_the_reference(shared: Path) -> None:
    with np.load(shared / "golden" / "random_scores.npz") as golden:
        for seed, cycle in ((0, 0), (0, 1), (7, 0), (2023, 5)):
            assert values(golden["ids"], seed, cycle) == golden[f"u_seed{seed}_cycle{cycle}"].tolist()
        keys = np.arange(1000, dtype=np.uint64)
        picks = top_k(np.array(values(keys, 3, 2)), keys, 100)
        assert picks.tolist() == golden["top_seed3_cycle2_n1000_k100"].tolist()


def test_conforms() -> None:
    assert Random().reads == ()
    assert Random().views == ()
    assert_conforms(Random())
