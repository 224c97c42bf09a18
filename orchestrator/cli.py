"""The verbs. Each parses its words, imports its room when it is used, and prints.

Errors that the user can mend are one sentence and exit code 2.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator import (
    __version__,
    cli_augment,
    cli_jobs,
    cli_labels,
    cli_people,
    cli_place,
    cli_pool,
    cli_strategies,
    cli_studies,
)
from orchestrator.components import attribute
from orchestrator.config import find, load
from orchestrator.errors import ConfigError, MtalError, disk_sentence
from orchestrator.execution import executor, file_lookers, nodes_of, titled
from orchestrator.options import (
    INTERRUPTED,
    WAITS,
    Address,
    Config,
    Fresh,
    JobGoesOn,
    Sets,
    check_address,
    own_modules,
)
from orchestrator.terminal import err, out, place_of, say, tell

app = typer.Typer(
    name="mtal",
    help="Multi-task active learning on Ray: which images to label next, for several tasks at once, and which strategy "
    "is worth its money.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
)
for verbs in (cli_pool, cli_labels, cli_people, cli_augment, cli_place, cli_studies, cli_strategies, cli_jobs):
    app.add_typer(verbs.app)


class OnError(StrEnum):
    refuse = "refuse"
    skip = "skip"


class Look(StrEnum):
    pixels = "pixels"
    headers = "headers"
    list = "list"


@app.command()
def run(
    config: Config,
    set_: Sets = None,
    address: Address = "local",
    fresh: Fresh = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would do and cost, and do nothing: no file is written.")
    ] = False,
    images: Annotated[
        list[str] | None,
        typer.Option(help="Dry run of data that are not here: 13187 (the pool), val=3249, test=... Repeatable."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Dry run: time a few steps and passes of the network on this machine.")
    ] = False,
    step_seconds: Annotated[
        float | None, typer.Option(min=0, help="Dry run: seconds of a training step, measured elsewhere.")
    ] = None,
    image_seconds: Annotated[
        float | None, typer.Option(min=0, help="Dry run: seconds of a forward pass of one image, measured elsewhere.")
    ] = None,
) -> None:
    """Run an experiment: every arm under every seed, then the report. The same command again carries on.

    [bold]Example:[/bold]  mtal run demo --set train.steps=60 --set output=/tmp/runs

    [bold]Before it costs something:[/bold]  mtal run nuimages --dry-run --images 13187 --images val=3249
    """
    check_address(address)
    running = import_module("orchestrator.running")
    display = attribute("orchestrator.display:Display")(out)
    experiment = load(config, set_ or [])
    paths = own_modules(config)
    if dry_run:
        foresee = attribute("orchestrator.foresight:foresee")
        seconds = (step_seconds, image_seconds)
        for part in foresee(experiment, address, nodes_of(address), images or [], measure, *seconds, display):
            out.print(part)
        return
    _refuse_unused(
        {"--images": images, "--measure": measure, "--step-seconds": step_seconds, "--image-seconds": image_seconds}
    )
    with display.shown(f"{experiment.name}: reading the data"):
        plan = running.planned(experiment, display.update, paths)
    with executor(address, display) as execute:
        report, failures = running.run(plan, titled(execute, display), fresh or [])
    results = attribute("orchestrator.curves:Results").load(report.parent)
    out.print(attribute("orchestrator.report:terminal_table")(results))
    say(f"report: {report}")
    waits = attribute("orchestrator.trials:waits")(plan)
    for sentence in waits:
        say(sentence)
    if failures:
        for failure in failures:
            who = f"{failure.arm or 'reference'}, seed {failure.seed}"
            tell(failure.why if failure.why.startswith(who) else f"{who}: {failure.why}")
        raise typer.Exit(2)
    if waits:
        raise typer.Exit(WAITS)


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
    look: Annotated[
        Look,
        typer.Option(
            help="pixels: decode every image. headers: is it there, an image, of its size? list: believe the labels."
        ),
    ] = Look.pixels,
    address: Address = "none",
) -> None:
    """Read a data set once, check every file of it, and write its manifest (parquet, one row an image).

    [bold]Example:[/bold]  mtal prepare camvid --set data.root=/data/camvid11 --on-error skip
    """
    check_address(address)
    if look is Look.list and address != "none":
        raise ConfigError(f"--address {address}: --look list opens no file; leave one of them out")
    running = import_module("orchestrator.running")
    display = attribute("orchestrator.display:Display")(out)
    experiment = load(config, set_ or [])
    own_modules(config)
    target = None if out_folder is None else place_of(out_folder)
    with file_lookers(address) as elsewhere, display.shown(f"{experiment.name}: reading the data"):
        folder, report = running.prepare_data(experiment, display.update, on_error.value, target, look.value, elsewhere)
    say(str(report))
    say(f"manifest: {folder / 'manifest.parquet'}")


@app.command()
def report(folder: Annotated[str, typer.Argument(help="A run folder, e.g. runs/demo or s3://bucket/demo.")]) -> None:
    """Write the report of a run folder again: report.html, curves.csv and the SVG curves.

    [bold]Example:[/bold]  mtal report runs/demo
    """
    run_folder = place_of(folder)
    path = attribute("orchestrator.report:write_report")(run_folder)
    results = attribute("orchestrator.curves:Results").load(run_folder)
    out.print(attribute("orchestrator.report:terminal_table")(results))
    say(f"report: {path}")


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
        own_modules(what)
        running = import_module("orchestrator.running")
        running.check(experiment)
        absent = running.absent_data(experiment.data)
        well = "all its parts are well, but its data are not here" if absent else "all is well"
        say(f"{find(what).name}: {len(experiment.arms)} arms x {len(experiment.seeds)} seeds: {well}")
        if absent:
            say(absent)
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
        tell(str(error))
        raise SystemExit(2) from None
    except OSError as error:  # of a disk or a folder, wherever it was met
        if error.errno is None:
            raise
        told, again = disk_sentence(error), "type the same command again"
        tell(told if again in told else f"{told}, then {again}")
        raise SystemExit(2) from None
    except SystemExit as end:
        if end.code == INTERRUPTED and not isinstance(end, JobGoesOn):
            err.print("stopped; the same command carries on where this one was", highlight=False)
        raise


def _is_shipped(name: str) -> bool:
    try:
        find(name)
    except MtalError:
        return False
    return True


def _refuse_unused(options: Mapping[str, Any]) -> None:
    for word, value in options.items():
        if value:
            raise ConfigError(f"{word}: only a dry run looks at it; add --dry-run, or leave it out")
