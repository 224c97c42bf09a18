"""Objects of S3-compatible storage as paths: the part of pathlib that is needed here, with the same names."""

import errno
import io
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from uuid import uuid4

from tasks.data.ranges import PART, RangedFile, blocks, last
from tasks.data.s3 import ObjectChanged, ObjectExists, ObjectNotFound, StorageError, ask, body_of

PAGE = 1000  # keys of a page of a listing, and of a request that deletes
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_MAGIC = re.compile(r"[*?\[]")
_WRITER = "writer"  # metadata that says which call has made an object


@dataclass(frozen=True)
class Head:
    """What the server says of an object without sending it."""

    size: int
    etag: str
    modified: datetime
    now: datetime  # the server's clock, so that ages do not depend on ours
    metadata: Mapping[str, str]


@dataclass(frozen=True, order=True)
class S3Path:
    """A key of a bucket, or a prefix of keys: plain data, so it travels without any credentials.

    An object appears, and is replaced, as a whole. There are no folders: ``mkdir`` does nothing, and ``is_dir`` says
    whether there is any key below. Not an ``os.PathLike``: what opens files must use ``open`` or ``read_bytes``.
    """

    bucket: str
    key: str = ""  # without slashes at its ends; "" = the bucket itself

    @staticmethod
    def of(uri: str) -> "S3Path":
        """The path of ``s3://bucket/key``; ValueError for anything else."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if "@" in bucket:
            raise ValueError(
                "s3://...@...: holds something like a key before an @; expected s3://bucket/path: give keys by the "
                "environment or a profile only"
            )
        if not uri.startswith("s3://") or not _BUCKET.fullmatch(bucket):
            raise ValueError(f"{uri}: names no bucket; expected s3://bucket/path: correct it")
        return S3Path(bucket, _joined(key))

    # ---- names -----------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"

    def __truediv__(self, other: str | PurePosixPath) -> "S3Path":
        return S3Path(self.bucket, _joined(self.key, str(other)))

    def joinpath(self, *others: str | PurePosixPath) -> "S3Path":
        return S3Path(self.bucket, _joined(self.key, *map(str, others)))

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> "S3Path":
        return S3Path(self.bucket, self.key.rpartition("/")[0])

    @property
    def parents(self) -> Sequence["S3Path"]:
        """Every path above, the nearest first."""
        found = [self]
        while found[-1].key:
            found.append(found[-1].parent)
        return found[1:]

    def with_name(self, name: str) -> "S3Path":
        return self.parent / name

    def absolute(self) -> "S3Path":
        return self

    def resolve(self) -> "S3Path":
        """Without ``..``: one that leads out of the bucket ends at the bucket."""
        return S3Path(self.bucket, posixpath.normpath(f"/{self.key}").strip("/"))

    def as_posix(self) -> str:
        return str(self)

    def is_relative_to(self, other: object) -> bool:
        return isinstance(other, S3Path) and (other == self or other in self.parents)

    def relative_to(self, other: object) -> PurePosixPath:
        """The way from there to here; ValueError where there is none."""
        if not isinstance(other, S3Path) or not self.is_relative_to(other):
            raise ValueError(f"{self}: is not below {other}")
        return PurePosixPath(self.key[len(other.key) :].strip("/"))

    # ---- what is there ---------------------------------------------------------------------------------------------

    def head(self) -> Head:
        """Size, version and age; FileNotFoundError where there is no such object."""
        answer = ask(self, lambda client: client.head_object(**self._place))
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        now = parsedate_to_datetime(date) if date else answer["LastModified"]
        return Head(answer["ContentLength"], answer["ETag"], answer["LastModified"], now, answer.get("Metadata", {}))

    def raise_reason(self) -> None:
        """Raise why the object cannot be read: the answer to ``head`` has no words, the one to this has."""
        ask(self, lambda client: client.get_object(**self._place, Range="bytes=0-0"))

    def is_file(self) -> bool:
        """Whether there is an object of this key."""
        if not self.key:
            return False
        try:
            self.head()
        except ObjectNotFound:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether there is any key below."""
        return bool(self._listed(MaxKeys=1).get("Contents"))

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a prefix needs not be made."""

    def iterdir(self) -> Iterator["S3Path"]:
        """What lies directly below, a page at a time; some servers also list prefixes whose last key has gone."""
        for page in self._pages(Delimiter="/"):
            yield from (S3Path(self.bucket, one["Key"]) for one in page.get("Contents", ()) if one["Key"][-1] != "/")
            yield from (S3Path(self.bucket, one["Prefix"].rstrip("/")) for one in page.get("CommonPrefixes", ()))

    def walk(self) -> Iterator["S3Path"]:
        """Every object below, in the order of their keys, a page at a time."""
        for page in self._pages():
            yield from (S3Path(self.bucket, one["Key"]) for one in page.get("Contents", ()))

    def glob(self, pattern: str) -> Iterator["S3Path"]:
        """The objects below that match a pattern of parts such as ``cycle_*/gallery/gallery.json``.

        Only the levels that hold a wildcard are listed.
        """
        first, _, rest = pattern.partition("/")
        if not rest and not _MAGIC.search(first):
            yield from (one for one in [self / first] if one.exists())
        elif not _MAGIC.search(first):
            yield from (self / first).glob(rest)
        else:
            found = (one for one in self.iterdir() if fnmatchcase(one.name, first))
            yield from chain.from_iterable(one.glob(rest) for one in found) if rest else found

    # ---- reading ---------------------------------------------------------------------------------------------------

    def read_bytes(self) -> bytes:
        """The whole object, of one version; a large one by several requests at a time."""
        end = last(self.bucket, self.key, PART)
        if end.size == len(end.data):
            return end.data
        return b"".join((*blocks(self.bucket, self.key, end.size - len(end.data), end.etag), end.data))

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def read_if_changed(self, etag: str | None) -> tuple[bytes, str] | None:
        """The object and its ETag in one request; None where it still is the one of this ETag."""
        given = {} if etag is None else {"IfNoneMatch": etag}

        def get(client: Any) -> tuple[bytes, str] | None:
            try:
                answer = client.get_object(**self._place, **given)
            except client.exceptions.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 304:
                    return None
                raise
            return body_of(answer), answer["ETag"]

        return ask(self, get)

    def open(self, mode: str = "rb") -> RangedFile:
        """A file for reading that asks for the ranges which are read."""
        if mode != "rb":
            raise ValueError(f"{self}: mode is {mode!r}; objects are opened for reading bytes only")
        return RangedFile(self.bucket, self.key)

    # ---- writing ---------------------------------------------------------------------------------------------------

    def write_bytes(self, data: bytes) -> int:
        """Make or replace the object, as a whole."""
        self._upload(lambda: io.BytesIO(data), len(data))
        return len(data)

    def write_text(self, text: str, encoding: str = "utf-8") -> int:
        return self.write_bytes(text.encode(encoding))

    def write_file(self, path: Path) -> None:
        """Make or replace the object by the content of a local file; a large one in parts."""
        self._upload(lambda: path.open("rb"), path.stat().st_size)

    def _upload(self, opened: Callable[[], BinaryIO], size: int) -> None:
        def put(client: Any) -> None:
            with opened() as body:
                if size <= PART:
                    client.put_object(**self._place, Body=body)
                else:
                    client.upload_fileobj(body, self.bucket, self.key)

        ask(self, put)

    def create(self, data: bytes) -> str:
        """Make the object if there is none, and answer its ETag; FileExistsError where another call was first."""
        try:
            return self._put(data, IfNoneMatch="*")
        except ObjectChanged:
            raise ObjectExists(errno.EEXIST, "is there already", str(self)) from None

    def replace(self, data: bytes, etag: str) -> str:
        """Replace the version of this ETag, and answer the new one; ObjectChanged where another call was first."""
        return self._put(data, IfMatch=etag)

    def _put(self, data: bytes, **condition: str) -> str:
        """Put under a condition. Where an answer was lost and our own object is in the way, that is a success."""
        writer = uuid4().hex

        def put(client: Any) -> str:
            try:
                answer = client.put_object(**self._place, Body=data, Metadata={_WRITER: writer}, **condition)
            except client.exceptions.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
                    raise
                answer = client.head_object(**self._place)
                if answer.get("Metadata", {}).get(_WRITER) != writer:
                    raise
            etag: str = answer["ETag"]
            return etag

        return ask(self, put)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object; FileNotFoundError where there is none."""
        if not missing_ok:
            self.head()
        ask(self, lambda client: client.delete_object(**self._place))

    def remove_tree(self) -> None:
        """Delete every object below, a page at a time."""
        for page in self._pages():
            keys = [{"Key": one["Key"]} for one in page.get("Contents", ())]
            if not keys:
                continue
            kept = self._deleted(keys).get("Errors")
            if kept:
                raise StorageError(
                    errno.EACCES,
                    f"{len(kept)} objects below it could not be deleted ({kept[0].get('Code')}); see to the rights",
                    str(self),
                )

    def abort_uploads(self) -> int:
        """End the uploads in parts below that nobody has finished, whose parts are paid for; how many there were."""
        page = ask(self, lambda client: client.list_multipart_uploads(**self._below))
        begun = page.get("Uploads", ())
        for one in begun:
            wanted = {"Bucket": self.bucket, "Key": one["Key"], "UploadId": one["UploadId"]}
            with suppress(ObjectNotFound, StorageError):  # it came to its end just now
                ask(self, lambda client, wanted=wanted: client.abort_multipart_upload(**wanted))  # type: ignore[misc]
        return len(begun)

    # ---- requests --------------------------------------------------------------------------------------------------

    @property
    def _place(self) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.key}

    @property
    def _below(self) -> dict[str, str]:
        return {"Bucket": self.bucket, "Prefix": f"{self.key}/" if self.key else ""}

    def _listed(self, **options: str | int) -> Mapping[str, Any]:
        found: Mapping[str, Any] = ask(self, lambda client: client.list_objects_v2(**self._below, **options))
        return found

    def _deleted(self, keys: Sequence[Mapping[str, str]]) -> Mapping[str, Any]:
        wanted = {"Objects": keys, "Quiet": True}
        found: Mapping[str, Any] = ask(self, lambda client: client.delete_objects(Bucket=self.bucket, Delete=wanted))
        return found

    def _pages(self, **options: str) -> Iterator[Mapping[str, Any]]:
        """The answers of a listing, the next one asked for when the last one is used up."""
        token: dict[str, str] = {}
        while True:
            page = self._listed(**options, **token, MaxKeys=PAGE)
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}


def _joined(*parts: str) -> str:
    """Parts of a key as one, without empty ones and dots."""
    return "/".join(word for part in parts for word in part.split("/") if word not in ("", "."))
