"""An object as a file that is read by ranges: what is not asked for is not sent."""

import io
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tasks.data.s3 import ask, body_of, code_of

BLOCK = 256 << 10  # bytes of a block that is kept
BLOCKS = 64  # that are kept
PART = 16 << 20  # bytes of a request for a large object
STREAMS = 8  # requests for one large object at a time


@dataclass(frozen=True)
class Part:
    """Bytes of an object, and which object they are of."""

    data: bytes
    size: int  # bytes of the whole object
    etag: str


def last(bucket: str, key: str, count: int) -> Part:
    """The last ``count`` bytes of an object, or all of a smaller one, in one request."""

    def get(client: Any) -> Part:
        try:
            return _part(client.get_object(Bucket=bucket, Key=key, Range=f"bytes=-{count}"))
        except client.exceptions.ClientError as error:
            if code_of(error) not in ("InvalidRange", "416"):  # an empty object has no range
                raise
        return _part(client.get_object(Bucket=bucket, Key=key))

    return ask(_uri(bucket, key), get)


def span(bucket: str, key: str, start: int, stop: int, etag: str) -> bytes:
    """The bytes [start, stop) of an object; ObjectChanged where it is not the one of this ETag any more."""

    def get(client: Any) -> bytes:
        answer = client.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{stop - 1}", IfMatch=etag)
        return _part(answer).data

    return ask(_uri(bucket, key), get) if stop > start else b""


def blocks(bucket: str, key: str, size: int, etag: str) -> Iterator[bytes]:
    """The whole of an object that may be large, in order, some requests ahead."""
    parts = [(start, min(start + PART, size)) for start in range(0, size, PART)]
    with ThreadPoolExecutor(STREAMS, thread_name_prefix="s3") as pool:
        for at in range(0, len(parts), STREAMS):  # no more than this in memory
            yield from pool.map(lambda part: span(bucket, key, part[0], part[1], etag), parts[at : at + STREAMS])


def _part(answer: Any) -> Part:
    data = body_of(answer)
    total = answer.get("ContentRange", "").rpartition("/")[2]
    return Part(data, int(total) if total.isdecimal() else len(data), answer["ETag"])


def _uri(bucket: str, key: str) -> str:
    return f"s3://{bucket}/{key}"


class RangedFile(io.RawIOBase):
    """A read-only file over an object: seeks cost nothing, a read asks for what it needs.

    Small reads go through blocks that are kept; large ones are passed on as they are. All come from one version of the
    object: OSError when it is replaced in the meantime. Use it from one thread at a time.
    """

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__()
        self._bucket, self._key = bucket, key
        end = last(bucket, key, BLOCK)  # the foot of a parquet file lies there, and small objects as a whole
        self.size, self.etag, self._end = end.size, end.etag, end.data
        self._at = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self.sent = len(end.data)  # bytes that the server has sent

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"{_uri(self._bucket, self._key)}: seek before its beginning")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        stop = self.size if size is None or size < 0 else min(self._at + size, self.size)
        data = self._bytes(self._at, stop) if stop > self._at else b""
        self._at += len(data)
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(memoryview(buffer).cast("B")))
        memoryview(buffer).cast("B")[: len(data)] = data
        return len(data)

    def _bytes(self, start: int, stop: int) -> bytes:
        known = self.size - len(self._end)
        if start >= known:
            return self._end[start - known : stop - known]
        if stop - start >= BLOCK:
            return self._span(start, stop)
        found = b"".join(self._block(index) for index in range(start // BLOCK, (stop - 1) // BLOCK + 1))
        offset = start - start // BLOCK * BLOCK
        return found[offset : offset + stop - start]

    def _block(self, index: int) -> bytes:
        if index not in self._blocks:
            self._blocks[index] = self._span(index * BLOCK, min((index + 1) * BLOCK, self.size))
            if len(self._blocks) > BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(index)
        return self._blocks[index]

    def _span(self, start: int, stop: int) -> bytes:
        self.sent += stop - start
        return span(self._bucket, self._key, start, stop, self.etag)
