"""The verbs for labels: look at them, and take them out in a form that others read."""

from enum import StrEnum
from importlib import import_module
from typing import Annotated, Any

import typer

from orchestrator.components import attribute
from orchestrator.config import find, load
from orchestrator.errors import ConfigError
from orchestrator.options import Sets, own_modules
from orchestrator.terminal import out, place_of, say

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
    finished: Annotated[
        bool,
        typer.Option("--finished", help="For label-studio: labels as annotations, as a project is exported."),
    ] = False,
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
            count, config = exporting.export_tasks(source, out_file, wanted, display.update, prefix, finished)
            told = f"tasks: {out_file}: {count}; labelling configuration: {config}"
    say(told)


@app.command()
def show(
    source: Annotated[
        str,
        typer.Argument(
            help="A configuration whose data are prepared, a prepared folder or its manifest, a run folder, or a JSON "
            "file of COCO or Label Studio."
        ),
    ],
    set_: Sets = None,
    split: Annotated[list[str] | None, typer.Option(help="Only this split; default: all. Repeatable.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many images: a sample, spread over the classes.")] = 24,
    draw: Annotated[int, typer.Option(help="Another number, another sample.")] = 0,
    ids: Annotated[str, typer.Option(help="These images and no sample: a.jpg,b.jpg")] = "",
    task: Annotated[
        list[str] | None,
        typer.Option(help="Only these labels: detection, instances, keypoints, segmentation, depth. Repeatable."),
    ] = None,
    out_file: Annotated[
        str, typer.Option("--out", help="FILE.html, or a new folder for a PNG an image; also s3://.")
    ] = "labels.html",
    images: Annotated[
        str, typer.Option(help="Of a JSON file: the folder that its file names are relative to; default: its own.")
    ] = "",
    arm: Annotated[str, typer.Option(help="Of a run: only the labels that this arm has bought.")] = "",
    seed: Annotated[int, typer.Option(help="The seed of the arm.")] = 0,
    cycle: Annotated[
        int | None, typer.Option(min=0, help="Of the arm: only this purchase; 0 = the labels it began with.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="A model.pt of a run: what it predicts stands beside the labels.")
    ] = None,
) -> None:
    """Look at labels: boxes, masks, keypoints, semantic maps and depth on their images, as one HTML page.

    [bold]Example:[/bold]  mtal show demo --count 12        mtal show runs/demo --arm boxmask --cycle 1 --out picks/
    """
    if cycle is not None and not arm:
        raise ConfigError(f"--cycle {cycle}: only with --arm there are purchases; name an arm, or leave it out")
    sources, showing = import_module("orchestrator.label_sources"), import_module("orchestrator.showing")
    bought = sources.Bought(arm, seed, cycle) if arm else None
    weights = None if checkpoint is None else place_of(checkpoint)
    wish = showing.Wish(count, tuple(filter(None, ids.split(","))), draw, tuple(task or ()), weights)
    display = attribute("orchestrator.display:Display")(out)
    named = _prepared(source, set_ or [])
    with sources.opened(named, source, tuple(split or ()), bought, images) as found, display.shown(f"drawing {source}"):
        done = showing.show(found, wish, place_of(out_file), display.update)
    if done.smaller:
        say(done.smaller)
    if done.faulty:
        say(f"{done.faulty} of {done.images} images could not be drawn whole: in their places stands why")
    say(f"pictures: {out_file}: {done.images} images, {done.size / 1e6:.1f} MB")


def _prepared(source: str, changes: list[str]) -> Any:
    """The manifest of a configuration's data; or the source as it was typed, where it is no configuration."""
    is_yaml = source.endswith((".yaml", ".yml"))
    if not is_yaml and ("/" in source or place_of(source).exists() or not _is_shipped(source)):
        if changes:
            raise ConfigError(f"--set {changes[0]}: only a configuration has keys, and {source} is none: leave it out")
        return source
    experiment = load(source, changes)
    own_modules(source)
    manifest = import_module("orchestrator.running").prepared(experiment)
    if manifest is None:
        raise ConfigError(
            f"{source}: its data are not prepared; expected a manifest below {experiment.output}/data: type mtal "
            f"prepare {source} first, with the same --set"
        )
    return manifest


def _is_shipped(name: str) -> bool:
    try:
        find(name)
    except ConfigError:
        return False
    return True
