"""mtal study heads: what the heads of an R-CNN cost in one network and in several, beside the paper's table. No torch.

After Table I of the paper on combined annotation of polygons and keypoints: images a second and memory of Faster, Mask
and Keypoint R-CNN, of one network with all heads, and of Mask and Keypoint R-CNN that both look at the image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from orchestrator.errors import RunError
from orchestrator.store import read_json, write_json
from orchestrator.tables import NOTHING
from tasks.data.files import Place

MIB = 2**20
FILE = "heads.json"  # in a run folder, for its report
FASTER, MASKS, POINTS, ALL = (
    ("detection",),
    ("detection", "instances"),
    ("detection", "keypoints"),
    ("detection", "instances", "keypoints"),
)
MULTI, PAIR = "multi-head", "Mask and Keypoint"
FASTER_THAN, SMALLER_THAN = 1.35, 0.65  # what is wanted of the multi-head network beside the pair; measured 1.54, 0.60


@dataclass(frozen=True)
class System:
    """One row of the paper's table: the networks that look at an image, by their tasks, and what was printed."""

    networks: tuple[tuple[str, ...], ...]
    fps: float
    megabytes: float  # read off its figure


SYSTEMS: Mapping[str, System] = {
    "Faster": System((FASTER,), 11.1, 350),
    "Mask": System((MASKS,), 10.5, 350),
    "Keypoint": System((POINTS,), 9.4, 350),
    MULTI: System((ALL,), 8.7, 500),
    PAIR: System((MASKS, POINTS), 4.8, 700),
}


@dataclass(frozen=True)
class Setting:
    """What was measured, and where."""

    device: str  # "2 threads of ...", "one NVIDIA ..."
    load: float  # of the machine before, one-minute average
    size: tuple[int, int]  # H, W of the image
    detections: int  # that masks and keypoints are made for
    rounds: int
    backbone: str
    torch: str

    @property
    def is_gpu(self) -> bool:
        return self.device.startswith("one ")


@dataclass(frozen=True)
class Taken:
    """What one system takes."""

    seconds: tuple[float, ...]  # an image, one a round
    cpu: tuple[float, ...]  # the same, in CPU time of the process
    parameters: int
    weights: int  # bytes
    peak: int | None  # bytes at the most, weights too; None where the system does not tell

    @property
    def fps(self) -> float:
        """Images a second: of the median round."""
        return 1 / median(self.seconds)


@dataclass(frozen=True)
class Costs:
    """What all systems take, measured in turns."""

    setting: Setting
    taken: Mapping[str, Taken]

    def clock(self, name: str) -> tuple[float, ...]:
        """The seconds that are compared: CPU time on a CPU, which other programs disturb least."""
        return self.taken[name].seconds if self.setting.is_gpu else self.taken[name].cpu

    @property
    def speedup(self) -> float:
        """How many times as long the pair takes as the network with all heads: the median over the rounds."""
        return median(pair / multi for pair, multi in zip(self.clock(PAIR), self.clock(MULTI), strict=True))

    @property
    def weights_share(self) -> float:
        """The weights of the network with all heads, as a share of those of the pair."""
        return self.taken[MULTI].weights / self.taken[PAIR].weights

    def relations(self) -> list[tuple[str, bool]]:
        """What must hold of any machine, in words, and whether it does."""
        multi, mask, points = (median(self.clock(name)) for name in (MULTI, "Mask", "Keypoint"))
        paper = SYSTEMS[MULTI].fps / SYSTEMS[PAIR].fps
        found = [
            (
                f"one pass with all heads takes {1000 * multi:.0f} ms, less than Mask's {1000 * mask:.0f} and "
                f"Keypoint's {1000 * points:.0f} ms together",
                multi < mask + points,
            ),
            (
                f"the pair takes {self.speedup:.2f} times as long (paper {paper:.2f}; wanted at least {FASTER_THAN})",
                self.speedup >= FASTER_THAN,
            ),
            (
                f"its weights are {self.weights_share:.2f} of the pair's (paper {500 / 700:.2f} of the memory; wanted "
                f"less than {SMALLER_THAN})",
                self.weights_share < SMALLER_THAN,
            ),
        ]
        peaks = self.taken[MULTI].peak, self.taken[PAIR].peak
        if peaks[0] is not None and peaks[1] is not None:
            found.append((f"its memory is {peaks[0] / peaks[1]:.2f} of the pair's at the most", peaks[0] < peaks[1]))
        return found


# ---- as it is kept ---------------------------------------------------------------------------------------------------


def keep(found: Sequence[Costs], folder: Place) -> Place:
    """Write the costs of one or more devices into a run folder; the path of the file."""
    write_json(folder / FILE, [asdict(costs) for costs in found])
    return folder / FILE


def kept(folder: Place) -> list[Costs]:
    """The costs that lie in a run folder; none where there is no such file. RunError where it is not readable."""
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        return [_costs(plain) for plain in read_json(path)]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path}: not what 'mtal study heads' writes ({type(error).__name__}: {error}); delete it and measure again"
        ) from error


def _costs(plain: Any) -> Costs:
    setting = Setting(**{**plain["setting"], "size": tuple(plain["setting"]["size"])})
    taken = {
        name: Taken(**{**plain["taken"][name], **{k: tuple(plain["taken"][name][k]) for k in ("seconds", "cpu")}})
        for name in SYSTEMS
    }
    return Costs(setting, taken)


# ---- as people read it -----------------------------------------------------------------------------------------------

HEAD = ("network", "images/s", "ms", "CPU ms", "parameters, M", "weights, MiB", "peak, MiB", "paper: images/s", "MB")


def rows(costs: Costs) -> list[tuple[str, ...]]:
    """The table, a row a system, as texts in the order of ``HEAD``."""
    return [
        (
            name,
            f"{one.fps:.2f}" if one.fps < 10 else f"{one.fps:.1f}",
            f"{1000 * median(one.seconds):.0f}",
            f"{1000 * median(one.cpu):.0f}",
            f"{one.parameters / 1e6:.1f}",
            f"{one.weights / MIB:.0f}",
            NOTHING if one.peak is None else f"{one.peak / MIB:.0f}",
            f"{SYSTEMS[name].fps:.1f}",
            f"~{SYSTEMS[name].megabytes:.0f}",
        )
        for name, one in costs.taken.items()
    ]


def title(costs: Costs) -> str:
    """What was measured, in a line."""
    setting = costs.setting
    return (
        f"{setting.backbone} with a pyramid, one image of {setting.size[0]} x {setting.size[1]} px, "
        f"{setting.detections} detections, on {setting.device}"
    )


def notes(costs: Costs) -> list[str]:
    """How it was measured, and what holds, a line each."""
    setting = costs.setting
    told = [
        f"median of {setting.rounds} rounds, in turns; random weights, the same where networks share a layer, so that "
        f"all find the same {setting.detections} boxes; torch {setting.torch}. The paper's figures are of a GPU of its "
        "time; what can be compared is how the rows relate"
    ]
    if setting.load > 0.5 and not setting.is_gpu:
        told.append(f"this machine was busy before (load {setting.load:.1f}): CPU ms say more than images/s")
    return [*told, *(words if holds else f"NOT AS WANTED: {words}" for words, holds in costs.relations())]


def terminal_table(costs: Costs) -> Table:
    """The table as the terminal shows it."""
    table = Table(
        title=title(costs), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False
    )
    for name in HEAD:
        table.add_column(name, justify="left" if name == "network" else "right")
    for row in rows(costs):
        table.add_row(*row)
    return table
