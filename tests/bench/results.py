"""Writes what a benchmark measured into RESULTS.md, beside the machine, the commit and the command that made it."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
HEAD = """# Measured

Each row was appended by the command in it (`make bench`). Load is the one-minute load average when the command started;
figures of a busy machine are worse than the product is.

| date | machine | load | commit | command | figure |
|---|---|---|---|---|---|
"""
SECTION = "\n## "  # sections follow the table of rows


def record(figure: str) -> None:
    """Print a figure and append it as a row."""
    _write(with_row(_text(), f"| {today()} | {machine()} | {LOAD:.1f} | {commit()} | `{command()}` | {figure} |\n"))
    print(figure)


def record_section(title: str, body: str) -> None:
    """Print a body and make it the section of that title, with a line that says what made it."""
    made = f"{machine()}; commit {commit()}; {today()}; `{command()}`"
    _write(with_section(_text(), title, f"{body.strip()}\n\n{made}\n"))
    print(f"{body.strip()}\n\n{made}")


def with_row(text: str, row: str) -> str:
    """The text with one row more at the end of its first table, before all sections."""
    table, mark, sections = text.partition(SECTION)
    return table.rstrip("\n") + "\n" + row + mark + sections


def with_section(text: str, title: str, body: str) -> str:
    """The text with a section in place of the one of that title, or at the end where there is none."""
    head, *sections = [part.rstrip("\n") + "\n" for part in text.split(SECTION)]
    titles = [section.partition("\n")[0] for section in sections]
    place = titles.index(title) if title in titles else len(sections)
    sections[place : place + 1] = [f"{title}\n\n{body.strip()}\n"]
    return SECTION.join([head, *sections])


def today() -> str:
    """The date in UTC."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def command() -> str:
    """What was typed, from the repository's root."""
    return " ".join(["python", str(Path(sys.argv[0]).resolve().relative_to(HERE.parents[1])), *sys.argv[1:]])


def machine() -> str:
    """Processor, cores and memory."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, no GPU"


def commit() -> str:
    """The short hash, with a + where the tree differs from it."""
    words = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    hash = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    rooms = [f"../../{room}" for room in ("orchestrator", "tasks", "strategies", "configs")]
    changed = subprocess.run(["git", "-C", str(HERE), "diff", "--quiet", "HEAD", "--", *rooms], check=False).returncode
    return hash + ("+" if changed else "")


def _text() -> str:
    path = HERE / "RESULTS.md"
    return path.read_text(encoding="utf-8") if path.is_file() else HEAD


def _write(text: str) -> None:
    (HERE / "RESULTS.md").write_text(text, encoding="utf-8")


LOAD = os.getloadavg()[0]
