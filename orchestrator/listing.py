"""Every strategy that has a name: where it comes from, what it looks at, and what that costs.

A broken one is a row that says why, and hides none of the others.
"""

import dataclasses
import inspect
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from functools import cache
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table

from orchestrator import __version__
from orchestrator.components import Component, Offer, make, plugin_strategies, resolve, why_not
from orchestrator.errors import ConfigError
from strategies import STRATEGIES
from strategies.base import Strategy, View
from strategies.sample_pool import SampleNetwork, sample_images
from tasks.geometry import Size
from tasks.seeding import Rngs
from tasks.types import Detections, Prediction

OURS = "mtal"
SIZE = (480, 640)  # of the image that views are tried on; their shares of it come out round
MOST = 100  # detections of an image, as models decode by default
TURNS = 8  # cycles that are looked at: some strategies take turns


@dataclasses.dataclass(frozen=True)
class Crops:
    """Smaller images that are forwarded for what was found in an image."""

    most: int  # an image
    height: int
    width: int


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one image takes when its strategy scores alone."""

    passes: float  # forward passes in full images, whatever is found
    crops: tuple[Crops, ...] = ()


@dataclasses.dataclass(frozen=True)
class Listed:
    """A row of the list; where ``why`` or ``needs`` says something, what comes after them is unknown."""

    offer: Offer
    why: str = ""  # why it cannot be used, one sentence; empty = it can
    needs: tuple[str, ...] = ()  # its options that have no default
    reads: tuple[str, ...] = ()
    views: tuple[View, ...] = ()
    scores_labeled: bool = False
    costs: tuple[Cost, ...] = ()  # with default options; several where cycles differ


def list_strategies() -> list[Listed]:
    """Built-in strategies, then those of installed packages; what their modules print goes to stderr."""
    plugins = plugin_strategies()
    ours = [Offer(name, target, OURS, __version__) for name, target in STRATEGIES.items()]
    with redirect_stdout(sys.stderr):
        return [_listed(offer, why_not(offer.name, plugins)) for offer in (*ours, *plugins)]


def _listed(offer: Offer, why: str) -> Listed:
    if not why:
        try:
            return _looked_at(offer)
        except ConfigError as error:
            why = " ".join(str(error).split())
    return Listed(offer, why)


def _looked_at(offer: Offer) -> Listed:
    """ConfigError for what is no strategy, or cannot be imported or made."""
    where = f"the strategy {offer.name!r} of {offer.package} {offer.version}".rstrip()
    factory = resolve("strategy", offer.target, where)
    if isinstance(factory, type) and not issubclass(factory, Strategy):
        raise ConfigError(f"{where}: {offer.target} is no subclass of strategies.base.Strategy; derive it")
    if needs := _needs(factory):
        return Listed(offer, needs=needs)
    strategy = make("strategy", Component(offer.target), where)
    if not isinstance(strategy, Strategy):
        raise ConfigError(
            f"{where}: {offer.target} makes a {type(strategy).__name__}; expected a subclass of "
            "strategies.base.Strategy: derive it"
        )
    try:
        return _described(offer, strategy)
    except (Exception, SystemExit) as error:  # a strategy that somebody brings may raise anything
        raise ConfigError(
            f"{where}: asking what it looks at failed with {type(error).__name__}: {error}; mend it until "
            f"'mtal check {offer.name}' holds"
        ) from error


def _needs(factory: Any) -> tuple[str, ...]:
    """The options of a class or function that have no default."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # of something written in C
        return ()
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(p.name for p in parameters if p.default is p.empty and p.kind not in free)


def _described(offer: Offer, strategy: Strategy) -> Listed:
    turns: list[Strategy] = []
    for turn in map(strategy.at, range(TURNS)):
        if turn not in turns:
            turns.append(turn)
    reads = tuple(dict.fromkeys(head for turn in turns for head in _names(turn.reads)))
    views = tuple(dict.fromkeys(view for turn in turns for view in turn.views))
    scores_labeled = any(turn.scores_labeled for turn in turns)
    costs = tuple(dict.fromkeys(cost_of(turn) for turn in turns))
    return Listed(offer, "", (), reads, views, scores_labeled, costs)


def _names(reads: Any) -> tuple[str, ...]:
    if not isinstance(reads, tuple) or not all(isinstance(head, str) for head in reads):
        raise TypeError(f"reads is {reads!r}; expected a tuple of texts")
    return reads


def cost_of(strategy: Strategy, size: Size = SIZE) -> Cost:
    """What an image of H, W takes: every view is rendered, once with nothing detected and once full of objects."""
    passes = 1.0 if strategy.reads else 0.0
    crops = []
    for view in dict.fromkeys(strategy.views):
        count, height, width = _rendered(view, size, _nothing(size) if view.after else None)
        most = _rendered(view, size, _crowd(size)) if view.after else (count, height, width)
        passes += count * height * width / (size[0] * size[1])
        if most[0] > count:
            crops.append(Crops(most[0] - count, *most[1:]))
    return Cost(round(passes, 9), tuple(crops))


def _rendered(view: View, size: Size, plain: Sequence[Prediction] | None) -> tuple[int, int, int]:
    """How many images a view makes of one, and their height and width."""
    with torch.inference_mode():
        shown = view.render(sample_images(1, *size), {}, plain, Rngs(("listing",), [0]), torch.full((3,), 0.5))
    count, _, height, width = shown.images.shape
    return count, height, width


@cache
def _nothing(size: Size) -> list[Prediction]:
    return SampleNetwork(min_score=2.0).predict(sample_images(1, *size))


@cache
def _crowd(size: Size) -> list[Prediction]:
    [plain] = SampleNetwork(min_score=0.0).predict(sample_images(1, *size))
    found = plain.detections
    found = found.keep(torch.arange(MOST) % len(found.scores))  # small images hold fewer cells
    sure = dataclasses.replace(found, scores=torch.ones_like(found.scores), probs=torch.ones_like(found.probs))
    boxes = [head for head, output in plain.outputs.items() if isinstance(output, Detections)]
    return [dataclasses.replace(plain, outputs={**plain.outputs, **dict.fromkeys(boxes, sure)})]


# ---- as people and machines read it ----------------------------------------------------------------------------------


def strategies_table(rows: Iterable[Listed]) -> Table:
    """One row a strategy that can be used."""
    table = Table(
        caption="passes: full-size forward passes an image with default options; strategies that score together share "
        "those that they have in common",
        caption_justify="left",
    )
    for head in ("strategy", "source", "version", "reads", "views", "passes"):
        table.add_column(head, overflow="fold")
    for row in rows:
        if not row.why:
            source = "built in" if row.offer.package == OURS else row.offer.package
            cells = (row.offer.name, source, row.offer.version, *_looks(row))
            table.add_row(*(escape(cell) for cell in cells))
    return table


def _looks(row: Listed) -> tuple[str, str, str]:
    if row.needs:
        return "?", "?", f"it needs {', '.join(row.needs)}"
    counts = Counter(type(view).__name__ for view in row.views)
    views = ", ".join(name if n == 1 else f"{n} x {name}" for name, n in counts.items())
    costs = " or ".join(dict.fromkeys(map(_cost_text, row.costs)))
    return ", ".join(row.reads) or "nothing", views or "none", costs


def _cost_text(cost: Cost) -> str:
    crops = [f" + up to {c.most} crops of {c.height} x {c.width}" for c in cost.crops]
    return f"{cost.passes:g}{''.join(crops)}"


def skipped(rows: Iterable[Listed]) -> list[str]:
    """A sentence for each thing that keeps strategies out of the table."""
    return list(dict.fromkeys(row.why for row in rows if row.why))


def strategies_json(rows: Iterable[Listed]) -> str:
    """The whole list, broken rows too, as one JSON array."""
    return json.dumps([_plain(row) for row in rows], indent=2, ensure_ascii=False)


def _plain(row: Listed) -> dict[str, Any]:
    return {
        **dataclasses.asdict(row.offer),
        "built_in": row.offer.package == OURS,
        "usable": not row.why,
        "why_not": row.why,
        "needs": row.needs,
        "reads": row.reads,
        "views": [repr(view) for view in row.views],
        "scores_labeled": row.scores_labeled,
        "costs": [dataclasses.asdict(cost) for cost in row.costs],
    }
