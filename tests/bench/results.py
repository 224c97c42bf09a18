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


def record(figure: str) -> None:
    """Print a figure and append it as a row."""
    words = " ".join(["python", str(Path(sys.argv[0]).resolve().relative_to(HERE.parents[1])), *sys.argv[1:]])
    row = f"| {datetime.now(UTC):%Y-%m-%d} | {machine()} | {LOAD:.1f} | {commit()} | `{words}` | {figure} |\n"
    path = HERE / "RESULTS.md"
    path.write_text((path.read_text(encoding="utf-8") if path.is_file() else HEAD) + row, encoding="utf-8")
    print(figure)


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


LOAD = os.getloadavg()[0]
