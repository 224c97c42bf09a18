"""What the tables of studies share, and numbers as people read them. No torch."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from orchestrator.tables import number


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
