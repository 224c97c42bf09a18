"""A study as its reader gets it: a shipped configuration, run or carried on in ``runs/``, and what came of it.

    python tests/bench/bench_study.py nyuv2_teacher --figures segmentation.miou depth.rmse depth.log_rmse
    python tests/bench/bench_study.py pickup --error pickup.summed_error

The first writes the last figures of each arm, the second where the trainings of each arm have converged, to which error
and what of it is more than luck. Both become a section of RESULTS.md. Hours are those that training and measuring took,
summed over all networks, whenever they were made.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from orchestrator.curves import Curve, Results
from orchestrator.store import read_json
from orchestrator.studies.convergence import PairwiseTests, ks_tests, outcomes
from orchestrator.studies.convergence_page import main_rows, method_called
from orchestrator.studies.convergence_runs import study_of
from tests.bench.results import record_section

HOME = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--figures", nargs="*", default=[])
    parser.add_argument("--error")
    parser.add_argument("--set", action="append", default=[])
    asked = parser.parse_args()
    sets = [word for one in asked.set for word in ("--set", one)]
    words = [sys.executable, "-W", "ignore", "-m", "orchestrator", "run", asked.config, "--address", "none", *sets]
    if subprocess.run(words, cwd=HOME).returncode:
        raise SystemExit(f"the run failed: {' '.join(words)}")
    folder = HOME / "runs" / asked.config
    results = Results.load(folder)
    lines = [table(results, asked.figures)] if asked.figures else []
    lines += [converged(folder, asked.error)] if asked.error else []
    record_section(f"Study: {asked.config}", "\n\n".join([*lines, f"{hours(folder):.1f} hours of training."]))


def table(results: Results, figures: list[str]) -> str:
    """The last figures of each arm, mean and standard deviation over its seeds."""
    rows = [f"| arm | seeds | {' | '.join(figures)} |", f"|---|---|{'---|' * len(figures)}"]
    curves = {name: {c.arm: c for c in results.curves(name)} for name in figures}
    for arm in results.arms:
        cells = [cell(curves[name].get(arm)) for name in figures]
        seeds = max(len(by[arm].seeds) for by in curves.values() if arm in by)
        rows.append(f"| {arm} | {seeds} | {' | '.join(cells)} |")
    full = results.reference.metrics if results.reference else {}
    rows.append(f"| fully trained | | {' | '.join(f'{full[n]:.4f}' if n in full else '-' for n in figures)} |")
    return "\n".join(rows)


def cell(curve: Curve | None) -> str:
    """Mean and standard deviation; a dash where an arm has no such figure."""
    if curve is None:
        return "-"
    mean, sd = curve.mean[-1], curve.sd[-1]
    return f"{mean:.4f} ± {sd:.4f}" if np.isfinite(mean) else "-"


def converged(folder: Path, error: str) -> str:
    """Where and to what each arm has converged, and the tests of each against ours."""
    study = study_of([folder], error)
    found, ours = outcomes(study.runs, study.error), method_called(study, "")
    alive = {name: one for name, one in found.items() if len(one.steps)}
    of_steps = ks_tests({name: one.steps for name, one in alive.items()})
    of_errors = ks_tests({name: one.errors for name, one in alive.items()})
    rows = [
        f"| arm | runs | dead | steps, median | mean ± sd | {error}, median | mean ± sd | p of steps | p of errors |",
        f"|---|{'---|' * 8}",
    ]
    for row in main_rows(study, found):
        said = [p_of(tests, row.method, ours) for tests in (of_steps, of_errors)]
        rows.append(
            f"| {row.method} | {row.runs} | {row.dead} | {row.steps} | {row.steps_spread} | {row.error} | "
            f"{row.error_spread} | {said[0]} | {said[1]} |"
        )
    return "\n".join(rows) + f"\n\np: exact two-sided Kolmogorov-Smirnov test against {ours}, not corrected."


def p_of(tests: PairwiseTests, method: str, ours: str) -> str:
    """The p of two methods; a dash for ours itself, and where no run of either lives."""
    if method == ours or not {method, ours} <= set(tests.methods):
        return "-"
    return f"{tests.p[tests.methods.index(method), tests.methods.index(ours)]:.4f}"


def hours(folder: Path) -> float:
    """Of all fits and what was measured after them."""
    made = [read_json(path) for path in folder.rglob("fit.json")] + [
        read_json(path) for path in folder.glob("*/seed_*/cycle_[1-9]*/cycle.json")
    ]
    return sum(sum(one.get("seconds", {}).values()) for one in made) / 3600


if __name__ == "__main__":
    main()
