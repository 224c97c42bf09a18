"""What a bench found: as rows that can be compared between clusters, as a table, and as a drawing. No torch."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from statistics import median
from typing import Any

from rich.markup import escape
from rich.table import Table

from orchestrator import identity
from orchestrator.components import Component
from orchestrator.config import Cluster
from orchestrator.errors import RunError
from orchestrator.figures import scaling_svg
from orchestrator.meter import Reading
from orchestrator.store import write_text
from orchestrator.workers import Setup
from tasks.data.files import Place

PHASES = ("read", "wait", "forward", "scores", "write", "other", "idle")  # read runs beside the others
MIB = 2**20
COLUMNS = (
    *("time", "config", "strategy", "model", "height", "width", "batch", "images", "shard", "workers", "runs"),
    *("images_per_s", "slowest", "fastest", "of_ideal", *(f"{name}_ms" for name in PHASES)),
    *("start_s", "select_s", "step_s", "hours", "worker_rss_mib", "worker_pss_mib", "command_rss_mib"),
    *("command_pss_mib", "read_mib", "written_mib", "job_kib", "machine", "nodes", "cpus_by_node", "gpus_by_node"),
    *("cpus_per_worker", "gpus_per_worker", "address", "load", "mtal", "code", "python", "ray", "torch"),
)  # of bench.csv


@dataclass(frozen=True)
class Run:
    """One scoring of the images."""

    workers: int
    shard: int
    images: int
    seconds: float
    select: float  # seconds of choosing a tenth of the images
    readings: Sequence[Reading]  # one a worker
    job: int  # bytes that went to the workers for it
    chosen: tuple[tuple[str, ...], ...]

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds

    def phases(self) -> dict[str, float]:
        """Milliseconds of a worker's time an image. All but ``read`` add up to the workers' time."""
        total = {name: sum(one.seconds.get(name, 0.0) for one in self.readings) for name in (*PHASES, "shard")}
        total["other"] = total["shard"] - sum(total[name] for name in ("wait", "forward", "scores", "write"))
        total["idle"] = self.workers * self.seconds - total["shard"]
        return {name: 1000 * total[name] / self.images for name in PHASES}


@dataclass(frozen=True)
class Site:
    """Where it was measured."""

    address: str
    nodes: Sequence[Mapping[str, float]]  # what each offers
    needs: Cluster  # what a worker asks for

    def offers(self, kind: str) -> str:
        """Of each node: "4 4 2"."""
        return " ".join(f"{node.get(kind, 0.0):g}" for node in self.nodes)


@dataclass(frozen=True)
class Line:
    """The runs of one number of workers and one size of shards."""

    workers: int
    shard: int
    runs: Sequence[Run]

    @property
    def rate(self) -> float:
        return median(run.rate for run in self.runs)

    @property
    def slowest(self) -> float:
        return min(run.rate for run in self.runs)

    @property
    def fastest(self) -> float:
        return max(run.rate for run in self.runs)

    def phase(self, name: str) -> float:
        return median(run.phases()[name] for run in self.runs)

    def largest(self, name: str) -> float | None:
        """The largest of a worker's readings, MiB."""
        values = [value for run in self.runs for one in run.readings if (value := getattr(one, name)) is not None]
        return max(values) / MIB if values else None

    def moved(self, name: str) -> float | None:
        """MiB a run, all workers together."""
        sums = [[getattr(one, name) for one in run.readings] for run in self.runs]
        return None if any(None in values for values in sums) else median(sum(values) for values in sums) / MIB


@dataclass(frozen=True)
class Bench:
    """All that was measured."""

    config: str
    site: Site
    load: float  # of this machine, one-minute average, before it began
    setup: Setup
    size: tuple[int, int] | None  # H, W of the images as they are read
    images: int
    strategies: Mapping[str, Component]
    runs: Sequence[Run]
    steps: Mapping[int, float]  # seconds of a training step by number of processes
    start: float  # seconds until all workers were ready
    command: Reading  # of the process that directs
    work: tuple[int, int]  # training steps and images to score of the whole experiment

    @cached_property
    def lines(self) -> list[Line]:
        """By size of shards, then number of workers."""
        kinds = sorted({(run.shard, run.workers) for run in self.runs})
        return [Line(w, s, [r for r in self.runs if (r.shard, r.workers) == (s, w)]) for s, w in kinds]

    @property
    def model(self) -> str:
        if "ms" in self.setup.model.options and self.setup.model.name.endswith("StubNetwork"):
            return f"stub of {self.setup.model.options['ms']:g} ms CPU an image"
        options = ", ".join(f"{k}: {v}" for k, v in self.setup.model.options.items())
        return f"{self.setup.model.name}{f' ({options})' if options else ''}"

    def of_ideal(self, line: Line) -> float:
        """The rate as a share of that of the fewest workers, times how many more there are."""
        first = next(one for one in self.lines if one.shard == line.shard)
        return line.rate / (first.rate * line.workers / first.workers)

    def hours(self, line: Line) -> float | None:
        """Of the whole experiment with so many workers a trial, one trial after another, all arms scored as here."""
        known = [seconds for count, seconds in self.steps.items() if count <= line.workers]
        return (self.work[0] * min(known) + self.work[1] / line.rate) / 3600 if known else None

    @property
    def agrees(self) -> bool:
        """Whether every run chose the same images."""
        return len({run.chosen for run in self.runs}) == 1


# ---- rows -----------------------------------------------------------------------------------------------------------


def rows(bench: Bench, when: datetime) -> list[dict[str, Any]]:
    """One a combination, for bench.csv."""
    known = identity.environment({}, bench.setup.model, None)
    height, width = bench.size or (0, 0)
    cluster = {
        "machine": known["cpu"], "nodes": len(bench.site.nodes), "cpus_by_node": bench.site.offers("CPU"),
        "gpus_by_node": bench.site.offers("GPU"), "cpus_per_worker": bench.site.needs.cpus_per_worker,
        "gpus_per_worker": bench.site.needs.gpus_per_worker, "address": bench.site.address,
        "load": bench.load, **{name: known[name] for name in ("mtal", "code", "python", "ray", "torch")},
    }  # fmt: skip
    what = {
        "time": f"{when:%Y-%m-%dT%H:%M:%SZ}", "config": bench.config, "strategy": " ".join(bench.strategies),
        "model": bench.model, "height": height, "width": width, "batch": bench.setup.batch, "images": bench.images,
    }  # fmt: skip
    return [{**what, **_row(bench, line), **cluster} for line in bench.lines]


def _row(bench: Bench, line: Line) -> dict[str, Any]:
    return {
        "shard": line.shard, "workers": line.workers, "runs": len(line.runs), "images_per_s": line.rate,
        "slowest": line.slowest, "fastest": line.fastest, "of_ideal": bench.of_ideal(line),
        **{f"{name}_ms": line.phase(name) for name in PHASES},
        "start_s": bench.start, "select_s": median(run.select for run in line.runs),
        "step_s": bench.steps.get(line.workers), "hours": bench.hours(line),
        "worker_rss_mib": line.largest("rss"), "worker_pss_mib": line.largest("pss"),
        "command_rss_mib": bench.command.rss / MIB,
        "command_pss_mib": None if bench.command.pss is None else bench.command.pss / MIB,
        "read_mib": line.moved("read"), "written_mib": line.moved("written"),
        "job_kib": max(run.job for run in line.runs) / 1024,
    }  # fmt: skip


def earlier(out: Place) -> str:
    """What bench.csv holds already; RunError where it has other columns than ours."""
    path = out / "bench.csv"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    head = next(csv.reader(io.StringIO(text)), list(COLUMNS))
    if tuple(head) != COLUMNS:
        other = sorted({*head} ^ {*COLUMNS}) or ["their order"]
        raise RunError(
            f"{path}: has other columns than this version writes ({', '.join(other)[:80]}); expected the same: move "
            "the file away, or choose another --out"
        )
    return text


def append(out: Place, found: Sequence[Mapping[str, Any]]) -> Place:
    """Add rows to bench.csv, all or none; its path."""
    old, text = earlier(out), io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if not old:
        writer.writeheader()
    for row in found:
        writer.writerow({name: f"{value:.5g}" if isinstance(value, float) else value for name, value in row.items()})
    write_text(out / "bench.csv", old + text.getvalue())
    return out / "bench.csv"


def save(bench: Bench, out: Place) -> tuple[Place, Place]:
    """Append to bench.csv and draw the plot of these rows; both paths."""
    now = datetime.now(UTC)
    table, plot = append(out, rows(bench, now)), out / f"scaling-{now:%Y%m%d-%H%M%S}.svg"
    series = {
        f"shards of {shard}": [(o.workers, o.slowest, o.rate, o.fastest) for o in bench.lines if o.shard == shard]
        for shard in dict.fromkeys(line.shard for line in bench.lines)
    }
    write_text(plot, scaling_svg(series, title(bench)))
    return table, plot


# ---- what is printed ------------------------------------------------------------------------------------------------


def title(bench: Bench) -> str:
    size = f", {bench.size[0]} x {bench.size[1]} px" if bench.size else ""
    return f"{bench.config}: {' and '.join(bench.strategies)}, {bench.model}{size}"


def table(bench: Bench) -> Table:
    """Rates and where the workers' time went."""
    shown = Table(title=f"[bold]{escape(title(bench))}[/bold]", title_justify="left", title_style="", box=None)
    for name in ("workers", "shard", "images/s", "range", "of ideal", *PHASES, "PSS, MiB"):
        shown.add_column(name, justify="right", style="dim" if name == "read" else "")
    last = None
    for line in bench.lines:
        if last not in (None, line.shard):
            shown.add_section()
        last = line.shard
        pss = line.largest("pss")
        shown.add_row(
            str(line.workers), str(line.shard), f"[bold]{line.rate:.1f}[/bold]",
            f"{line.slowest:.1f}-{line.fastest:.1f}", f"{100 * bench.of_ideal(line):.0f} %",
            *(f"{line.phase(name):.1f}" for name in PHASES), "?" if pss is None else f"{pss:.0f}",
        )  # fmt: skip
    return shown


def notes(bench: Bench) -> list[str]:
    """What else was found, a line each."""
    runs = len(bench.lines[0].runs)
    last = bench.lines[-1]
    found = [
        f"median of {runs} run{'s' * (runs > 1)} in turns over {bench.images} images in batches of "
        f"{bench.setup.batch}; from read to idle: ms of a worker's time an image (read runs beside the others)",
        f"all workers ready after {bench.start:.1f} s; choosing a tenth takes "
        f"{median(run.select for run in bench.runs):.2f} s",
    ]
    if bench.steps:
        each = ", ".join(f"{s:.3f} s by {n}" for n, s in bench.steps.items())
        found.append(f"a training step: {each} process{'es' * (max(bench.steps) > 1)}")
        hours = [(line.workers, known) for line in bench.lines if (known := bench.hours(line)) is not None]
        best = [f"{min(h for w, h in hours if w == n):.2g} h with {n}" for n in sorted({w for w, _ in hours})]
        found.append(
            f"the whole experiment is {bench.work[0]:,} steps and {bench.work[1]:,} images to score: about "
            f"{', '.join(best)} workers a trial, if trials follow each other and all arms score as fast as here"
        )
    read, written = last.moved("read"), last.moved("written")
    found.append(
        f"memory at the highest (RSS): worker {last.largest('rss') or 0:.0f} MiB, this command "
        f"{bench.command.rss / MIB:.0f} MiB; a run reads {_mib(read)}, writes {_mib(written)} and sends a job of "
        f"{max(run.job for run in last.runs) / 1024:.1f} KiB to each node"
    )
    if bench.load > 0.5:
        found.append(
            f"this machine was busy before (load {bench.load:.1f}): measured again when it is quiet, it is faster"
        )
    if not bench.agrees:
        found.append("the runs did not choose the same images: on GPUs that may be, on one kind of CPU it may not")
    return found


def _mib(value: float | None) -> str:
    return "(not known)" if value is None else f"{value:.1f} MiB"
