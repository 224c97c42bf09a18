"""An object as a file, against a server that says what was asked of it. More is in tests/s3."""

from collections.abc import Callable, Iterator

import pytest

from tasks.data import ranges, s3
from tasks.data.ranges import RangedFile, last
from tests.tasks.data.answering import Answer, Answering, error, starting


def part(data: bytes, start: int, stop: int) -> Answer:
    return Answer(206, data[start:stop], {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"})


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Answering]]:
    monkeypatch.setattr(s3, "FIRST_PATIENCE", 0.0)
    monkeypatch.setattr(ranges, "BLOCK", 100)

    with starting(monkeypatch) as start:
        yield start


@pytest.mark.slow
def test_a_small_object_is_one_request(answering: Callable[..., Answering]) -> None:
    server = answering(part(b"0123456789", 0, 10))
    with RangedFile("bucket", "a") as file:
        assert (file.readable(), file.seekable(), file.size) == (True, True, 10)
        assert file.read(3) == b"012"
        assert file.seek(-2, 2) == 8
        assert file.read() == b"89"
        assert file.seek(1) == 1
        buffer = bytearray(4)
        assert file.readinto(buffer) == 4
        assert bytes(buffer) == b"1234"
        assert file.tell() == 5
        with pytest.raises(ValueError, match="seek before its beginning"):
            file.seek(-20, 1)
    assert [headers["range"] for _, _, headers in server.asked] == ["bytes=-100"]


def test_blocks_are_kept_and_large_reads_are_passed_on(answering: Callable[..., Answering]) -> None:
    data = bytes(i % 251 for i in range(1000))
    server = answering(part(data, 900, 1000), part(data, 200, 300), part(data, 300, 450))
    with RangedFile("bucket", "a") as file:
        for start, stop in ((250, 260), (201, 299), (260, 261), (300, 450), (950, 1000)):
            file.seek(start)
            assert file.read(stop - start) == data[start:stop]
        assert file.sent == 350
    assert [h["range"] for _, _, h in server.asked] == ["bytes=-100", "bytes=200-299", "bytes=300-449"]
    assert [h.get("if-match") for _, _, h in server.asked] == [None, '"e"', '"e"']


def test_an_empty_object_has_no_range(answering: Callable[..., Answering]) -> None:
    answering(error(416, "InvalidRange"), Answer())
    assert last("bucket", "a", 100).data == b""
