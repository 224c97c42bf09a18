"""What boxes, masks and keypoints cost in one R-CNN and in several: python tests/bench/bench_rcnn.py

    python tests/bench/bench_rcnn.py [--size 288,512] [--detections 10] [--rounds 20] [--threads 1] [--record]

Images a second, weights and peak memory of Faster, Mask, Keypoint and the multi-head R-CNN, and of Mask and Keypoint
R-CNN that both look at the image: ResNet-50 with a pyramid, random weights (those of shared layers are the same), one
image of noise. The threshold of scores is 0 and nothing is suppressed, so that each network makes its masks and
keypoints for the same ``--detections`` boxes. Rounds are interleaved; the ratio is the median over rounds, of CPU time
on a CPU. Memory is the peak of a process of its own, beyond what it held before the networks were made. A GPU is
measured where there is one. Exit code 1 where a relation does not hold: one pass with all heads takes less than Mask's
and Keypoint's together, and the pair takes 1.35 times as long or more (paper 1.81), with weights of which those of all
heads are less than .65. The same is ``mtal study heads``.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

from rich.console import Console

from orchestrator.studies.heads import MIB, Costs, notes, terminal_table
from orchestrator.timing_heads import Asked, asked, devices, measured
from tests.bench.results import record


def told(costs: Costs, wanted: Asked) -> str:
    """One line of figures."""
    each = [
        f"{name} {one.fps:.2f} images/s, {one.parameters / 1e6:.1f} M, weights {one.weights / MIB:.0f} MiB, peak "
        f"{'?' if one.peak is None else round(one.peak / MIB)} MiB"
        for name, one in costs.taken.items()
    ]
    missed = " MISSED" * (not all(holds for _, holds in costs.relations()))
    return (
        f"heads of an R-CNN ({wanted.size[0]} x {wanted.size[1]} px, {wanted.detections} detections, "
        f"{costs.setting.device}): {'; '.join(each)}; the pair takes {costs.speedup:.2f} times as long as multi-head "
        f"(paper 1.81, target 1.35), whose weights are {costs.weights_share:.2f} of its (target below .65){missed}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="288,512")
    parser.add_argument("--detections", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    wanted = asked(given.size, given.detections, given.rounds, given.threads, "resnet50")
    where, left_out = devices("auto")
    print(left_out)
    missed = False
    for device in where:
        costs = measured(wanted, device, lambda *done: None)
        Console(width=140).print(terminal_table(costs))
        print("\n".join(notes(costs)))
        missed |= not all(holds for _, holds in costs.relations())
        if given.record:
            record(told(costs, wanted))
    sys.exit(missed)


if __name__ == "__main__":
    main()
