"""What the tests of whole runs in one process share."""

from collections.abc import Iterator

import pytest

from orchestrator import running


@pytest.fixture(scope="module")
def drawn_later() -> Iterator[None]:
    """Reports have tests of their own; here each run would spend half of its time on one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "write_report", lambda folder: folder / "report.html")
        yield
