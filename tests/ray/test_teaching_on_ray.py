"""A teacher's shards on actors: as in one process, also when a worker or the command is killed between them."""

from pathlib import Path

import pytest

from tests.orchestrator.test_teaching import TAUGHT
from tests.ray.conftest import command, descendants, is_alive, wait_for
from tests.tiny import results, write_tiny

pytestmark = pytest.mark.ray
ONE = {**TAUGHT, "arms": {"taught": TAUGHT["arms"]["taught"]}}
SHARD = "taught/seed_0/cycle_1/teacher/labels/shard_00000.parquet"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("alone")
    code, text = command("run", str(write_tiny(place / "tiny.yaml", place, **ONE)), "--address", "none").finish()
    assert code == 0, text
    return place / "tiny"


@pytest.mark.parametrize(
    "victim",
    [
        pytest.param("nobody", marks=pytest.mark.soak),
        pytest.param("ray::WorkerProcess", marks=pytest.mark.soak),
        "the command",
    ],
)
def test_actors_label_alike_whatever_is_killed(alone: Path, tmp_path: Path, victim: str) -> None:
    config = str(write_tiny(tmp_path / "tiny.yaml", tmp_path, **ONE))
    running = command("run", config)
    wait_for(lambda: (tmp_path / "tiny" / SHARD).is_file() or not running.is_running)
    if victim == "the command":
        assert running.is_running, running.text
        below = [*descendants(running, "ray::WorkerProcess"), *descendants(running, "ray::ResourceTrainable")]
        running.kill()
        wait_for(lambda: not any(is_alive(one) for one in below), 60)
        running = command("run", config)
    elif victim != "nobody":
        victims = wait_for(lambda: descendants(running, victim) or not running.is_running)
        assert running.is_running, running.text
        victims[0].kill()
    code, text = running.finish()
    assert code == 0, text
    assert results(tmp_path / "tiny") == results(alone)
