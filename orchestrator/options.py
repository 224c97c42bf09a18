"""What several verbs take, and how they end."""

from typing import Annotated

import typer

INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it


class JobGoesOn(SystemExit):
    """Ctrl-C where a job was only followed: the command ends, and nothing is stopped."""


Config = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped configuration such as demo.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. train.steps=100. Repeatable.")
]
Fresh = Annotated[
    list[str] | None, typer.Option(help="Make an arm again although it is there; 'all' for everything. Repeatable.")
]
