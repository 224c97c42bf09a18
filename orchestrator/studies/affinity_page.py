"""mtal study affinity: which task helps which, as one page and as a table for the terminal. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from markupsafe import Markup
from rich.table import Table

from orchestrator import __version__
from orchestrator.figures import Style, strip_svg, styles
from orchestrator.pages import template
from orchestrator.store import write_text
from orchestrator.studies.affinity import Gain, condition
from orchestrator.studies.affinity_runs import Affinity, Effect
from orchestrator.studies.words import percent, plain_table
from orchestrator.tables import NOTHING, count, name_of
from tasks.data.files import Place


@dataclass(frozen=True)
class Row:
    """One gain in a table."""

    what: str  # helper and task
    who: str  # the arms
    mean: str
    spread: str  # standard deviation
    interval: str  # paired t
    resampled: str  # bootstrap
    seeds: str
    word: str
    strip: Markup  # a dot for each seed
    is_main: bool  # the gain itself, and not one of those it is compared with


def write_affinity(found: Sequence[Affinity], out: Place) -> None:
    """Write the page: a section for each run."""
    page = template("affinity.html").render(
        version=__version__, title=", ".join(one.name for one in found),
        runs=[
            {
                "name": one.name, "verdicts": verdicts(one), "sentences": [sentence(e) for e in one.effects],
                "head": one.tasks, "matrix": matrix(one), "rows": rows(one), "wanted": one.wanted,
                "notes": one.notes, "missing": one.missing,
            }
            for one in found
        ],
    )  # fmt: skip
    write_text(out, page)


def terminal_table(found: Affinity) -> Table:
    """Every effect of a run: the gain, and what it must be compared with."""
    table = plain_table(
        f"{found.name}: gains of students over the same network without a teacher", "",
        "helper to task", "gain", "95 %", "", "control's gain", "over control", "shown itself",
    )  # fmt: skip
    for one in found.effects:
        others = [percent(g.mean) if g else NOTHING for g in (one.control, one.over_control, one.alone)]
        gain = (percent(one.gain.mean), _between(*one.gain.interval), one.gain.word) if one.gain else (NOTHING,) * 3
        table.add_row(f"{one.helper} to {one.task}", *gain, *others)
    return table


def verdicts(found: Affinity) -> list[str]:
    """A sentence for each pair of tasks of which at least one direction was tried."""
    said = []
    for a, b in combinations(found.tasks, 2):
        effects = (found.effect(a, b), found.effect(b, a))
        there, back = (effect.gain if effect else None for effect in effects)
        if there or back:
            said.append(condition(a, b, there, back))
    return said


def sentence(effect: Effect) -> str:
    """What was found of one effect, in plain words."""
    figure, gain, over = name_of(effect.metric), effect.gain, effect.over_control
    said = [f"{effect.helper} to {effect.task}:"]
    if gain:
        said.append(f"{effect.student} gains {_told(gain)} in {figure} over {gain.pair.baseline}.")
    else:
        said.append(f"{effect.student} has no baseline." if effect.student else "no student was tried.")
    if gain and over:
        told = f"over {over.pair.baseline}, whose teacher was shown the image alone, it gains {_told(over)}"
        if gain.word == "helps" and over.word != "helps":
            said.append(f"But {told}: what helped may be pseudo-labels as such, and not {effect.helper}.")
        else:
            said.append(f"{told[:1].upper()}{told[1:]}.")
    elif gain:
        said.append(
            f"There is no control, so this may be the work of pseudo-labels as such, and not of {effect.helper}."
        )
    if alone := effect.alone:
        arms = f"{alone.pair.arm}, beside {alone.pair.baseline}"
        said.append(f"A network that is shown {effect.helper} itself ({arms}) gains {_told(alone)} in {figure}.")
    return " ".join(said)


def _told(gain: Gain) -> str:
    seeds = count(len(gain.values), "seed")
    if len(gain.values) < 2:
        return f"{percent(gain.mean)} ({seeds}, hence no interval: not shown)"
    unshown = ", not shown" if gain.word == "not shown" else ""
    return f"{percent(gain.mean)} ({seeds}, 95 %: {_between(*gain.interval)}{unshown})"


def matrix(found: Affinity) -> list[tuple[str, list[tuple[str, str]]]]:
    """A row a helper, a cell a task: mean gain of the student and its word; empty on the diagonal."""
    helpers = list(dict.fromkeys([*found.tasks, *(one.helper for one in found.effects)]))
    table = []
    for helper in helpers:
        cells = []
        for task in found.tasks:
            mine = [one for one in found.effects if (one.helper, one.task) == (helper, task) and one.gain]
            if helper == task:
                cells.append(("", ""))
            elif not mine or mine[0].gain is None:
                cells.append((NOTHING, "not known"))
            else:
                cells.append((percent(mine[0].gain.mean), mine[0].gain.word))
        table.append((helper, cells))
    return table


def rows(found: Affinity) -> list[Row]:
    """Every gain with its spread, intervals and dots; all dots of a run on one scale."""
    span = max((float(abs(gain.values).max()) for one in found.effects for gain in one.gains), default=0.0) or 1.0
    looks = styles([f"{one.helper} {one.task} {one.student}" for one in found.effects], None)
    table = []
    for one, look in zip(found.effects, looks.values(), strict=True):
        what = f"{one.helper} to {one.task} ({name_of(one.metric)})"
        beside = ((one.control, "control"), (one.over_control, "over the control"), (one.alone, "shown itself"))
        for gain, words in ((one.gain, ""), *beside):
            if gain:
                name = words if one.gain and words else ": ".join(filter(None, (what, words)))
                table.append(_row(name, gain, look, span, gain is one.gain))
    return table


def _row(what: str, gain: Gain, look: Style, span: float, is_main: bool) -> Row:
    return Row(
        what, f"{gain.pair.arm} over {gain.pair.baseline}", percent(gain.mean), percent(gain.sd).lstrip("+"),
        _between(*gain.interval),
        _between(*gain.resampled), str(len(gain.values)), gain.word, Markup(strip_svg(gain.pair, look, span, 1.0)),
        is_main,
    )  # fmt: skip


def _between(low: float, high: float) -> str:
    return f"{percent(low)} to {percent(high)}" if low == low else NOTHING
