"""The plan of the house, checked: floors, sizes, what may import what, and tests that can fail."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parents[1]
ROOMS = ("orchestrator", "tasks", "strategies", "configs")
SOURCES = sorted(p for room in ROOMS for p in (HOME / room).rglob("*.py"))
TESTS = sorted((HOME / "tests").rglob("test_*.py"))
RAY_ROOMS = {"cli", "tuning", "ray_workers", "preparing", "preparing_on_ray", "jobs", "bench"}
TAKES_EXPERIMENT = {
    "config",
    "cli",
    "running",
    "trials",
    "tuning",
    "cycle",
    "identity",
    "here",
    "planning",
    "foresight",
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(HOME).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Every statement, also in blocks of others: far fewer nodes than all."""
    waiting: list[Any] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        for block in ("body", "orelse", "handlers", "finalbody", "cases"):
            waiting += getattr(node, block, ())


def imports(path: Path) -> set[str]:
    found = set()
    for node in statements(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert all(alias.name != "*" for alias in node.names), f"{path}: import *"
            found.add(node.module or "")
    return found


def every(paths: Sequence[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """One test over many files, which lists all that break the law: a test for each file costs more than the law."""

    def decorated(law: Callable[[Path], None]) -> Callable[[], None]:
        def over_all() -> None:
            broken = []
            for path in paths:
                try:
                    law(path)
                except AssertionError as why:
                    broken.append(f"{path.relative_to(HOME)}: {str(why).splitlines()[0]}")
            assert broken == []

        over_all.__doc__ = law.__doc__
        return over_all

    return decorated


@every(SOURCES)
def test_floors(path: Path) -> None:
    """tasks imports neither of the others; strategies only the ground floor of tasks; ray and boto3 in few rooms."""
    name, used = name_of(path), imports(path)
    room = name.split(".")[0]
    if room == "tasks":
        assert not {u for u in used if u.split(".")[0] in ("strategies", "orchestrator")}
    if room == "strategies":
        allowed = ("tasks.types", "tasks.classes", "tasks.geometry", "tasks.placement", "tasks.seeding")
        assert {u for u in used if u.split(".")[0] in ("tasks", "orchestrator")} <= set(allowed)
    if any(u.split(".")[0] == "ray" for u in used):
        assert room == "orchestrator"
        assert name.split(".")[1] in RAY_ROOMS
    if any(u.split(".")[0] in ("boto3", "botocore") for u in used):
        assert name == "tasks.data.s3"


@every(SOURCES)
def test_nothing_private_crosses_files_and_imports_stand_at_the_top(path: Path) -> None:
    tree = tree_of(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ROOMS:
            assert not [a.name for a in node.names if a.name.startswith("_") and a.name != "__version__"]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not inner, f"{name_of(path)}.{node.name} imports inside"


@every(SOURCES)
def test_sizes(path: Path) -> None:
    """A file has at most 400 lines, a function at most 60."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, f"{name_of(path)}.{node.name}"


def test_one_strategy_does_not_know_another() -> None:
    """What two strategies (or two tasks) need goes one floor down."""
    for room, base in (("strategies", "Strategy"), ("tasks", "Task")):
        files = {p for p in (HOME / room).glob("*.py") if _defines(p, base)}
        names = {name_of(p) for p in files}
        for path in files:
            assert not imports(path) & (names - {name_of(path)}), f"{path.stem} imports another of {room}"


def _defines(path: Path, base: str) -> bool:
    """Whether a file holds a subclass of Strategy, or a class with a metric (a task)."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(b) for b in node.bases}
            methods = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
            if base in bases or (base == "Task" and "metric" in methods and "Protocol" not in bases):
                return True
    return False


def test_only_few_modules_take_an_experiment() -> None:
    """A function takes its own section or plain values, not the whole configuration."""
    takers = set()
    for path in (HOME / "orchestrator").glob("*.py"):
        for node in ast.walk(tree_of(path)):
            if (
                isinstance(node, ast.arg)
                and node.annotation is not None
                and "Experiment" in ast.unparse(node.annotation)
            ):
                takers.add(path.stem)
    assert takers <= TAKES_EXPERIMENT


def test_no_class_of_ours_is_subclassed_when_concrete() -> None:
    """Depth one: what is subclassed is a protocol, an ABC, an exception or somebody else's."""
    open_bases = {
        "Strategy",
        "Prediction",
        "Exception",
        "MtalError",
        "ValueError",
        "Protocol",
        "ABC",
        "StrEnum",
        "Enum",
    }
    ours = {n.name for p in SOURCES for n in ast.walk(tree_of(p)) if isinstance(n, ast.ClassDef)}
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(b).split("[")[0].split(".")[-1] for b in node.bases}
                assert not (bases & ours) - open_bases, f"{name_of(path)}.{node.name}"


def test_light_modules_import_no_torch() -> None:
    """A report of a finished run answers at once, and the process of a trial stays small."""
    light = (
        *("pool", "store", "curves", "config", "cycle", "trials", "figures", "tables", "report", "ray_workers"),
        *("studies.convergence_figures", "studies.convergence_page"),
    )
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module('orchestrator.' + name)\n"
        "    print(name, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *light], cwd=HOME, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:-1] == [f"{module} False" for module in light]


@every(TESTS)
def test_every_test_can_fail(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            text = ast.unparse(node)
            assert "assert" in text or "raises" in text or "check_" in text or "expect" in text, node.name


def test_rooms_hold_only_what_the_plan_names() -> None:
    """No utils, no common, no helpers; and no package beside the four."""
    bad = {"utils", "util", "common", "helpers", "helper", "misc", "manager"}
    assert not [p for p in SOURCES if p.stem in bad]
    packages = {p.parent.name for p in HOME.glob("*/__init__.py")}
    assert packages == set(ROOMS)
