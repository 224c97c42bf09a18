"""What several verbs take, and how they end."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.config import find
from orchestrator.errors import ConfigError

INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it
WAITS = 3  # exit code of a run that waits for people's labels


class JobGoesOn(SystemExit):
    """Ctrl-C where a job was only followed: the command ends, and nothing is stopped."""


Config = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped configuration such as demo.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. train.steps=100. Repeatable.")
]
Fresh = Annotated[
    list[str] | None, typer.Option(help="Make an arm again although it is there; 'all' for everything. Repeatable.")
]
Address = Annotated[
    str,
    typer.Option(
        help="local (a cluster of this machine), auto (the one that runs here), ray://host:10001, or none (no Ray)."
    ),
]


def own_modules(config: str) -> tuple[str, ...]:
    """Folders of the user's modules: where the command was typed, and where the YAML lies."""
    paths = tuple(dict.fromkeys([str(Path.cwd()), str(find(config).parent.absolute())]))
    sys.path[:0] = [p for p in paths if p not in sys.path]
    return paths


def check_address(address: str) -> None:
    if address not in ("none", "local", "auto") and ":" not in address:
        raise ConfigError(f"--address {address}: expected local, auto, none, host:port or ray://host:port; choose one")
