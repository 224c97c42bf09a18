"""Two actors train together on the placement group of their trial: as one process would, and through a SIGKILL."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.ray.conftest import command, descendants, wait_for, write_short
from tests.tiny import results

pytestmark = [pytest.mark.ray, pytest.mark.long]
STEPS = 40  # of the reference: long enough that a kill falls into it
CHANGES: dict[str, Any] = {
    "train": {"steps": 3, "first_steps": 5, "batch": 4, "checkpoint_steps": 2, "processes": 2},
    "reference": {"steps": STEPS, "seeds": [0]},
    "cluster": {"shard": 5, "score_batch": 4, "workers_per_trial": 2},
}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which two actors train every network, never disturbed."""
    place = tmp_path_factory.mktemp("together")
    code, text = command("run", str(write_short(place / "tiny.yaml", place, **CHANGES))).finish()
    assert code == 0, text
    return place / "tiny"


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of every checkpoint of a run."""
    found = {str(p.relative_to(folder)): torch.load(p, weights_only=True)["model"] for p in folder.rglob("model.pt")}
    assert len(found) == 3  # the reference, cycle 0, cycle 1
    return found


def test_one_process_without_ray_comes_to_the_same(together: Path, tmp_path: Path) -> None:
    config = write_short(tmp_path / "tiny.yaml", tmp_path, **CHANGES)
    code, text = command("run", str(config), "--address", "none").finish()
    assert code == 0, text
    alone, pair = weights(tmp_path / "tiny"), weights(together)
    for name, state in pair.items():
        for key, value in state.items():
            assert np.allclose(value, alone[name][key], rtol=1e-2, atol=1e-3), (name, key)
    [bought], [other] = ((f / "boxmask").glob("*/*/bought.parquet") for f in (together, tmp_path / "tiny"))
    assert pq.read_table(bought)["id"].to_pylist() == pq.read_table(other)["id"].to_pylist()


@pytest.mark.soak
@pytest.mark.parametrize("which", [0, 1])
def test_one_of_those_that_train_is_killed_and_the_run_ends_alike(together: Path, tmp_path: Path, which: int) -> None:
    running = command("run", str(write_short(tmp_path / "tiny.yaml", tmp_path, **CHANGES)))
    wait_for(lambda: list((tmp_path / "tiny").glob("reference/*/seed_0/training.pt")) or not running.is_running)
    victims = sorted(descendants(running, "ray::WorkerProcess"), key=lambda one: one.pid)
    assert running.is_running, running.text
    assert len(victims) == 2
    assert not list((tmp_path / "tiny").glob("reference/*/seed_0/fit.json"))
    victims[which].kill()
    before = {one.pid for one in victims}

    def renewed() -> bool:
        return len({one.pid for one in descendants(running, "ray::WorkerProcess")} - before) == 2

    wait_for(lambda: renewed() or not running.is_running)
    assert running.is_running, running.text
    code, text = running.finish()
    assert code == 0, text
    assert results(tmp_path / "tiny") == results(together)
    disturbed = weights(tmp_path / "tiny")
    for name, state in weights(together).items():
        assert all(torch.equal(value, disturbed[name][key]) for key, value in state.items()), name


@pytest.mark.soak
def test_what_one_of_those_that_train_cannot_read_ends_the_run_with_its_name(tmp_path: Path) -> None:
    """One process raises, the others miss it: what is told is what was raised."""
    config = str(write_short(tmp_path / "tiny.yaml", tmp_path, **CHANGES))
    code, text = command("prepare", config).finish()
    assert code == 0, text
    manifest = next((tmp_path / "data").glob("*/manifest.parquet"))
    rows = pq.read_table(manifest).to_pylist()
    broken = next(row for row in rows if row["split"] == "train")
    (manifest.parent / broken["uri"]).write_bytes(b"no image")
    code, text = command("run", config).finish()
    assert code == 2
    assert "data: " in text
    assert Path(broken["uri"]).name in text
    assert "does not answer" not in text
