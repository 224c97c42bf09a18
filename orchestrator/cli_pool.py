"""The verbs for one pool: score it, and measure how fast that is."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.components import attribute
from orchestrator.config import load
from orchestrator.execution import pool_workers
from orchestrator.options import Address, Config, Sets, check_address, own_modules
from orchestrator.ray_settings import set_environment
from orchestrator.terminal import out, place_of, say

app = typer.Typer()


@app.command()
def score(
    checkpoint: Annotated[str, typer.Option(help="A model.pt of a run; also s3://, as the two paths below.")],
    data: Annotated[str, typer.Option(help="The pool: a folder of images, or a folder that 'mtal prepare' wrote.")],
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="A strategy, as a name or as YAML: '{name: boxmask, tau: 0.4}'. Repeatable."),
    ] = None,
    out_file: Annotated[
        str, typer.Option("--out", help="The parquet file to write, one row an image.")
    ] = "scores.parquet",
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
    check_address(address)
    pool = import_module("orchestrator.pool_scoring")
    display = attribute("orchestrator.display:Display")(out)
    sys.path[:0] = [str(Path.cwd())]
    folder, target = place_of(data), place_of(out_file)
    with pool_workers(address, display, folder.absolute().name, workers) as make, display.shown(f"scoring {data}"):
        scored = pool.score_pool(
            place_of(checkpoint), folder, strategy or ["boxmask", "equal"], target, make,
            top=top, split=split, batch=batch, seed=seed,
        )  # fmt: skip
    out.print(pool.top_table(scored, top))
    say(f"scores: {out_file}")


@app.command()
def bench(
    config: Config,
    set_: Sets = None,
    address: Address = "local",
    checkpoint: Annotated[str | None, typer.Option(help="A model.pt of a run; default: fresh weights.")] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="A strategy, as a name or as YAML; default: the first arm's that looks at images."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="How many images of the pool a run scores.")] = 256,
    workers: Annotated[str, typer.Option(help="Numbers of workers, e.g. 1,2,4; default: up to all that fit.")] = "",
    shards: Annotated[str, typer.Option(help="Sizes of shards, e.g. 64,512; default: one batch and four.")] = "",
    runs: Annotated[int, typer.Option(min=1, help="Runs of each combination, in turns; the median counts.")] = 3,
    steps: Annotated[int, typer.Option(min=0, help="Training steps to time in each run; 0 = none.")] = 5,
    stub_ms: Annotated[
        float | None, typer.Option(min=0, help="A stub in place of the network: ms of CPU an image and pass.")
    ] = None,
    out_folder: Annotated[
        str | None,
        typer.Option("--out", help="Gets bench.csv and a plot; all nodes must see it. Default: OUTPUT/bench."),
    ] = None,
) -> None:
    """Measure how fast this machine or cluster is: images and training steps a second, and where the time goes.

    [bold]Example:[/bold]  mtal bench demo --workers 1,2
    """
    check_address(address)
    if address != "none":
        set_environment(address)
    room, found = import_module("orchestrator.bench"), import_module("orchestrator.throughput")
    display = attribute("orchestrator.display:Display")(out)
    asked = room.Asked(
        images, room.numbers("--workers", workers), room.numbers("--shards", shards), runs, steps,
        tuple(strategy or ()), checkpoint, stub_ms,
    )  # fmt: skip
    experiment = load(config, set_ or [])
    paths = own_modules(config)
    folder = place_of(f"{experiment.output}/bench" if out_folder is None else out_folder).absolute()
    with display.shown(f"{experiment.name}: measuring"):
        plan = import_module("orchestrator.running").planned(experiment, display.update, paths)
        done = room.bench(plan, asked, address, folder, display)
    rows, plot = found.save(done, folder)
    out.print(found.table(done))
    for line in (*found.notes(done), f"rows: {rows}", f"plot: {plot}"):
        say(line)
