"""The pages of studies: their templates, and numbers as people read them. No torch."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from rich.box import SIMPLE_HEAD
from rich.table import Table

from orchestrator.tables import number


@cache
def template(name: str) -> Template:
    """The template of a page; it escapes every name that comes from outside."""
    loader = FileSystemLoader(Path(__file__).parents[1] / "templates")
    options: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return Environment(loader=loader, autoescape=True, **options).get_template(name)


def plain_table(title: str, caption: str = "", *columns: str) -> Table:
    """An empty table for the terminal; the first column is text."""
    table = Table(
        title=title, title_justify="left", caption=caption or None, caption_justify="left", box=SIMPLE_HEAD,
        padding=(0, 1), pad_edge=False, show_edge=False,
    )  # fmt: skip
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    return table


def percent(share: float) -> str:
    """``+4.2 %`` of .042; a dash where it is not known."""
    text = number(share, "mdsq", signed=True)
    return f"{text} %" if share == share else text
