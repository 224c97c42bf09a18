"""The verbs. Each parses its words, imports its room when it is used, and prints.

Errors that the user can mend are one sentence and exit code 2.
"""

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from orchestrator import __version__
from orchestrator.components import attribute
from orchestrator.config import Cluster, find, load
from orchestrator.errors import ConfigError, MtalError
from orchestrator.ray_settings import set_environment

INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it
WIDE = None if sys.stdout.isatty() else 120  # a log file has room for the tables
out = Console(width=WIDE)
err = Console(stderr=True, width=WIDE)
app = typer.Typer(
    name="mtal",
    help="Multi-task active learning on Ray: which images to label next, for several tasks at once, and which strategy "
    "is worth its money.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
)

Config = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped configuration such as demo.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. train.steps=100. Repeatable.")
]
Address = Annotated[
    str,
    typer.Option(
        help="local (a cluster of this machine), auto (the one that runs here), ray://host:10001, or none (no Ray)."
    ),
]


class OnError(StrEnum):
    refuse = "refuse"
    skip = "skip"


@app.command()
def run(
    config: Config,
    set_: Sets = None,
    address: Address = "local",
    fresh: Annotated[
        list[str] | None, typer.Option(help="Make an arm again although it is there; 'all' for everything. Repeatable.")
    ] = None,
) -> None:
    """Run an experiment: every arm under every seed, then the report. The same command again carries on.

    [bold]Example:[/bold]  mtal run demo --set train.steps=60 --set output=/tmp/runs
    """
    _check_address(address)
    running = _import("orchestrator.running")
    display = attribute("orchestrator.display:Display")(out)
    experiment = load(config, set_ or [])
    paths = _own_modules(config)
    with display.shown(f"{experiment.name}: reading the data"):
        plan = running.planned(experiment, display.update, paths)
    with _executor(address, display) as execute:
        report, failures = running.run(plan, _titled(execute, display), fresh or [])
    results = attribute("orchestrator.curves:Results").load(report.parent)
    out.print(attribute("orchestrator.report:terminal_table")(results))
    _say(f"report: {report}")
    if failures:
        for failure in failures:
            who = f"{failure.arm or 'reference'}, seed {failure.seed}"
            _tell(failure.why if failure.why.startswith(who) else f"{who}: {failure.why}")
        raise typer.Exit(2)


@app.command()
def prepare(
    config: Config,
    set_: Sets = None,
    out_folder: Annotated[
        str | None, typer.Option("--out", help="Where the manifest goes, also s3://; default: beside the runs.")
    ] = None,
    on_error: Annotated[
        OnError, typer.Option(help="refuse: stop at bad data. skip: leave the bad images out.")
    ] = OnError.refuse,
) -> None:
    """Read a data set once, check every file of it, and write its manifest (parquet, one row an image).

    [bold]Example:[/bold]  mtal prepare camvid --set data.root=/data/camvid11 --on-error skip
    """
    running = _import("orchestrator.running")
    display = attribute("orchestrator.display:Display")(out)
    experiment = load(config, set_ or [])
    _own_modules(config)
    with display.shown(f"{experiment.name}: reading the data"):
        target = None if out_folder is None else _place(out_folder)
        folder, report = running.prepare_data(experiment, display.update, on_error.value, target)
    _say(str(report))
    _say(f"manifest: {folder / 'manifest.parquet'}")


@app.command()
def score(
    checkpoint: Annotated[Path, typer.Option(help="A model.pt of a run.")],
    data: Annotated[Path, typer.Option(help="The pool: a folder of images, or a folder that 'mtal prepare' wrote.")],
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="A strategy, as a name or as YAML: '{name: boxmask, tau: 0.4}'. Repeatable."),
    ] = None,
    out_file: Annotated[Path, typer.Option("--out", help="The parquet file to write, one row an image.")] = Path(
        "scores.parquet"
    ),
    split: Annotated[str, typer.Option(help="Which split of a prepared folder.")] = "train",
    top: Annotated[int, typer.Option(min=0, help="How many images each strategy is to choose.")] = 10,
    batch: Annotated[int, typer.Option(min=1, help="Images a forward pass.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the strategies' draws.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes, with an --address other than none.")] = 1,
    address: Address = "none",
) -> None:
    """Score one pool with several strategies in one pass: you have a model and a pool, and want the list.

    [bold]Example:[/bold]  mtal score --checkpoint model.pt --data photos/ --strategy boxmask --out list.parquet
    """
    _check_address(address)
    pool = _import("orchestrator.pool_scoring")
    display = attribute("orchestrator.display:Display")(out)
    sys.path[:0] = [str(Path.cwd())]
    with _pool_workers(address, display, data.absolute().name, workers) as make, display.shown(f"scoring {data}"):
        scored = pool.score_pool(
            checkpoint, data, strategy or ["boxmask", "equal"], out_file, make,
            top=top, split=split, batch=batch, seed=seed,
        )  # fmt: skip
    out.print(pool.top_table(scored, top))
    _say(f"scores: {out_file}")


@app.command()
def report(folder: Annotated[str, typer.Argument(help="A run folder, e.g. runs/demo or s3://bucket/demo.")]) -> None:
    """Write the report of a run folder again: report.html, curves.csv and the SVG curves.

    [bold]Example:[/bold]  mtal report runs/demo
    """
    run_folder = _place(folder)
    path = attribute("orchestrator.report:write_report")(run_folder)
    results = attribute("orchestrator.curves:Results").load(run_folder)
    out.print(attribute("orchestrator.report:terminal_table")(results))
    _say(f"report: {path}")


@app.command()
def check(
    what: Annotated[
        str, typer.Argument(help="A .yaml is a configuration; anything else is a strategy: name or module:Class.")
    ],
    set_: Sets = None,
) -> None:
    """Check a configuration against its model and data, or a strategy against the laws that all strategies keep.

    [bold]Example:[/bold]  mtal check demo.yaml        mtal check my_strategies:LeastSure
    """
    if what.endswith((".yaml", ".yml")) or _is_shipped(what):
        experiment = load(what, set_ or [])
        _own_modules(what)
        _import("orchestrator.running").check(experiment)
        _say(f"{find(what).name}: {len(experiment.arms)} arms x {len(experiment.seeds)} seeds: all is well")
        return
    sys.path[:0] = [str(Path.cwd())]
    results = attribute("orchestrator.checking:check_named_strategy")(what)
    out.print(attribute("orchestrator.checking:check_table")(what, results))
    broken = [result.name for result in results if not result.ok]
    if broken:
        raise ConfigError(
            f"{what}: {len(broken)} of {len(results)} checks fail, first {broken[0]!r}; expected all to hold: mend the "
            "strategy as the table says"
        )


@app.command()
def augment(
    source: Annotated[str, typer.Argument(help="A combined COCO file, or the folder of its annotations.json.")],
    folder: Annotated[str, typer.Argument(help="A new folder: annotations.json, the originals and their copies.")],
    copies: Annotated[int, typer.Option(help="Of each image.")] = 1,
    config: Annotated[Path | None, typer.Option(help="A YAML of what may be changed, e.g. rotate: 15.")] = None,
    set_: Sets = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Whose images are copied; others are taken over. Repeatable.")
    ] = None,
    group: Annotated[str, typer.Option(help="The field of an image that names its scene; written where none is.")] = (
        "group"
    ),
    validation: Annotated[float, typer.Option(help="Share of train that becomes val before copies are made.")] = 0.0,
    test: Annotated[float, typer.Option(help="Likewise, test.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Other seeds, other copies.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the result is the same.")] = 1,
) -> None:
    """Make changed copies of labeled images: boxes, polygons, masks, keypoints and maps move with the pixels.

    [bold]Example:[/bold]  mtal augment site/ site-more/ --copies 20 --set rotate=15 --set 'scale=[0.8, 1.2]'
    """
    augmenting = _import("orchestrator.augmenting")
    order = augmenting.Order(
        augmenting.recipe_of(config, set_ or []), copies, seed, tuple(split or ["train"]), group, validation, test
    )
    display = attribute("orchestrator.display:Display")(out)
    target = _place(folder)
    with display.shown(f"{source}: {copies} copies of each image"):
        counts = augmenting.augment(_place(source), target, order, display.update, workers)
    _say("all was there already" if counts is None else str(counts))
    _say(f"annotations: {target / augmenting.NAME}")


@app.command()
def strategies(
    json: Annotated[bool, typer.Option("--json", help="For machines: one JSON array, broken ones too.")] = False,
) -> None:
    """List every strategy that has a name, built in or from an installed package, and what it costs an image.

    [bold]Example:[/bold]  mtal strategies
    """
    sys.path[:0] = [str(Path.cwd())]
    listing = _import("orchestrator.listing")
    rows = listing.list_strategies()
    if json:
        typer.echo(listing.strategies_json(rows))
        return
    out.print(listing.strategies_table(rows))
    for why in listing.skipped(rows):
        _say(f"skipped: {why}")


@app.command("new-strategy")
def new_strategy(
    name: Annotated[str, typer.Argument(help="What a YAML will call it, e.g. least-sure; also the folder's name.")],
) -> None:
    """Write a package with a strategy of your own: a small example that works, its tests, and how to install it.

    [bold]Example:[/bold]  mtal new-strategy least-sure
    """
    for path in attribute("orchestrator.new_strategy:new_strategy")(name, Path()):
        _say(str(path))
    _say(f"next: install it (pip install --no-deps -e ./{name}), then type mtal check {name}")


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if show:
        out.print(__version__, highlight=False)
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line; what the user can mend becomes one sentence and exit code 2."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        app(args=arguments, prog_name="mtal", standalone_mode=True)
    except MtalError as error:
        _tell(str(error))
        raise SystemExit(2) from None
    except OSError as error:  # of a disk or a folder, wherever it was met
        if error.errno is None:
            raise
        _tell(
            f"{error.filename or 'a file'}: {error.strerror}; mend that or make room, then type the same command again"
        )
        raise SystemExit(2) from None
    except SystemExit as end:
        if end.code == INTERRUPTED:
            err.print("stopped; the same command carries on where this one was", highlight=False)
        raise


def _tell(text: str) -> None:
    """Print an error as one line on stderr; its indented lines are details, and go to stdout before it."""
    lines = text.splitlines()
    for detail in (line for line in lines if line.startswith("  ")):
        _say(detail)
    sentence = " ".join(line.strip() for line in lines if line.strip() and not line.startswith("  "))
    err.print(f"error: {sentence}", style="red", highlight=False, soft_wrap=True, markup=False)


def _say(text: str) -> None:
    """Print a line as it is: no wrapping, and brackets of a path are no markup."""
    out.print(text, soft_wrap=True, highlight=False, markup=False)


def _place(uri: str) -> Any:
    """The path of what was typed: local, or s3://bucket/path. ConfigError for other kinds."""
    try:
        return attribute("tasks.data.files:place")(uri)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _import(module: str) -> Any:
    return importlib.import_module(module)


def _is_shipped(name: str) -> bool:
    try:
        find(name)
    except MtalError:
        return False
    return True


def _own_modules(config: str) -> tuple[str, ...]:
    """Folders of the user's modules: where the command was typed, and where the YAML lies."""
    paths = tuple(dict.fromkeys([str(Path.cwd()), str(find(config).parent.absolute())]))
    sys.path[:0] = [p for p in paths if p not in sys.path]
    return paths


@contextmanager
def _executor(address: str, display: Any) -> Iterator[Any]:
    """What carries out units: this process, or trials on a cluster, which is started when there is something to do."""
    with ExitStack() as stack:

        def execute(plan: Any, units: Sequence[Any]) -> Any:
            if address == "none":
                return _import("orchestrator.here").run_units(plan, units, display)
            set_environment(address)
            tuning = _import("orchestrator.tuning")
            if not started:
                started.append(stack.enter_context(tuning.cluster(address)))
            return tuning.run_units(plan, units, display)

        started: list[None] = []
        yield execute


@contextmanager
def _pool_workers(address: str, display: Any, name: str, count: int) -> Iterator[Any]:
    """What makes workers for one pool: this process, or actors on a cluster."""
    if address == "none":
        here = _import("orchestrator.here")
        yield lambda setup: here.pool_workers(setup, display, name)
        return
    set_environment(address)
    tuning = _import("orchestrator.tuning")
    needs = Cluster(workers_per_trial=count)
    with tuning.cluster(address):
        yield lambda setup: tuning.pool_workers(setup, display, name, needs)


def _check_address(address: str) -> None:
    if address not in ("none", "local", "auto") and ":" not in address:
        raise ConfigError(f"--address {address}: expected local, auto, none, host:port or ray://host:port; choose one")


def _titled(execute: Any, display: Any) -> Any:
    """The executor, with a line and bars for each stage."""
    titles = {"reference": "the fully trained reference", "initial": "cycle 0, shared by the arms", "arm": "the arms"}

    def run_titled(plan: Any, units: Sequence[Any]) -> Any:
        if not units:
            return []
        kinds = " and ".join(title for kind, title in titles.items() if any(unit.kind == kind for unit in units))
        with display.shown(f"{kinds}: {len(units)} to do"):
            return execute(plan, units)

    return run_titled
