"""What all tests share: where the reference material lies, one torch thread, no network."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference vectors and real images beside the repository; skips where it is absent."""
    folder = Path(os.environ.get("MTAL_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"reference material is absent: no folder {folder.name!r} beside the repository")
    return folder
