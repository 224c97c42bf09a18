"""The verbs for labels: take them out, in a form that others read."""

from enum import StrEnum
from importlib import import_module
from typing import Annotated

import typer

from orchestrator.components import attribute
from orchestrator.terminal import out, say

app = typer.Typer()


class Form(StrEnum):
    coco = "coco"
    label_studio = "label-studio"


@app.command()
def export(
    form: Annotated[
        Form,
        typer.Argument(help="coco: one file of boxes, masks and keypoints. label-studio: tasks with these labels."),
    ],
    source: Annotated[
        str, typer.Argument(help="A prepared folder or its manifest, a run folder, or a JSON file of either form.")
    ],
    out_file: Annotated[str, typer.Option("--out", help="The JSON file to write, also s3://.")] = "labels.json",
    splits: Annotated[str, typer.Option(help="Only these splits, e.g. train,val; default: all.")] = "",
    arm: Annotated[str, typer.Option(help="Of a run: only the labels that this arm has bought by now.")] = "",
    seed: Annotated[int, typer.Option(help="The seed of the arm.")] = 0,
    prefix: Annotated[
        str, typer.Option(help="For label-studio, before each file's name: where the server finds it.")
    ] = "",
) -> None:
    """Write labels as a combined COCO file, or as tasks for Label Studio with their labelling configuration.

    [bold]Example:[/bold]  mtal export coco runs/data/streets-1a2b3c4d --out labels.json
    """
    exporting = import_module("orchestrator.exporting")
    display = attribute("orchestrator.display:Display")(out)
    wanted = exporting.Wanted(tuple(filter(None, splits.split(","))), arm, seed)
    with display.shown(f"writing {out_file}"):
        if form is Form.coco:
            counts = exporting.export_coco(source, out_file, wanted, display.update)
            told = f"labels: {out_file}: {counts['images']} images, {counts['annotations']} annotations"
        else:
            count, config = exporting.export_tasks(source, out_file, wanted, display.update, prefix)
            told = f"tasks: {out_file}: {count}; labelling configuration: {config}"
    say(told)
