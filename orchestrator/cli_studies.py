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
