"""What all tests share: where the reference material lies, one torch thread, no network, one finished tiny run."""

import os
from collections.abc import Generator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from orchestrator.cli import main
from tests.once import once
from tests.tiny import write_tiny

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves its workers beside other tests on two cores


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference vectors and real images beside the repository; skips where it is absent."""
    folder = Path(os.environ.get("MTAL_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"reference material is absent: no folder {folder.name!r} beside the repository")
    return folder


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.yaml, its finished run in runs/tiny, and what the command printed. Copy it to damage it."""
    return once(tmp_path_factory, "finished", _run_tiny)


def _run_tiny(home: Path) -> None:
    config = write_tiny(home / "tiny.yaml", home / "runs")
    with redirect_stdout(StringIO()) as printed, pytest.raises(SystemExit) as end:
        main(["run", str(config), "--address", "none"])
    assert end.value.code == 0, printed.getvalue()
    (home / "stdout.txt").write_text(printed.getvalue())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: where they are begun last, one process ends minutes after the others."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def _must_not_skip(item: pytest.Item) -> bool:
    """Where the reference material lies, a test that needs it may not be skipped unseen: CI would stay green."""
    folder = Path(__file__).parents[2] / "shared"
    return bool(os.environ.get("CI")) and folder.is_dir() and "shared" in getattr(item, "fixturenames", ())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and _must_not_skip(item):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although the reference material is there: {report.longrepr}"
    return report
