"""SIGKILL anywhere, the same command again: the same images bought, the same figures, as if nothing had happened."""

from pathlib import Path

import pytest

from tests.ray.conftest import command, descendants, is_alive, wait_for, write_short
from tests.tiny import results

pytestmark = [pytest.mark.ray, pytest.mark.long]


@pytest.mark.soak
def test_ray_equals_one_process(undisturbed: Path, tmp_path: Path) -> None:
    code, text = command("run", str(write_short(tmp_path / "tiny.yaml", tmp_path))).finish()
    assert code == 0, text
    assert results(tmp_path / "tiny") == results(undisturbed)
    assert "report:" in text


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("reference/*/seed_0/model.pt", marks=pytest.mark.soak),
        "boxmask/seed_0/cycle_0/scores/shard_00000.parquet",
        pytest.param("boxmask/seed_0/cycle_0/purchase.json", marks=pytest.mark.soak),
    ],
)
def test_the_command_is_killed_and_typed_again(undisturbed: Path, tmp_path: Path, point: str) -> None:
    config = str(write_short(tmp_path / "tiny.yaml", tmp_path))
    first = command("run", config)
    wait_for(lambda: list((tmp_path / "tiny").glob(point)) or not first.is_running)
    assert first.is_running, first.text
    below = [*descendants(first, "ray::WorkerProcess"), *descendants(first, "ray::ResourceTrainable")]
    first.kill()
    wait_for(lambda: not any(is_alive(one) for one in below), 60)  # none of its work goes on
    code, text = command("run", config).finish()
    assert code == 0, text
    assert results(tmp_path / "tiny") == results(undisturbed)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("victim", "point"),
    [
        ("ray::WorkerProcess", "reference/*/seed_0/training.pt"),
        ("ray::WorkerProcess", "boxmask/seed_0/cycle_0/scores/shard_00000.parquet"),
        ("ray::ResourceTrainable", "boxmask/seed_0/cycle_0/scores/shard_00000.parquet"),
    ],
)
def test_a_worker_or_a_trial_is_killed_and_the_run_goes_on(
    undisturbed: Path, tmp_path: Path, victim: str, point: str
) -> None:
    config = str(write_short(tmp_path / "tiny.yaml", tmp_path))
    running = command("run", config)
    wait_for(lambda: list((tmp_path / "tiny").glob(point)) or not running.is_running)
    victims = wait_for(lambda: descendants(running, victim) or not running.is_running)
    assert running.is_running, running.text
    victims[0].kill()
    code, text = running.finish()
    assert code == 0, text
    assert results(tmp_path / "tiny") == results(undisturbed)


def test_a_pool_is_scored_alike_by_actors(undisturbed: Path, tmp_path: Path) -> None:
    model = next(undisturbed.glob("initial/*/seed_0/model.pt"))
    data = next((undisturbed.parent / "data").iterdir())
    outputs = {}
    for address, workers in (("none", "1"), ("local", "2")):
        out = tmp_path / f"{address}.parquet"
        words = ["score", "--checkpoint", str(model), "--data", str(data), "--out", str(out), "--batch", "4"]
        code, text = command(*words, "--strategy", "boxmask", "--address", address, "--workers", workers).finish()
        assert code == 0, text
        outputs[address] = out.read_bytes()
    assert outputs["none"] == outputs["local"]


@pytest.mark.soak
def test_a_trial_that_fits_no_node_is_refused_before_anything_starts(tmp_path: Path) -> None:
    config = str(write_short(tmp_path / "tiny.yaml", tmp_path, cluster={"workers_per_trial": 99}))
    code, text = command("run", config).finish()
    assert code == 2
    assert "a trial needs 99 x (1 CPU)" in text
    assert "lower cluster.workers_per_trial" in text
    assert not list((tmp_path / "tiny").glob("reference/*"))
