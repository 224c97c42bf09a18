"""The verbs for people who label: send them what was chosen, and fetch what they have done."""

from importlib import import_module
from typing import Annotated

import typer

from orchestrator.components import attribute
from orchestrator.terminal import out, place_of, say

app = typer.Typer()
label = typer.Typer(
    name="label",
    help="Let people label what was chosen, on a Label Studio server. Its token is in LABEL_STUDIO_API_KEY.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(label)

Source = Annotated[str, typer.Argument(help="A run folder, or a list (.parquet) that mtal score wrote.")]
Arm = Annotated[str, typer.Option(help="Of a run: which arm has chosen; default: the only one.")]
Seed = Annotated[int | None, typer.Option(help="Of a run: under which seed; default: its first.")]
Data = Annotated[str, typer.Option(help="Of a list: the pool, as it was given to mtal score.")]
Strategy = Annotated[str, typer.Option(help="Of a list: whose choice; default: the only strategy's.")]
Url = Annotated[str, typer.Option(help="Address of the server; default: LABEL_STUDIO_URL.")]
Named = Annotated[str, typer.Option(help="Number or title of the project; default: named after what has chosen.")]


@label.command()
def push(
    source: Source,
    top: Annotated[int | None, typer.Option(min=1, help="How many images; default: all that were chosen.")] = None,
    project: Named = "",
    url: Url = "",
    prefix: Annotated[
        str, typer.Option(help="Before each file's name below --root: where the server finds it. s3:// needs none.")
    ] = "",
    root: Annotated[str, typer.Option(help="The folder that names start at; default: that of the data.")] = "",
    arm: Arm = "",
    seed: Seed = None,
    cycle: Annotated[int | None, typer.Option(help="Of a run: which cycle has chosen; default: the last.")] = None,
    data: Data = "",
    strategy: Strategy = "",
    checkpoint: Annotated[
        str, typer.Option(help="The model.pt that draws boxes to start from; default: the run's; of a list: none.")
    ] = "",
    predictions: Annotated[bool, typer.Option(help="Whether a network draws boxes to start from.")] = True,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Boxes with less are not drawn.")] = 0.3,
) -> None:
    """Make tasks of the chosen images, in their order, with the reasons. The same command again adds what is missing.

    [bold]Example:[/bold]  mtal label push runs/demo --arm boxmask --root /data --prefix '/data/local-files/?d='
    """
    people, bid = import_module("orchestrator.people"), attribute("orchestrator.picks:Bid")
    display = attribute("orchestrator.display:Display")(out)
    with display.shown(f"pushing {source}"):
        done, address = people.send(
            people.Choice(source, bid(arm, seed, cycle), data, strategy), top,
            people.There(url, project, prefix, root), people.Drawn(checkpoint, min_score if predictions else None),
            display.update,
        )  # fmt: skip
    say(f"project {done.project.id} ({done.project.title}): {done}")
    say(f"to be labeled: {address}")


@label.command()
def pull(
    source: Source,
    out_file: Annotated[str, typer.Option("--out", help="The JSON file to write, also s3://.")] = "labels.json",
    project: Named = "",
    url: Url = "",
    arm: Arm = "",
    seed: Seed = None,
    data: Data = "",
    strategy: Strategy = "",
    strict: Annotated[
        bool, typer.Option(help="Refuse shapes that cannot be used; --no-strict: leave them out.")
    ] = True,
    partial: Annotated[
        bool, typer.Option("--partial", help="A run that waits goes on with what is labeled; the rest is not bought.")
    ] = False,
) -> None:
    """Write what people have labeled as a combined COCO file. Skipped and unfinished tasks stay where they are.

    [bold]Example:[/bold]  mtal label pull runs/demo --arm boxmask --out labels.json
    """
    people, bid = import_module("orchestrator.people"), attribute("orchestrator.picks:Bid")
    display = attribute("orchestrator.display:Display")(out)
    with display.shown(f"pulling {source}"):
        choice = people.Choice(source, bid(arm, seed), data, strategy)
        there = people.There(url, project)
        found, told = people.fetch(choice, there, place_of(out_file), strict, display.update, partial)
    say(f"labels: {out_file}: {found}")
    if told:
        say(told)
