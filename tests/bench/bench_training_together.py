"""Two processes that train together against one with the same batch: python tests/bench/bench_training_together.py

The network is normalised by groups, labels are missing here and there, and every draw is fixed by image, so the curves
may differ by rounding alone. 20 steps in fp32 on CPUs; the target is a largest relative difference of 1e-4.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.results import record
from tests.orchestrator.trained_together import settings, together, trained


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        one = trained(Path(place) / "one", settings(evaluations=2)).curve
        two = together(Path(place) / "two")[0].curve
    known = one != 0
    difference = np.abs(two[known] / one[known] - 1).max()
    record(
        f"two training processes against one with the same batch: losses of {len(one)} steps "
        f"differ by {difference:.1e} at most, relative (target: 1e-4)"
    )


if __name__ == "__main__":
    main()
