"""What the tests with a real S3 server share: the server, and a prefix of its own for each test."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.data.objects import S3Path
from tests.s3.weed import BUCKET, Weed


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    """A server that lives as long as the session."""
    server = Weed(tmp_path_factory.mktemp("weed"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


def use(server: Weed, patch: pytest.MonkeyPatch, folder: Path) -> S3Path:
    """An empty prefix of the server, which this process talks to from now on; local copies go into ``folder``."""
    for name, value in server.environment.items():
        patch.setenv(name, value)
    patch.setenv("MTAL_CACHE_DIR", str(folder / "cache"))
    patch.delenv("MTAL_CACHE_MIB", raising=False)
    return S3Path(BUCKET, uuid4().hex)


def send(folder: Path, to: S3Path) -> None:
    """Put every file of a folder below a prefix."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda path: (to / path.relative_to(folder).as_posix()).write_file(path), files))


@pytest.fixture
def prefix(weed: Weed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3Path:
    """An empty prefix on the session's server."""
    return use(weed, monkeypatch, tmp_path)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weed]:
    """A server of one test, which may kill it."""
    server = Weed(tmp_path / "weed")
    try:
        server.start()
        use(server, monkeypatch, tmp_path)
        yield server
    finally:
        server.kill()
