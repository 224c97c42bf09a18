"""A plan as people read it: a table of what every arm does, and lines of what the whole asks for."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from orchestrator.config import Cluster
from orchestrator.planning import Outlook, Speed, Work, makespan, seconds_of

_HEADS = ("trials", "steps", "scored", "forward passes", "evaluated", "labeled")
_CAPTION = """steps: of training, of a whole batch; scored, evaluated, labeled: images
forward passes: of scoring, in full images; from nothing detected to as many boxes as can be"""


def plan_table(name: str, plan: Outlook) -> Table:
    """A row for the reference, each cycle 0, each arm, and the sum of all."""
    table = Table(title=f"{escape(name)}: the plan of a run", caption=_CAPTION, caption_justify="left")
    table.add_column("")
    for head in _HEADS:
        table.add_column(head, justify="right")
    table.add_row("reference", *_cells(plan.of("reference")))
    arms = list(dict.fromkeys(one.unit.arm for one in plan.of("arm")))
    shared: dict[tuple[str, ...], list[Work]] = {}
    for one in plan.of("initial"):
        shared.setdefault(plan.shared_by[one.unit], []).append(one)
    for names, works in shared.items():
        whose = "all arms" if set(names) == set(arms) else ", ".join(names)
        table.add_row(escape(f"cycle 0 of {whose}"), *_cells(works))
    table.add_section()
    for arm in arms:
        table.add_row(escape(arm), *_cells(plan.of("arm", arm)))
    table.add_section()
    table.add_row("in all", *_cells(plan.works), style="bold")
    return table


def _cells(works: Sequence[Work]) -> tuple[str, ...]:
    least, most = (sum(getattr(one, name) for one in works) for name in ("least", "most"))
    passes = f"{least:,.0f}" if round(least) == round(most) else f"{least:,.0f} to {most:,.0f}"
    return (
        f"{len(works):,}",
        f"{sum(one.steps for one in works):,}",
        f"{sum(scoring.images for one in works for scoring in one.scorings):,}",
        passes,
        f"{sum(one.judged + one.evaluated for one in works):,}",
        f"{sum(sum(one.bought) for one in works):,}",
    )


def plan_lines(
    plan: Outlook, source: str, cluster: Cluster, place: str, at_a_time: int, workers: int, speed: Speed | None
) -> Table:
    """What the run needs and makes, each in a line that begins with its name."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in (
        ("images", _images(plan, source)),
        ("labels", _labels(plan)),
        ("networks", _networks(plan)),
        ("a trial asks for", _asked(cluster)),
        ("at a time", f"{_trials(at_a_time)} on {place}"),
        ("storage", _storage(plan, at_a_time)),
        ("time", _time(plan, cluster, at_a_time, workers, speed)),
    ):
        table.add_row(name, escape(text))
    return table


def _images(plan: Outlook, source: str) -> str:
    height, width = plan.size
    counts = (
        f"{plan.images['train']:,} in the pool, {plan.images['val']:,} val, {plan.images['test']:,} test ({source})"
    )
    blind = not (plan.images["val"] or plan.images["test"])
    return f"{counts}; {height} x {width} px{'; no evaluation is counted: add --images val=N' if blind else ''}"


def _labels(plan: Outlook) -> str:
    """What trials buy; those that buy alike share a line."""
    alike: dict[tuple[int, tuple[int, ...]], list[str]] = {}
    for one in plan.of("arm"):
        alike.setdefault((one.labeled, one.bought), []).append(one.unit.arm)
    lines = []
    for (start, bought), names in alike.items():
        whose = "each arm" if len(alike) == 1 else ", ".join(dict.fromkeys(names))
        lines.append(
            f"{whose} starts with {start:,}, buys {_runs(bought)} and ends with {start + sum(bought):,} of "
            f"{plan.images['train']:,}"
        )
    return "\n".join(lines)


def _runs(bought: Sequence[int]) -> str:
    """1,319 x 5, then 1,317."""
    runs: list[list[int]] = []
    for count in bought:
        if runs and runs[-1][0] == count:
            runs[-1][1] += 1
        else:
            runs.append([count, 1])
    return ", then ".join(f"{count:,}" + (f" x {times}" if times > 1 else "") for count, times in runs) or "nothing"


def _networks(plan: Outlook) -> str:
    sizes = sorted({one.parameters for one in plan.networks.values()})
    fits = sum(one.fits for one in plan.works)
    return f"{' or '.join(f'{size / 1e6:.1f} M' for size in sizes)} parameters; {fits:,} trainings in all"


def _asked(cluster: Cluster) -> str:
    gpus = f" and {cluster.gpus_per_worker:g} GPU" if cluster.gpus_per_worker else ""
    workers = f"{cluster.workers_per_trial} workers" if cluster.workers_per_trial > 1 else "1 worker"
    return f"{workers} of {cluster.cpus_per_worker} CPU{gpus}"


def _trials(count: int) -> str:
    return f"{count} trial{'' if count == 1 else 's'}" if count else "no trial: it is too small for one"


def _storage(plan: Outlook, at_a_time: int) -> str:
    running = max(one.training for one in plan.networks.values()) * max(1, at_a_time)
    return (
        f"{size_text(plan.kept)} of checkpoints and at most {size_text(plan.scores)} of scores are kept; up to "
        f"{size_text(running)} more while trainings run"
    )


def _time(plan: Outlook, cluster: Cluster, at_a_time: int, workers: int, speed: Speed | None) -> str:
    if speed is None:
        return "not known: add --measure, or --step-seconds and --image-seconds from a machine of the cluster"
    total = sum(seconds_of(one, speed, workers) for one in plan.works)
    gpus = cluster.gpus_per_worker * workers if speed.is_of_gpu else 0
    used = f", {hours_text(total * gpus)} of one GPU" if gpus else ""
    end = (
        f"done after {hours_text(makespan(plan.works, speed, workers, at_a_time))}"
        if at_a_time
        else "no trial fits here"
    )
    return f"{hours_text(total)} of trials{used}; {end} ({speed.source})"


def hours_text(seconds: float) -> str:
    """Minutes, or hours, and days where they are many."""
    hours = seconds / 3600
    if hours < 1:
        return f"{seconds / 60:.1f} minutes"
    return f"{hours:,.1f} hours" if hours < 72 else f"{hours:,.0f} hours ({hours / 24:,.1f} days)"


def size_text(count: int) -> str:
    """Bytes in the unit that fits."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.3g} {unit}"
