"""Faults that a dispatcher must name or get over: a strategy that raises or kills its worker, a lack of memory."""

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.ray.conftest import command, write_short
from tests.tiny import results

pytestmark = pytest.mark.ray
DEADLY = '''
    """A strategy that takes its process along, once or whenever it meets one image."""

    import os
    from dataclasses import dataclass
    from pathlib import Path

    from strategies.uniform import Random


    @dataclass(frozen=True)
    class Deadly(Random):
        image: str = ""
        mark: str = ""  # a file: die only where it is not, and make it

        def score_batch(self, seen, rngs):
            if self.image in [one.id for one in seen] and not (self.mark and Path(self.mark).exists()):
                if self.mark:
                    Path(self.mark).touch()
                os._exit(1)
            return super().score_batch(seen, rngs)
'''
HUNGRY = '''
    """The small network, without memory for more than some images at a time."""

    from tasks.nets.presets import small


    def hungry(classes, tasks, *, holds: int, width: int = 16):
        net = small(classes, tasks, width=width)
        predict = net.predict

        def limited(images, *arguments, **options):
            if len(images) > holds:
                raise MemoryError(f"{len(images)} images")
            return predict(images, *arguments, **options)

        net.predict = limited
        return net
'''


def first_image(folder: Path) -> str:
    """An image that is scored in the first cycle: the first that the undisturbed run bought."""
    return str(next(iter(results(folder)["boxmask/seed_0/cycle_0/bought.parquet"]))["id"])


def run(place: Path, module: str, source: str, **changes: Any) -> tuple[int, str]:
    (place / f"{module}.py").write_text(dedent(source))
    return command("run", str(write_short(place / "tiny.yaml", place, **changes))).finish()


def test_what_raises_or_kills_every_worker_fails_alone_and_one_death_is_forgotten(
    undisturbed: Path, tmp_path: Path
) -> None:
    fatal = {"name": "deadly:Deadly", "image": first_image(undisturbed)}
    arms = {
        "deadly": {"strategy": fatal},
        "raises": {"strategy": "tests.orchestrator.bad_strategies:Raises"},
        "once": {"strategy": {**fatal, "mark": str(tmp_path / "mark")}},
    }
    cluster = {"shard": 5, "score_batch": 4, "max_failures": 1}
    code, text = run(tmp_path, "deadly", DEADLY, arms=arms, cluster=cluster)
    assert code == 2, text
    assert "deadly, seed 0: 2 workers died while they were to score shard" in text
    assert "(images " in text
    assert "ZeroDivisionError" in text
    assert "Traceback" not in text
    assert (tmp_path / "mark").is_file()
    assert (tmp_path / "tiny" / "once" / "seed_0" / "cycle_1" / "cycle.json").is_file()
    assert "2 workers died" in (tmp_path / "tiny" / "report.html").read_text()  # as missing, with the reason


@pytest.mark.soak
def test_a_worker_without_memory_tries_half_a_batch_once(tmp_path: Path) -> None:
    model = {"name": "hungry:hungry", "holds": 2}
    arms = {"random": {"strategy": "random"}, "starved": {"strategy": "random", "model": {**model, "holds": 1}}}
    code, text = run(tmp_path, "hungry", HUNGRY, model=model, arms=arms)
    assert code == 2, text
    assert "starved cycle 0, seed 0: out of memory while a worker was to evaluate shard" in " ".join(text.split())
    assert "also with a batch of 2; lower cluster.score_batch" in " ".join(text.split())
    assert (tmp_path / "tiny" / "random" / "seed_0" / "cycle_1" / "cycle.json").is_file()
