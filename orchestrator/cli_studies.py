"""The verbs for studies: what a paper's tables and figures say of runs that are finished."""

from importlib import import_module
from typing import Annotated

import typer

from orchestrator.components import attribute
from orchestrator.terminal import out, place_of, say

app = typer.Typer()
study = typer.Typer(
    name="study",
    help="A paper's tables and figures of finished runs, as one page.",
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
