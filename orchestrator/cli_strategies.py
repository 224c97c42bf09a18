"""The verbs for strategies: list them, and begin one of your own."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.components import attribute
from orchestrator.terminal import out, say

app = typer.Typer()


@app.command()
def strategies(
    json: Annotated[bool, typer.Option("--json", help="For machines: one JSON array, broken ones too.")] = False,
) -> None:
    """List every strategy that has a name, built in or from an installed package, and what it costs an image.

    [bold]Example:[/bold]  mtal strategies
    """
    sys.path[:0] = [str(Path.cwd())]
    listing = import_module("orchestrator.listing")
    rows = listing.list_strategies()
    if json:
        typer.echo(listing.strategies_json(rows))
        return
    out.print(listing.strategies_table(rows))
    for why in listing.skipped(rows):
        say(f"skipped: {why}")


@app.command("new-strategy")
def new_strategy(
    name: Annotated[str, typer.Argument(help="What a YAML will call it, e.g. least-sure; also the folder's name.")],
) -> None:
    """Write a package with a strategy of your own: a small example that works, its tests, and how to install it.

    [bold]Example:[/bold]  mtal new-strategy least-sure
    """
    for path in attribute("orchestrator.new_strategy:new_strategy")(name, Path()):
        say(str(path))
    say(f"next: install it (pip install --no-deps -e ./{name}), then type mtal check {name}")
