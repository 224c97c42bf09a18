"""The verb for copies of labeled images."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.components import attribute
from orchestrator.options import Sets
from orchestrator.terminal import out, place_of, say

app = typer.Typer()


@app.command()
def augment(
    source: Annotated[str, typer.Argument(help="A combined COCO file, or the folder of its annotations.json.")],
    folder: Annotated[str, typer.Argument(help="A new folder: annotations.json, the originals and their copies.")],
    root: Annotated[str | None, typer.Option(help="What paths are relative to; default: the folder of SOURCE.")] = None,
    images: Annotated[str, typer.Option(help="The folder below it that file_name is relative to.")] = "",
    semantic: Annotated[str, typer.Option(help="The folder below it of semantic maps named as the images.")] = "",
    copies: Annotated[int, typer.Option(help="Of each image.")] = 1,
    config: Annotated[Path | None, typer.Option(help="A YAML of what may be changed, e.g. rotate: 15.")] = None,
    set_: Sets = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Whose images are copied; others are taken over. Repeatable.")
    ] = None,
    group: Annotated[
        str, typer.Option(help="The field of an image that names its scene; written where none is.")
    ] = "group",
    validation: Annotated[float, typer.Option(help="Share of train that becomes val before copies are made.")] = 0.0,
    test: Annotated[float, typer.Option(help="Likewise, test.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Other seeds, other copies.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the result is the same.")] = 1,
) -> None:
    """Make changed copies of labeled images: boxes, polygons, masks, keypoints and maps move with the pixels.

    [bold]Example:[/bold]  mtal augment site/ more/ --copies 20 --set rotate=15 --set 'scale=[0.8, 1.2]'
    """
    augmenting = import_module("orchestrator.augmenting")
    recipe = augmenting.recipe_of(config, set_ or [])
    splits = tuple(split or ["train"])
    order = augmenting.Order(recipe, copies, seed, splits, group, validation, test, images, semantic)
    display = attribute("orchestrator.display:Display")(out)
    target = place_of(folder)
    with display.shown(f"{source}: {copies} copies of each image"):
        base = None if root is None else place_of(root)
        counts = augmenting.augment(place_of(source), target, order, display.update, workers, base)
    say("all was there already" if counts is None else str(counts))
    say(f"annotations: {target / augmenting.NAME}")
