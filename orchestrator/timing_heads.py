"""Times the heads of an R-CNN in one network and in several, for ``orchestrator.studies.heads``.

All networks have the same backbone, pyramid, proposals and head of boxes, weight for weight, so that masks and
keypoints are made for the same boxes. How many these are decides the time: the threshold of scores and the suppression
of neighbours are off, and the best few are taken. In each round every system looks at the image once, beginning with
another one each time.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch
from torch import Tensor, nn

from orchestrator.errors import ConfigError, RunError
from orchestrator.identity import processor
from orchestrator.studies.heads import ALL, SYSTEMS, Costs, Setting, Taken
from tasks.classes import ClassMap
from tasks.geometry import Size
from tasks.nets.decode import Decode
from tasks.nets.rcnn import MultiHeadRcnn, rcnn

WARM = 3  # rounds before the clock runs
CLASSES = ClassMap(("part",), (), (-1,), ("left", "right", "tip"))
Progress = Callable[[str, str, int, int], None]
Networks = list[MultiHeadRcnn]
Backbone = Literal["resnet50", "small"]
WIDTHS: dict[str, tuple[Backbone, int]] = {"resnet50": ("resnet50", 256), "small": ("small", 64)}  # of their pyramids


@dataclass(frozen=True)
class Asked:
    """What is to be measured."""

    size: Size = (720, 1280)  # H, W
    detections: int = 10
    rounds: int = 20
    threads: int = 1  # of a CPU
    backbone: Backbone = "resnet50"
    width: int = 256  # of the pyramid

    def __post_init__(self) -> None:
        if min(self.size) < 64:
            raise ConfigError(f"--size {self.size[0]},{self.size[1]}: expected a height and a width of 64 px and more")


def asked(size: str, detections: int, rounds: int, threads: int, backbone: str) -> Asked:
    """What the words of a command line ask for; ConfigError where they make no sense."""
    sides = [word.strip() for word in size.split(",")]
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise ConfigError(f"--size {size}: expected a height and a width in px, such as 720,1280: correct it")
    if backbone not in WIDTHS:
        raise ConfigError(f"--backbone {backbone}: there is none; expected one of {', '.join(WIDTHS)}")
    height, width = map(int, sides)
    return Asked((height, width), detections, rounds, threads, *WIDTHS[backbone])


def devices(wanted: str) -> tuple[list[torch.device], str]:
    """Where to measure, and a sentence on what is left out. ConfigError for a GPU that is not there."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device {wanted}: there is none; expected auto, cpu or cuda")
    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise ConfigError("--device cuda: torch finds no GPU here; expected one: leave --device out")
    if wanted == "auto" and not has_gpu:
        return [torch.device("cpu")], "no GPU here, so none is measured"
    names = ["cpu", "cuda"] if wanted == "auto" else [wanted]
    return [torch.device(name) for name in names], ""


def measured(asked: Asked, device: torch.device, progress: Progress) -> Costs:
    """All systems on one device. RunError where the networks do not find the boxes that were asked for."""
    load, threads = os.getloadavg()[0], torch.get_num_threads()
    peaks = _gpu_peaks(asked, device, progress) if device.type == "cuda" else _cpu_peaks(asked, progress)
    torch.set_num_threads(asked.threads)
    try:
        found = _raced(asked, device, progress)
    finally:
        torch.set_num_threads(threads)
    setting = Setting(
        _named(device, asked.threads), load, asked.size, asked.detections, asked.rounds, asked.backbone,
        torch.__version__,
    )  # fmt: skip
    taken = {}
    for name, (networks, seconds) in found.items():
        parameters = [p for network in networks for p in network.parameters()]
        taken[name] = Taken(
            tuple(wall for wall, _ in seconds),
            tuple(cpu for _, cpu in seconds),
            sum(p.numel() for p in parameters),
            sum(p.numel() * p.element_size() for p in parameters),
            peaks[name],
        )
    return Costs(setting, taken)


# ---- the networks ----------------------------------------------------------------------------------------------------


def network_of(asked: Asked, tasks: Sequence[str], device: torch.device) -> MultiHeadRcnn:
    """A network of random weights, whose batch norm has seen one image of noise: its numbers stay ordinary."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        decode = Decode(score=0.0, nms=1.0, top=asked.detections)
        model = rcnn(CLASSES, tasks, backbone=asked.backbone, width=asked.width, decode=decode).to(device)
        image = noise(asked, device)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # what it has seen last
    with torch.no_grad():
        model.train().backbone((image - 0.5) / 0.25)
    return model.eval()


def noise(asked: Asked, device: torch.device) -> Tensor:
    """An image ``[1, 3, H, W]``, the same every time."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, *asked.size, generator=generator).to(device)


def _raced(
    asked: Asked, device: torch.device, progress: Progress
) -> dict[str, tuple[Networks, list[tuple[float, float]]]]:
    """The networks of each system, and its wall and CPU seconds, one a round."""
    whole = network_of(asked, ALL, device)
    own = {tasks: whole if tasks == ALL else _like(whole, asked, tasks, device) for tasks in _kinds()}
    image, names = noise(asked, device), list(SYSTEMS)
    found = {name: ([own[tasks] for tasks in SYSTEMS[name].networks], list[tuple[float, float]]()) for name in names}
    for turn in range(WARM + asked.rounds):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            networks, seconds = found[name]
            took = _seconds(networks, image, asked.detections)
            if turn >= WARM:
                seconds.append(took)
        progress("timing heads", device.type, turn + 1, WARM + asked.rounds)
    return found


def _kinds() -> list[tuple[str, ...]]:
    return list(dict.fromkeys(tasks for system in SYSTEMS.values() for tasks in system.networks))


def _like(whole: MultiHeadRcnn, asked: Asked, tasks: Sequence[str], device: torch.device) -> MultiHeadRcnn:
    """A network of some heads, with the weights of the network of all."""
    model, weights = network_of(asked, tasks, device), whole.state_dict()
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    return model


def _seconds(networks: Networks, image: Tensor, detections: int) -> tuple[float, float]:
    """Wall and CPU seconds until all networks have answered, one after the other."""
    _wait(image)
    wall, cpu = time.perf_counter(), time.process_time()
    answers = [network.predict(image, network.tasks)[0].detections for network in networks]
    _wait(image)
    took = time.perf_counter() - wall, time.process_time() - cpu
    if any(len(answer.boxes) != detections for answer in answers):
        raise RunError(
            f"--detections {detections}: the networks find {len(answers[0].boxes)} boxes in an image of "
            f"{image.shape[-2]} x {image.shape[-1]} px; ask for fewer, or for a larger --size"
        )
    return took


def _wait(image: Tensor) -> None:
    if image.is_cuda:
        torch.cuda.synchronize(image.device)


def _named(device: torch.device, threads: int) -> str:
    if device.type == "cuda":
        return f"one {torch.cuda.get_device_name(device)}"
    return f"{threads} thread{'s' if threads > 1 else ''} of {processor()}"


# ---- memory ----------------------------------------------------------------------------------------------------------


def _gpu_peaks(asked: Asked, device: torch.device, progress: Progress) -> dict[str, int | None]:
    """Bytes of the GPU that a system takes at the most, its weights too."""
    peaks: dict[str, int | None] = {}
    for done, (name, system) in enumerate(SYSTEMS.items()):
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(device)
        networks = [network_of(asked, tasks, device) for tasks in system.networks]
        torch.cuda.reset_peak_memory_stats(device)
        _seconds(networks, noise(asked, device), asked.detections)
        peaks[name] = torch.cuda.max_memory_allocated(device) - before
        del networks
        progress("memory of heads", name, done + 1, len(SYSTEMS))
    return peaks


def _cpu_peaks(asked: Asked, progress: Progress) -> dict[str, int | None]:
    """The same of this machine's memory: each system in a process of its own, whose torch has done nothing yet."""
    peaks: dict[str, int | None] = {}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    for done, name in enumerate(SYSTEMS):
        try:
            with ProcessPoolExecutor(1, context) as own:
                peaks[name] = own.submit(peak_here, asked, name).result()
        except BrokenProcessPool as error:
            raise RunError(
                f"the process that measures the memory of {name!r} died; expected room for two networks of "
                f"{asked.backbone}: free memory, or ask for a smaller --size"
            ) from error
        progress("memory of heads", name, done + 1, len(SYSTEMS))
    return peaks


def peak_here(asked: Asked, name: str) -> int | None:
    """Bytes that this process holds at the most while a system looks at an image, beyond what it held before.

    None where the system does not tell, or does not let the record of the peak begin anew.
    """
    torch.set_num_threads(asked.threads)
    before, record = psutil.Process().memory_info().rss, Path("/proc/self/clear_refs")
    device = torch.device("cpu")
    networks = [network_of(asked, tasks, device) for tasks in SYSTEMS[name].networks]
    try:
        record.write_text("5")
        _seconds(networks, noise(asked, device), asked.detections)
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) - before for line in lines if line.startswith("VmHWM")), None)
