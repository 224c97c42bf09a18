"""How scoring scales over actors.  Run on a quiet machine: python tests/bench/bench_scaling.py

``mtal bench`` with one worker and two in turns, with a stub that burns 50 ms of one thread's CPU time for each image,
then with a real network; the medians of five runs each.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[2]))

from orchestrator.bench import Asked, bench
from orchestrator.config import experiment_of
from orchestrator.display import Display
from orchestrator.running import planned
from tests.bench.results import record
from tests.tiny import tiny

EACH, SIZE = 50, (96, 160)
ASKED = Asked(images=96, workers=(1, 2), shards=(8,), runs=5, steps=0, strategies=("{name: entropy, task: det}",))


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        data = {"name": "streets", "images": 96, "validation": 4, "test": 6, "size": list(SIZE)}
        tree = tiny(Path(place), data=data, model={"name": "small", "width": 52})
        display = Display(Console(quiet=True))
        plan = planned(experiment_of(tree, "scaling"), display.update)
        rates = [
            [line.rate for line in bench(plan, asked, "local", Path(place) / "bench", display).lines]
            for asked in (replace(ASKED, stub_ms=EACH), ASKED)
        ]
    (one, two), (real_one, real_two) = rates
    record(
        f"scoring by 2 workers / 1 worker: stub of {EACH} ms CPU an image {two / one:.2f} "
        f"({one:.1f} -> {two:.1f} images/s) (target: at least 1.6); network of 1.7 M parameters "
        f"at {SIZE[0]}x{SIZE[1]} {real_two / real_one:.2f} ({real_one:.1f} -> {real_two:.1f} images/s)"
    )


if __name__ == "__main__":
    main()
