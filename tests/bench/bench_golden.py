"""How far the product is from the reference vectors.  Run: python tests/bench/bench_golden.py

Every file of ``../shared/golden`` goes through the public functions; the table of the largest absolute deviations
replaces the one in RESULTS.md. Exit code 1 where a deviation exceeds its tolerance, a tolerance is not the one stated
in the README of the files, an array is neither compared nor left out by name, or the files are absent.
"""

import re
import sys
from dataclasses import dataclass
from math import inf
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.comparisons import COMPARISONS, Compared, Golden
from tests.bench.results import record_section
from tests.golden import SHARED

TITLE = "Largest deviation from the reference vectors"
NOTE = "A tolerance is absolute for values up to 1 and relative beyond."
HEAD = "| file | quantity | compared with | largest deviation | stated tolerance |\n|---|---|---|---|---|\n"
# how an array came about, not what comes out
ABOUT = re.compile(
    r"_(np_)?seed$|_margin$|_prob_max$|_divide_yx$|^(tau|margin|min_side|crop_size|kind|aug_order|names)$"
)
# file: (arrays, what they are, why they are not compared); a file of something that does not exist yet: ".*"
LEFT_OUT = {
    "cald_augment": (
        "s2_(resize08|rot5)_image_chw",
        "pixels, resize08 and rot5",
        "Pillow samples at other places, and so on purpose",
    ),
    "cdal_det_feature": (
        "(cd|vrep)_.*|reward_.*",
        "rewards of a set",
        "the authors' reinforcement learner does not exist here",
    ),
    "equal": (".*_patch_score", "entropies of patches", "whole images are scored here, not regions"),
}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    cells: tuple[str, str, str, str, str]
    passes: bool = True

    def __str__(self) -> str:
        return f"| {' | '.join(self.cells)} |"


def rows_of(path: Path, stated: str) -> list[Row]:
    """All that one file is compared with, and what is left."""
    golden, found = Golden(path), dict[tuple[str, str], list[Compared]]()
    for one in COMPARISONS[path.stem](golden) if path.stem in COMPARISONS else ():
        found.setdefault((one.quantity, one.by), []).append(one)
    rows = [row_of(path.name, cases, stated) for cases in found.values()]
    arrays, what, why = LEFT_OUT.get(path.stem, ("(?!)", "", ""))
    left = [name for name in golden if name not in golden.asked and not ABOUT.search(name)]
    if named := [name for name in left if re.fullmatch(arrays, name)]:
        rows.append(Row((path.name, what, "-", f"not compared: {why}", "-")))
    if forgotten := sorted(set(left) - set(named)):
        rows.append(Row((path.name, ", ".join(forgotten[:5]), "-", "**not compared**", "-"), passes=False))
    return rows


def row_of(file: str, cases: list[Compared], stated: str) -> Row:
    """The worst of the cases of one quantity."""
    size, value, _ = max(case.deviation for case in cases)
    passes, within = all(case.deviation[2] for case in cases), cases[0].within
    text = "identical" if size == 0 else "differs" if size == inf else _short(size, 1)
    if within and within < size < inf:
        text += f" at {value:.3g}"
    tolerance = "-" if within is None else _short(within, 0) if within else "identical"
    if within and within not in {float(number) for number in re.findall(r"\d+e-\d+", stated)}:
        passes, tolerance = False, f"{tolerance}, but stated is {stated!r}"
    if not passes:
        text, tolerance = f"**{text}**", f"**{tolerance}**"
    return Row((file, cases[0].quantity, f"`{cases[0].by}`", text, tolerance), passes)


def stated_tolerances(readme: str) -> dict[str, str]:
    """The last cell of the line of each file."""
    lines = re.findall(r"^\| `(\w+)\.npz` \|.*\| ([^|]+) \|$", readme, re.MULTILINE)
    return dict(lines)


def _short(number: float, digits: int) -> str:
    return f"{number:.{digits}e}".replace("e-0", "e-")


def main() -> int:
    """Compare, write the table, and return the exit code."""
    folder = SHARED / "golden"
    files = sorted(folder.glob("*.npz"))
    if not files or not (folder / "README.md").is_file():
        print("bench_golden: the folder shared/golden is not beside the repository: put it there", file=sys.stderr)
        return 1
    stated = stated_tolerances((folder / "README.md").read_text(encoding="utf-8"))
    rows = [row for path in files for row in rows_of(path, stated.get(path.stem, ""))]
    record_section(TITLE, f"{NOTE}\n\n{HEAD}" + "\n".join(map(str, rows)))
    failed = [row for row in rows if not row.passes]
    for row in failed:
        file, quantity, _, found, tolerance = (cell.replace("*", "") for cell in row.cells)
        print(f"bench_golden: {file}, {quantity}: {found}; expected: {tolerance}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
