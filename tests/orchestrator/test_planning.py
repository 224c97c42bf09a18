"""What a run would do, against counts that were made by hand and against what a run did."""

from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from orchestrator.config import experiment_of, load
from orchestrator.errors import ConfigError
from orchestrator.planning import Outlook, Speed, Work, counted, foreseen, makespan, seconds_of
from tests.tiny import tiny

PAPER = ["13187", "val=3249"]


@pytest.fixture(scope="module")
def paper() -> Outlook:
    """The plan of nuimages.yaml with a small network in the place of its own: counts do not depend on it."""
    sets = ["model={name: small, width: 16, loss_prediction: {}}"]
    return foreseen(load("nuimages", sets), PAPER)[0]


def one(plan: Outlook, arm: str) -> Work:
    return plan.of("arm", arm)[0]


def test_the_trials_of_the_paper(paper: Outlook) -> None:
    assert [len(paper.of(kind)) for kind in ("reference", "initial", "arm")] == [1, 3, 7 * 3]
    assert [one.unit.seed for one in paper.of("initial")] == [0, 1, 2]
    assert all(len(names) == 7 for names in paper.shared_by.values())
    assert sum(one.fits for one in paper.works) == 1 + 3 + 7 * 3 * 6


def test_its_steps_and_evaluations(paper: Outlook) -> None:
    assert sum(one.steps for one in paper.works) == 300_000 + 3 * 30_000 + 21 * 6 * 30_000
    work = one(paper, "cald")
    assert (work.steps, work.judged, work.evaluated) == (180_000, 6 * 5 * 3249, 6 * 3249)


def test_its_purchases_are_tenths_of_the_whole_pool_and_the_last_takes_what_is_left(paper: Outlook) -> None:
    for work in paper.of("arm"):
        assert work.labeled == 5275
        assert work.bought == (1319,) * 5 + (1317,)
        assert work.labeled + sum(work.bought) == 13_187


def test_its_forward_passes(paper: Outlook) -> None:
    """Images that are not labeled in the six cycles; a smaller image of 736 x 1280 px, crops of 128 x 128 px."""
    left = (7912, 6593, 5274, 3955, 2636, 1317)
    assert [scoring.images for scoring in one(paper, "random").scorings] == list(left)
    resized, pixels = 736 * 1280 / (896 * 1600), 896 * 1600
    assert one(paper, "random").most == 0
    assert one(paper, "equal").least == one(paper, "equal").most == 2 * sum(left)
    assert one(paper, "ll4al").most == sum(left)
    assert one(paper, "cald").most == pytest.approx((4 + resized) * sum(left))
    by_turns = (4 + resized) * (left[0] + left[2] + left[4]) + 2 * (left[1] + left[3] + left[5])
    assert one(paper, "alternation").most == pytest.approx(by_turns)
    assert one(paper, "cdal").most == 6 * 13_187, "it looks at labeled images, too"
    assert one(paper, "boxmask").least == sum(left)
    assert one(paper, "boxmask").most == pytest.approx(sum(left) * (1 + 50 * 128 * 128 / pixels))


def test_storage_is_that_of_real_networks_and_rows(paper: Outlook) -> None:
    size = paper.networks["boxmask"]
    assert paper.kept == 130 * size.kept
    assert size.kept >= 4 * size.parameters
    assert size.training == pytest.approx(size.kept + 8 * size.parameters)
    for arm, least in (("random", 80 + 8), ("cald", 80 + 8 + 4 * 10), ("boxmask", 80 + 5 * 8)):
        scoring = one(paper, arm).scorings[0]
        assert least < scoring.bytes / scoring.images < 1000, arm
    assert paper.scores == sum(s.bytes for w in paper.works for s in w.scorings)


@pytest.mark.slow
def test_a_run_does_what_its_plan_says(tiny_run: Path) -> None:
    """The tiny experiment: its plan against its finished run folder."""
    experiment = experiment_of(yaml.safe_load((tiny_run / "tiny.yaml").read_text()), "tiny.yaml")
    plan, source = foreseen(experiment, [])
    assert plan.images == {"train": 16, "val": 4, "test": 6}
    assert source.startswith("as prepared in ")
    assert [(w.unit.kind, w.unit.arm, w.steps) for w in plan.works] == [
        ("reference", "", 6),
        ("initial", "random", 5),
        ("arm", "random", 6),
        ("arm", "boxmask", 6),
    ]
    folder = tiny_run / "runs" / "tiny"
    models = list(folder.rglob("model.pt"))
    assert len(models) == sum(work.fits for work in plan.works) == 6
    assert sum(path.stat().st_size for path in models) == pytest.approx(plan.kept, rel=0.15)
    cycles = pq.read_table(folder / "cycles.parquet").to_pylist()
    for work in plan.of("arm"):
        rows = [row for row in cycles if row["arm"] == work.unit.arm]
        bought = [b["labeled.detection"] - a["labeled.detection"] for a, b in pairwise(rows)]
        assert bought == list(work.bought) == [2, 2]
        assert rows[0]["labeled.detection"] == work.labeled == 6
        for row, scoring in zip(rows, work.scorings, strict=False):
            assert scoring.images == 16 - row["labeled.detection"]
            assert scoring.least <= row["forwards"] <= scoring.most


def test_arms_that_differ_have_their_own_cycle_0_networks_and_purchases() -> None:
    arms = {
        "a": {"strategy": "random"},
        "b": {"strategy": "equal", "active.budget.amount": 0.5},
        "wide": {"strategy": "coreset", "model.width": 32},
        "subset": {"strategy": "random", "active.pool_subset": 3, "train.steps": 4},
        "none": {"strategy": "random", "active.cycles": 0},
    }
    plan, source = foreseen(experiment_of(tiny(Path("nowhere"), arms=arms, seeds=[0, 1]), "tiny.yaml"), [])
    assert source == "as the data set will have them"
    assert [set(names) for names in plan.shared_by.values()] == [{"a", "b", "subset", "none"}, {"wide"}] * 2
    assert one(plan, "b").bought == (8, 2)
    assert [scoring.images for scoring in one(plan, "wide").scorings] == [16, 16]
    assert [scoring.images for scoring in one(plan, "subset").scorings] == [3, 3]
    assert one(plan, "subset").steps == 8
    assert (one(plan, "none").fits, one(plan, "none").bought) == (0, ())
    assert plan.networks["wide"].parameters > plan.networks["a"].parameters


def test_numbers_of_images_are_typed_or_known() -> None:
    assert counted(PAPER, {"train": 1}) == {"train": 13_187, "val": 3249, "test": 0}
    assert counted([], {"train": 3, "test": 2}) == {"train": 3, "val": 0, "test": 2}
    for texts, told in (
        ([], r"data: not prepared, so that nobody knows"),
        (["many"], r"--images many: expected a number"),
        (["train=-3"], r"--images train=-3: expected"),
        (["trial=3"], r"--images trial=3: expected"),
        (["val=3"], r"the number of the pool's images is missing"),
    ):
        with pytest.raises(ConfigError, match=told):
            counted(texts, None)


def test_hours_by_hand(paper: Outlook) -> None:
    speed = Speed(step=0.5, image=0.1, source="typed")
    work = one(paper, "cdal")
    together = 6 * 3249 + 6 * 13_187
    assert seconds_of(work, speed, 2) == pytest.approx(180_000 * 0.5 + (6 * 5 * 3249 + together / 2) * 0.1)
    alone = [seconds_of(w, speed, 2) for w in paper.works]
    assert makespan(paper.works, speed, 2, 1) == pytest.approx(sum(alone))
    shared = [seconds_of(w, speed, 2) for w in paper.works if w.unit.kind != "arm"]
    slowest = max(seconds_of(w, speed, 2) for w in paper.of("arm"))
    assert makespan(paper.works, speed, 2, 100) == pytest.approx(max(shared) + slowest)
