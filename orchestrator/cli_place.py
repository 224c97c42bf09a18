"""The verbs for parts that a robot would take: place them, and the whole way from labels to that."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.components import attribute
from orchestrator.errors import ConfigError
from orchestrator.execution import executor, titled
from orchestrator.options import Address, Sets, check_address, own_modules
from orchestrator.terminal import out, place_of, say

app = typer.Typer()


@app.command()
def place(
    checkpoint: Annotated[str, typer.Argument(help="A model.pt of a run with boxes, masks and keypoints.")],
    data: Annotated[str, typer.Option(help="A folder of images, or a folder that 'mtal prepare' wrote.")],
    out_folder: Annotated[
        str, typer.Option("--out", help="A new folder: the page, the table, the pictures.")
    ] = "placed",
    split: Annotated[str, typer.Option(help="Of a prepared folder; default: test where there is one, else all.")] = "",
    reference: Annotated[
        float, typer.Option(help="Where outer sides should point: degrees from right (0) to down (90); -90 is up.")
    ] = -90.0,
    score: Annotated[float, typer.Option(help="Detections count from this score on.")] = 0.5,
    depth: Annotated[
        str | None,
        typer.Option(help="A folder of depth maps named as the images, .npy or .png; default: those of the data."),
    ] = None,
    per_metre: Annotated[float, typer.Option(help="Values of a depth PNG for a metre.")] = 1000.0,
    erosion: Annotated[int, typer.Option(help="Pixels that a mask loses at its rim before depth is read.")] = 0,
    pictures: Annotated[int, typer.Option(min=0, help="How many images are drawn, those with an error first.")] = 24,
) -> None:
    """Say how parts lie: axis, outer side, whether they lie right, and their depth, off masks and three keypoints.

    [bold]Example:[/bold]  mtal place model.pt --data runs/data/engine_parts-1a2b3c4d --reference -90 --out placed/
    """
    placing, page = import_module("orchestrator.placing"), import_module("orchestrator.placement_page")
    display = attribute("orchestrator.display:Display")(out)
    maps = None if depth is None else place_of(depth)
    rules = placing.Rules(reference, score, erosion, maps, per_metre)
    where = page.Where(place_of(checkpoint), place_of(data), split, pictures)
    target = place_of(out_folder)
    with display.shown(f"placing the parts of {data}"):
        found = page.place_parts(where, rules, target, display.update)
    for sentence in page.sentences(found):
        say(sentence)
    say(f"page: {target / page.PAGE}")


@app.command()
def parts(
    source: Annotated[
        str, typer.Argument(help="The JSON export of a Label Studio project, or engine_parts: scenes that are drawn.")
    ],
    out_folder: Annotated[str, typer.Option("--out", help="Gets everything; the same command again goes on there.")],
    config: Annotated[str, typer.Option(help="The experiment: its tasks, its network, its training.")] = "engine_parts",
    set_: Sets = None,
    copies: Annotated[int, typer.Option(min=1, help="Changed copies of each training image.")] = 2,
    recipe: Annotated[Path | None, typer.Option(help="A YAML of what copies may change; see mtal augment.")] = None,
    validation: Annotated[
        float | None, typer.Option(help="Share for validation; default: 0.1 where the labels name no splits.")
    ] = None,
    test: Annotated[float | None, typer.Option(help="Likewise for test; default: 0.2.")] = None,
    seed: Annotated[int, typer.Option(help="Other seeds, other copies.")] = 0,
    reference: Annotated[
        float | None, typer.Option(help="Where outer sides should point, in degrees; default: up (-90).")
    ] = None,
    score: Annotated[float, typer.Option(help="Detections count from this score on.")] = 0.5,
    workers: Annotated[int, typer.Option(min=1, help="Processes that make copies.")] = 1,
    address: Address = "local",
) -> None:
    """From labels to placement: combined COCO file, copies, training, placement on test images, one page.

    [bold]Example:[/bold]  mtal parts export.json --out engine/        mtal parts engine_parts --out try/ --address none
    """
    check_address(address)
    room, augmenting = import_module("orchestrator.part_chain"), import_module("orchestrator.augmenting")
    display = attribute("orchestrator.display:Display")(out)
    mixed = room.MIXED if recipe is None else augmenting.recipe_of(recipe, ())
    chain = room.Chain(
        source, config, tuple(set_ or ()), mixed, copies, validation, test, seed, reference, score
    )  # fmt: skip
    own_modules(config)
    target = place_of(out_folder)
    if not isinstance(target, Path):
        raise ConfigError(f"--out {out_folder}: is object storage; expected a folder on a disk: give one")
    with executor(address, display) as execute:
        page = room.carry_out(chain, target, display.update, display.shown, titled(execute, display), workers)
    for sentence in room.result(target):
        say(sentence)
    say(f"page: {page}")
