"""The two ways to ship: the wheel in a fresh environment, and the plain tree. Built and installed without a network."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Sequence
from email.parser import HeaderParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator import __version__
from tests.tiny import tiny, write_tiny

HOME = Path(__file__).resolve().parents[1]
ROOMS = ("orchestrator", "tasks", "strategies", "configs")
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(command: Sequence[str | Path], cwd: Path, seconds: float = 300) -> str:
    """What a command prints; it sees neither this process's folder nor its Python path."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    env = {k: v for k, v in os.environ.items() if k not in hidden} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(w) for w in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f"{command}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
    return done.stdout


def environment(folder: Path) -> Path:
    """The Python of a fresh environment that has our dependencies behind its own packages, and not our tree."""
    run([sys.executable, "-m", "venv", "--without-pip", folder], folder.parent)
    python = folder / "bin" / "python"
    site = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], Path("/")).strip())
    # a path in a .pth file comes after the site-packages that it lies in, and .pth files in that path are not read
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the project ships, without what lies beside it."""
    home = tmp_path_factory.mktemp("tree")
    for room in ROOMS:
        shutil.copytree(HOME / room, home / room, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copyfile(HOME / name, home / name)
    return home


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], tree)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel."""
    python = environment(tmp_path_factory.mktemp("wheel") / "venv")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    run([*pip, "--no-compile", "--disable-pip-version-check", wheel], Path("/"))
    return python


def test_the_changelog_knows_the_version() -> None:
    text = (HOME / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", text, re.M)
    assert headings[0] == "Unreleased"
    assert __version__ in headings
    assert headings[1] == __version__, "the newest release is the version of the code"
    assert all(f"[{heading}]: " in text for heading in headings)


def test_the_version_is_a_literal() -> None:
    """Where there is no metadata, as in a job's working directory, it is known all the same."""
    text = (HOME / "orchestrator" / "__init__.py").read_text(encoding="utf-8")
    assert f'__version__ = "{__version__}"' in text
    assert PROJECT["dynamic"] == ["version"]


@pytest.mark.slow
def test_what_the_wheel_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [info] = {n.split("/")[0] for n in names if n.split("/")[0] not in ROOMS}
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
        points = archive.read(f"{info}/entry_points.txt").decode()
    kinds = (".py", ".yaml", ".html", ".css", ".jinja")
    files = [p for room in ROOMS for p in (HOME / room).rglob("*")]
    ours = {p.relative_to(HOME).as_posix() for p in files if p.suffix in kinds or p.name == "py.typed"}
    assert {n for n in names if not n.startswith(info)} == ours
    assert {"configs/demo.yaml", "orchestrator/templates/report.html"} < ours
    assert info == f"mtal-{__version__}.dist-info"
    assert metadata["Version"] == __version__
    needs = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(needs) == len(PROJECT["dependencies"])
    assert sorted(metadata.get_all("Provides-Extra", [])) == sorted(PROJECT["optional-dependencies"])
    assert metadata["Requires-Python"] == "<3.13,>=3.11"
    assert "[console_scripts]\nmtal = orchestrator.__main__:main" in points


@pytest.mark.slow
def test_the_wheel_runs_from_anywhere(installed: Path, tmp_path: Path) -> None:
    """From the root folder, with nothing of the tree in sight."""
    root, mtal = Path("/"), installed.with_name("mtal")
    for room in ROOMS:
        where = run([installed, "-c", f"import {room}; print({room}.__file__)"], root).strip()
        assert where.startswith(str(installed.parents[1])), where
    assert run([mtal, "--version"], root).strip() == __version__
    assert "all is well" in run([mtal, "check", "demo"], root)
    config = write_tiny(tmp_path / "tiny.yaml", tmp_path / "runs", active=tiny(tmp_path)["active"] | {"cycles": 1})
    assert "report:" in run([mtal, "run", config, "--address", "none"], root)
    assert pq.read_table(tmp_path / "runs" / "tiny" / "cycles.parquet").num_rows == 4
    assert "report:" in run([mtal, "report", tmp_path / "runs" / "tiny"], root)


@pytest.mark.soak
def test_the_wheel_runs_on_a_cluster(installed: Path, tmp_path: Path) -> None:
    """Workers import the wheel, too: they compare their sources with the command's."""
    config = write_tiny(
        tmp_path / "tiny.yaml", tmp_path / "runs", active=tiny(tmp_path)["active"] | {"cycles": 0},
        arms={"random": {"strategy": "random"}},
    )  # fmt: skip
    assert "report:" in run([installed.with_name("mtal"), "run", config], Path("/"), seconds=500)
    assert pq.read_table(tmp_path / "runs" / "tiny" / "cycles.parquet").num_rows == 1


@pytest.mark.soak
def test_the_plain_tree_runs_without_being_installed(tree: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    assert run([python, "-c", "import orchestrator; print(orchestrator.__file__)"], tree).startswith(str(tree))
    mtal = [python, "-m", "orchestrator"]
    assert run([*mtal, "--version"], tree).strip() == __version__
    assert "all is well" in run([*mtal, "check", "demo"], tree)
    config = write_tiny(
        tmp_path / "tiny.yaml", tmp_path / "runs", active=tiny(tmp_path)["active"] | {"cycles": 0},
        arms={"random": {"strategy": "random"}},
    )  # fmt: skip
    assert "report:" in run([*mtal, "run", config, "--address", "none"], tree)
