"""The verbs for studies: a paper's tables and figures, of runs that are finished or of an example of its own."""

from importlib import import_module
from typing import Annotated

import typer

from orchestrator.components import attribute
from orchestrator.errors import ConfigError
from orchestrator.terminal import out, place_of, say

app = typer.Typer()
study = typer.Typer(
    name="study",
    help="A paper's tables and figures, as one page.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(study)


@study.command()
def heads(
    size: Annotated[str, typer.Option(help="Height and width of the image, px.")] = "720,1280",
    detections: Annotated[
        int, typer.Option(min=1, help="Boxes that get a mask and keypoints: they decide the time.")
    ] = 10,
    rounds: Annotated[int, typer.Option(min=1, help="Passes of each network, in turns; the median counts.")] = 20,
    threads: Annotated[int, typer.Option(min=1, help="Threads on a CPU.")] = 1,
    backbone: Annotated[str, typer.Option(help="resnet50, or small for a quick look.")] = "resnet50",
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: this CPU, and the GPU where there is one.")] = "auto",
    into: Annotated[
        str, typer.Option(help="A run folder: keep the table there, and write its report again with it.")
    ] = "",
) -> None:
    """What boxes, masks and keypoints cost here: one network with all heads beside one network for each.

    Speed, weights and memory of Faster, Mask and Keypoint R-CNN and of the multi-head network, beside the figures of
    the paper on combined annotation. The networks have random weights.

    [bold]Example:[/bold]  mtal study heads --size 288,512 --rounds 5
    """
    pages, timing = import_module("orchestrator.studies.heads"), import_module("orchestrator.timing_heads")
    asked = timing.asked(size, detections, rounds, threads, backbone)
    where, left_out = timing.devices(device)
    folder = place_of(into) if into else None
    if folder is not None:
        attribute("orchestrator.curves:Results").load(folder)  # refused now, not after minutes
    display = attribute("orchestrator.display:Display")(out)
    with display.shown("heads of an R-CNN"):
        found = [timing.measured(asked, one, display.update) for one in where]
    for costs in found:
        out.print(pages.terminal_table(costs))
        for line in pages.notes(costs):
            say(line)
    if left_out:
        say(left_out)
    if folder is not None:
        say(f"kept: {pages.keep(found, folder)}")
        say(f"report: {attribute('orchestrator.report:write_report')(folder)}")


@study.command()
def convergence(
    runs: Annotated[list[str], typer.Argument(help="Run folders, e.g. runs/pickup or s3://bucket/pickup.")],
    error: Annotated[
        str, typer.Option(help="mdsq (counts 1 - mDSQ), or a figure that falls, e.g. pickup.summed_error.")
    ] = "mdsq",
    cycle: Annotated[int, typer.Option(min=0, help="Whose training; 0 is the first.")] = 0,
    ours: Annotated[
        str, typer.Option(help="The arm that others are compared with; default: auxnet, else the first.")
    ] = "",
    page: Annotated[str, typer.Option("--out", help="The page, one HTML file.")] = "study.html",
) -> None:
    """After how many steps the runs of each arm have converged, to which error, and what of it is more than luck.

    The runs need train.validate_every, which keeps the errors while a network is trained.

    [bold]Example:[/bold]  mtal study convergence runs/pickup --error pickup.summed_error
    """
    found = attribute("orchestrator.studies.convergence_runs:study_of")([place_of(run) for run in runs], error, cycle)
    pages = import_module("orchestrator.studies.convergence_page")
    target = place_of(page)
    pages.write_study(found, ours, target)
    out.print(pages.terminal_table(found))
    say(f"page: {target}")


@study.command()
def affinity(
    runs: Annotated[list[str], typer.Argument(help="Run folders, e.g. runs/tasks or s3://bucket/tasks.")],
    page: Annotated[str, typer.Option("--out", help="The page, one HTML file.")] = "affinity.html",
) -> None:
    """Which task helps which: gains of students whose teacher is shown another task, and of the controls beside them.

    The run needs arms with teacher: {task: B, inputs: [rgb, A]}, one with inputs: [rgb] as control, and one without a
    teacher. An effect whose 95 % interval over the seeds holds 0 is called not shown.

    [bold]Example:[/bold]  mtal study affinity runs/tasks
    """
    target = place_of(page)
    read = attribute("orchestrator.studies.affinity_runs:affinity_of")
    found = [read(place_of(run)) for run in dict.fromkeys(runs)]
    pages = import_module("orchestrator.studies.affinity_page")
    pages.write_affinity(found, target)
    for one in found:
        out.print(pages.terminal_table(one))
        for said in (*pages.verdicts(one), *one.notes, *one.wanted):
            say(said)
    say(f"page: {target}")


@study.command()
def toy(
    regime: Annotated[
        str, typer.Option(help="How it is trained, which the paper does not say; the page lists all regimes.")
    ] = "tanh60-teacher4",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="How many; all are trained at once.")] = 10,
    page: Annotated[str, typer.Option("--out", help="The page, one HTML file.")] = "toy.html",
) -> None:
    """The toy example of the papers on imbalanced multi-task learning: ST, MTL and T-S, and the controls they lack.

    Two functions of one variable, small networks, about a minute. The default regime has the paper's order of methods;
    others, such as relu60, have another.

    [bold]Example:[/bold]  mtal study toy --seeds 10
    """
    target = place_of(page)
    display = attribute("orchestrator.display:Display")(out)
    with display.shown(f"toy, {regime}"):
        found = attribute("orchestrator.studies.toy:toy")(regime, range(seeds), display.update)
    pages = import_module("orchestrator.studies.toy_page")
    pages.write_toy(found, target)
    out.print(pages.terminal_table(found))
    for said in pages.finding(found):
        say(said)
    say(f"page: {target}")


@study.command("side-by-side")
def side_by_side(
    run: Annotated[str, typer.Argument(help="A run folder, e.g. runs/tasks or s3://bucket/tasks.")],
    arms: Annotated[str, typer.Option(help="Whose answers are shown, e.g. rgb,teacher.")],
    images: Annotated[int, typer.Option(min=1, help="How many images: a sample, spread over the classes.")] = 6,
    seed: Annotated[int | None, typer.Option(help="The seed of the arms; default: the first.")] = None,
    draw: Annotated[int, typer.Option(help="Another number, another sample.")] = 0,
    page: Annotated[str, typer.Option("--out", help="The page, one HTML file.")] = "side_by_side.html",
) -> None:
    """Semantic maps and depth as several arms of a run answer them for the same images, beside the truth.

    [bold]Example:[/bold]  mtal study side-by-side runs/tasks --arms plain,student
    """
    named = tuple(filter(None, arms.split(",")))
    if not named:
        raise ConfigError(f"--arms {arms}: names no arm; expected some, such as plain,student: name them")
    room, target = import_module("orchestrator.studies.side_by_side"), place_of(page)
    display = attribute("orchestrator.display:Display")(out)
    with display.shown(f"drawing {run}"):
        shown = room.side_by_side(place_of(run), room.Wish(named, images, seed, draw), target, display.update)
    say(f"pictures: {target}: {shown} images of {len(named)} arms")
