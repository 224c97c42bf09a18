"""What the verbs print, and paths as they are typed."""

import sys
from typing import Any

from rich.console import Console

from orchestrator.components import attribute
from orchestrator.errors import ConfigError

WIDE = None if sys.stdout.isatty() else 120  # a log file has room for the tables
out = Console(width=WIDE)
err = Console(stderr=True, width=WIDE)


def tell(text: str) -> None:
    """Print an error as one line on stderr; its indented lines are details, and go to stdout before it."""
    lines = text.splitlines()
    for detail in (line for line in lines if line.startswith("  ")):
        say(detail)
    sentence = " ".join(line.strip() for line in lines if line.strip() and not line.startswith("  "))
    err.print(f"error: {sentence}", style="red", highlight=False, soft_wrap=True, markup=False)


def say(text: str) -> None:
    """Print a line as it is: no wrapping, and brackets of a path are no markup."""
    out.print(text, soft_wrap=True, highlight=False, markup=False)


def place_of(uri: str) -> Any:
    """The path of what was typed: local, or s3://bucket/path. ConfigError for other kinds."""
    try:
        return attribute("tasks.data.files:place")(uri)
    except ValueError as error:
        raise ConfigError(str(error)) from error
