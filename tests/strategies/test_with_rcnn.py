"""Every strategy that looks at boxes works with the R-CNN: what it answers keeps the laws, and mtal score takes it."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from orchestrator.checkpoints import Card, save_model
from orchestrator.cli import main
from orchestrator.components import Component
from strategies.alternation import Alternation
from strategies.base import Strategy
from strategies.cald import Cald
from strategies.cdal import CDAL
from strategies.conformance_cases import ScoredPool, scores_of
from strategies.coreset import CoreSet
from strategies.cost_random import CostRandom
from strategies.entropy import Entropy
from strategies.margin import Margin
from strategies.partmask import PartMask
from strategies.ranks import RankCombination
from strategies.sample_pool import seen_of
from tasks.nets.decode import Decode
from tasks.nets.rcnn import MultiHeadRcnn
from tasks.seeding import rng_of
from tests.tasks.nets.parts import CLASSES, TASKS, part_sample, small_rcnn
from tests.tasks.nets.shapes import seeded

SIZE = (64, 96)
STRATEGIES: list[Strategy] = [
    Cald(min_score=0.05),
    Entropy(),
    Entropy(over="sum", min_score=0.1),
    Margin(over="max"),
    CDAL(tasks="det"),
    CoreSet(),
    CostRandom(),
    PartMask(),
    Alternation((Cald(), PartMask())),
    RankCombination((PartMask(), Entropy())),
]
OPTIONS = {"backbone": "small", "width": 32, "anchor": 4.0, "proposals": 40, "samples": 16}


@pytest.fixture(scope="module")
def network() -> MultiHeadRcnn:
    """An untrained net whose classes differ from box to box."""
    model = small_rcnn(decode=Decode(top=12), proposals=40)
    seeded(lambda: torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.3))
    return model.eval()


class Answers:
    """The network as the suite wants one: with its classes."""

    def __init__(self, model: MultiHeadRcnn) -> None:
        self.classes, self.provides, self.predict = CLASSES, model.provides, model.predict


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.stack([part_sample(row, SIZE).image for row in range(5)])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda one: type(one).__name__)
def test_it_keeps_the_laws_with_an_rcnn(strategy: Strategy, network: MultiHeadRcnn, pixels: torch.Tensor) -> None:
    seen = seen_of(strategy, pixels, Answers(network))
    scores = scores_of(strategy, seen)
    assert [np.isfinite(score.value) for score in scores] == [True] * 5
    assert len({score.value for score in scores}) > 1 or isinstance(strategy, CDAL | CoreSet), "images differ"
    assert repr(scores_of(strategy, seen)) == repr(scores)
    assert repr([scores_of(strategy, [one])[0] for one in seen]) == repr(scores), "alone as in company"
    assert repr(scores_of(strategy, seen[::-1])[::-1]) == repr(scores)
    every = seen_of(strategy, pixels, Answers(network), all_heads=True)
    assert repr(scores_of(strategy, every)) == repr(scores), "beside other strategies"
    picks = strategy.select(ScoredPool.of(seen, scores, [True, False, False, False, False]).offered(2), rng_of(0))
    assert len({pick.id for pick in picks}) == 2
    for values in strategy.explain(seen[0]).values():
        assert torch.isfinite(values).all()


@pytest.mark.slow
def test_mtal_score_takes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    for row in range(4):
        image = (part_sample(row, SIZE).image.permute(1, 2, 0) * 255).clamp(0, 255).byte().numpy()
        Image.fromarray(image).save(tmp_path / "photos" / f"{row}.png")
    model = small_rcnn(**OPTIONS)
    card = Card(Component("rcnn", OPTIONS), TASKS, CLASSES, SIZE, 0)
    save_model(tmp_path / "model.pt", model, card)
    words = ["score", "--checkpoint", str(tmp_path / "model.pt"), "--data", str(tmp_path / "photos"), "--top", "2"]
    for strategy in ("cald", "entropy", "margin", "partmask", "{name: cdal, tasks: det}", "coreset"):
        words += ["--strategy", strategy]
    with pytest.raises(SystemExit) as end:
        main([*words, "--out", str(tmp_path / "list.parquet")])
    assert end.value.code == 0, capsys.readouterr().err
    table = pq.read_table(tmp_path / "list.parquet")
    assert table.num_rows == 4
    for name in ("cald", "entropy", "margin", "partmask", "coreset"):
        assert np.isfinite(table[f"{name}.value"].to_numpy()).all()
        assert sum(rank is not None for rank in table[f"{name}.rank"].to_pylist()) == 2
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([*words[:7], "--strategy", "ll4al", "--out", str(tmp_path / "other.parquet")])
    assert end.value.code == 2
    assert "reads 'predicted_loss', which the model does not provide" in capsys.readouterr().err
