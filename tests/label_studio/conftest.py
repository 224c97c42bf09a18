"""What the tests with a real Label Studio share: one server for the session."""

from collections.abc import Iterator

import pytest

from tests.label_studio.server import LabelStudioServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    """A server that lives as long as the session; a test may kill it if it starts it again."""
    folder = tmp_path_factory.mktemp("label_studio")
    server = LabelStudioServer(folder, folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
