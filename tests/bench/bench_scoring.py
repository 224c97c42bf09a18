"""How much of the time of scoring goes into the forward passes.  Run: python tests/bench/bench_scoring.py

BoxMask and EquAL, then all built-in strategies in one plan, score batches of 16 images of 128x224 with 10 boxes each
(crops of 64 pixels) on one thread. The yard stick is what the same network needs for the same passes, in the same
batches, when nobody looks at the answers; the passes are counted as the network is called. CPU seconds of this process,
median of several rounds: other processes of a shared machine disturb them least.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from orchestrator.scoring import Plan, score_batch
from strategies.alternation import Alternation
from strategies.base import Strategy
from strategies.boxmask import BoxMask
from strategies.cald import Cald
from strategies.cdal import CDAL
from strategies.coreset import CoreSet
from strategies.cost_random import CostRandom
from strategies.entropy import Entropy
from strategies.equal import Equal
from strategies.ll4al import LL4AL
from strategies.margin import Margin
from strategies.ranks import RankCombination
from strategies.uniform import Random
from tasks.classes import ClassMap
from tasks.nets.lossnet import LossPrediction
from tasks.nets.model import MultiTaskNet
from tasks.nets.presets import small
from tasks.seeding import rng_of
from tasks.types import Detections, Prediction
from tests.bench.results import record

BATCH, HEIGHT, WIDTH, BOXES, CROP, ROUNDS = 16, 128, 224, 10, 64, 15
CLASSES = ClassMap(
    detection=("car", "truck", "bus", "pedestrian", "cyclist", "sign"),
    segmentation=(
        "road",
        "sidewalk",
        "sky",
        "building",
        "tree",
        "car",
        "truck",
        "bus",
        "pedestrian",
        "cyclist",
        "sign",
    ),
    det_to_seg=(5, 6, 7, 8, 9, 10),
)


class TenBoxes:
    """A network whose every plain prediction holds exactly ten confident boxes, at random but fixed places."""

    def __init__(self, network: MultiTaskNet) -> None:
        self.network, self.provides, self.mean_colour = network, network.provides, network.mean_colour
        self.calls: list[tuple[Tensor, tuple[str, ...]]] = []
        rng = rng_of("ten boxes")
        self.found = []
        for _ in range(BATCH):
            centre = rng.uniform((0.1 * WIDTH, 0.2 * HEIGHT), (0.9 * WIDTH, 0.8 * HEIGHT), (BOXES, 2))
            half = np.exp(rng.uniform(np.log(6), np.log(32), (BOXES, 2)))
            probs = torch.from_numpy(rng.uniform(0.05, 1.0, (BOXES, len(CLASSES.detection))).astype(np.float32))
            boxes = torch.from_numpy(np.concatenate([centre - half, centre + half], 1).astype(np.float32))
            scores = torch.linspace(0.9, 0.4, BOXES)
            self.found.append(Detections(boxes, scores, probs.argmax(1), probs))

    def predict(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        self.calls.append((images, tuple(self.provides if heads is None else heads)))
        answers = self.network.predict(images, heads=heads, inputs=inputs)
        if heads is None or "detection" not in heads:
            return answers
        return [replace(one, outputs={**one.outputs, "detection": self.found[row]}) for row, one in enumerate(answers)]


def parameters(network: MultiTaskNet) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def photographs(folder: Path, suffix: str) -> list[Path]:
    """Smooth pictures on disk, about as hard to decode as photographs."""
    rng, paths = rng_of("photographs"), []
    for row in range(BATCH):
        rough = Image.fromarray(rng.integers(0, 255, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8))
        paths.append(folder / f"{row}.{suffix}")
        rough.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def decoded(paths: Sequence[Path]) -> Tensor:
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


@torch.inference_mode()
def replay(network: MultiTaskNet, calls: Sequence[tuple[Tensor, tuple[str, ...]]]) -> None:
    """The same passes when nobody looks at the answers: no decoding, no log-softmax."""
    for pixels, heads in calls:
        maps = network.maps(pixels)
        for task, head in network.heads.items():
            if task in heads or f"{task}.dense" in heads:
                head(maps)
        if "predicted_loss" in heads:
            pooled = [x.mean((2, 3)) for x in maps]
            for net in network.lossnets.values():
                net(pooled)


def measure(name: str, plan: Plan, model: TenBoxes, *, disk: bool) -> None:
    """Time a plan against its bare passes, and record a line."""
    ids, keys = [f"{row}" for row in range(BATCH)], list(range(BATCH))
    images = torch.rand(BATCH, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))

    def score(pixels: Tensor) -> float:
        return score_batch(model, pixels, {}, ids, keys, CLASSES, plan).forwards

    model.calls.clear()
    forwards, calls = score(images) / BATCH, list(model.calls)
    full = sum(pixels.numel() for pixels, _ in calls if pixels.shape[-1] != CROP) / images.numel()
    replay(model.network, calls)
    with tempfile.TemporaryDirectory() as folder:
        files = {suffix: photographs(Path(folder), suffix) for suffix in ("jpg", "png") if disk}
        times: dict[str, list[float]] = {name: [] for name in ("bare", "memory", *files)}
        for turn in range(ROUNDS):
            times["bare"].append(seconds(lambda: replay(model.network, calls)))
            times["memory"].append(seconds(lambda: score(images)))
            for suffix, paths in files.items() if turn < 3 else ():
                times[suffix].append(seconds(lambda paths=paths: score(decoded(paths))))  # type: ignore[misc]
    rate = {name: BATCH / median(of) for name, of in times.items()}
    ratio = median(b / m for b, m in zip(times["bare"], times["memory"], strict=True))
    disks = "; from disk " + " ".join(f"{rate[suffix]:.1f} ({suffix})" for suffix in files) if disk else ""
    record(
        f"{name}: scoring {rate['memory']:.1f} images/s = {ratio:.2f} of the bare passes ({rate['bare']:.1f} images/s; "
        f"target: at least 0.8); {full:.2f} full-size passes an image, {forwards:.2f} with the crops{disks} "
        f"[{parameters(model.network):.2f} M parameters, fp32, {BATCH} x {HEIGHT}x{WIDTH}, {BOXES} crops of {CROP}, "
        "1 thread]"
    )


def everything() -> dict[str, Strategy]:
    """Each built-in strategy, both variants of those that have a part a task."""
    alone: dict[str, Strategy] = {
        "random": Random(), "cost_random": CostRandom(), "equal": Equal(), "cald": Cald(multiple=4), "ll4al": LL4AL(),
        "cdal": CDAL(), "coreset": CoreSet(), "boxmask": BoxMask(crop_size=CROP), "entropy": Entropy("det"),
        "entropy of maps": Entropy("seg"), "margin": Margin("det"), "margin of maps": Margin("seg"),
    }  # fmt: skip
    together: dict[str, Strategy] = {
        "alternation": Alternation((Cald(multiple=4), Equal())),
        "ranks": RankCombination((Entropy("det"), Entropy("seg"))),
    }
    return alone | together


def main() -> None:
    """Measure the strategies of the demonstration, then all that are built in, in one plan."""
    torch.set_num_threads(1)
    network = small(CLASSES, ("detection", "segmentation"), width=52, loss_prediction=LossPrediction()).eval()
    model = TenBoxes(network)  # 1.7 M parameters and the loss prediction's
    measure("boxmask, equal", Plan({"boxmask": BoxMask(crop_size=CROP), "equal": Equal()}, 0, 0), model, disk=True)
    measure("all strategies in one plan", Plan(everything(), 0, 0), model, disk=False)


if __name__ == "__main__":
    if "--profile" in sys.argv:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            main()
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=30))
    else:
        main()
