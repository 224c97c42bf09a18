"""Bytes at a uri: the one place that knows where data lies, on a disk or in S3-compatible storage."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeAlias
from uuid import uuid4

from tasks.data.copies import copied
from tasks.data.disk_cache import DiskCache
from tasks.data.objects import S3Path
from tasks.data.s3 import BucketNotFound

_TWISTED = re.compile(r"(^|/)\.?(/|$)|://").search  # a name that paths write otherwise, or that starts anew
Place: TypeAlias = Path | S3Path  # both have the names of pathlib; what differs is below


def place(uri: str | Place) -> Place:
    """The path of a uri: local, ``file://`` or ``s3://bucket/key``. ValueError for any other kind."""
    if not isinstance(uri, str):
        return uri
    if uri.startswith("s3://"):
        return S3Path.of(uri)
    if uri.startswith("file://"):
        uri = uri.removeprefix("file://")
    if "://" in uri:
        kind = uri.split("://", 1)[0]
        raise ValueError(
            f"{uri}: is a {kind}:// uri; expected a local path or s3://bucket/path: copy or mount the data"
        )
    return Path(uri)


def resolve(uri: str, base: Place) -> Place:
    """The path of a uri; a relative one starts at ``base``. ValueError for what is neither local nor s3://."""
    if "://" in uri:
        return place(uri)
    return Path(uri) if os.path.isabs(uri) else base / uri


def relative_uri(path: Place, base: Place) -> str:
    """The uri of a file: relative where it lies below ``base`` (the folder can be moved), else absolute."""
    if isinstance(path, Path) and isinstance(base, Path):
        path, base = path.absolute(), base.absolute()
        return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()
    if isinstance(path, S3Path) and path.is_relative_to(base):
        return path.relative_to(base).as_posix()
    return path.absolute().as_posix()


def uris_below(folder: Place, base: Place) -> Callable[[str], str]:
    """What answers ``relative_uri(resolve(name, folder), base)``, for many names."""
    start = relative_uri(folder, base)
    prefix = "" if start == "." else start.rstrip("/") + "/"
    inner, outer = base.absolute(), folder.absolute()
    is_apart = type(inner) is not type(outer) or inner == outer or not inner.is_relative_to(outer)  # type: ignore[arg-type]

    def uri(name: str) -> str:
        if is_apart and not _TWISTED(name):
            return prefix + name
        return relative_uri(resolve(name, folder), base)

    return uri


def below(folder: Path, name: str) -> Path:
    """A place for a file that is made, by a name out of a data set. ValueError where that leads out of the folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise ValueError(f"{name[:60]!r} is no place below a folder; expected a relative path without '..': correct it")
    return folder / name


def leads_below(path: Place, base: Place) -> bool:
    """Whether a path ends up at ``base`` or below, wherever its dots and links lead."""
    path, base = path.resolve(), base.resolve()
    if isinstance(path, Path) and isinstance(base, Path):
        return path.is_relative_to(base)
    return isinstance(path, S3Path) and path.is_relative_to(base)


def read_bytes(uri: str, base: Place) -> bytes:
    """The bytes at a uri; those of an object are kept on local disk where ``DiskCache`` is asked for.

    FileNotFoundError or another OSError names the file.
    """
    path = resolve(uri, base)
    with _told(path):
        if isinstance(path, Path):
            return path.read_bytes()
        cache = DiskCache.asked()
        return path.read_bytes() if cache is None else cache.read(path)


def opened(uri: str, base: Place) -> BinaryIO:
    """The file at a uri, to be read from its beginning. FileNotFoundError or another OSError names the file."""
    path = resolve(uri, base)
    with _told(path):
        return path.open("rb") if isinstance(path, Path) else BufferedReader(path.open("rb"))


def listed_file(path: Place) -> Path:
    """``local_file`` of what a data set is read from. FileNotFoundError or another OSError names the file."""
    with _told(path):
        found = local_file(path)
        found.open("rb").close()
        return found


@contextmanager
def _told(path: Place) -> Iterator[None]:
    """What to do about a file of a data set that cannot be opened."""
    try:
        yield
    except BucketNotFound:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected what the data set lists: restore it") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path}: is a folder; expected a file: correct the uri") from None


def write_bytes(uri: str, base: Place, data: bytes) -> None:
    """Write the bytes at a uri, all or nothing; folders are made."""
    path = resolve(uri, base)
    if isinstance(path, S3Path):
        path.write_bytes(data)
        return
    with staged(path) as draft:
        draft.write_bytes(data)


@contextmanager
def staged(path: Place) -> Iterator[Path]:
    """A local path to write to; its content takes the place of ``path`` when the block ends, and goes when it fails.

    A kill at any moment leaves the old file or the new one, never a part. An object is written beside the other
    temporary files of this machine (TMPDIR) first.
    """
    if isinstance(path, S3Path):
        with tempfile.TemporaryDirectory(prefix="mtal-") as scratch:
            draft = Path(scratch) / path.name
            yield draft
            path.write_file(draft)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        yield draft
        _sync(draft)
        os.replace(draft, path)
        _sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def local_file(path: Place) -> Path:
    """A file on local disk with this content: the file itself, or a copy of the object. It is not to be changed."""
    return copied(path) if isinstance(path, S3Path) else path


def version(path: Place) -> str:
    """What changes when a file is replaced; "" where there is none."""
    try:
        return path.head().etag if isinstance(path, S3Path) else str(path.stat().st_mtime_ns)
    except FileNotFoundError:
        return ""


def remove_tree(path: Place) -> None:
    """Delete all that lies below, if anything does."""
    if isinstance(path, S3Path):
        path.remove_tree()
    else:
        shutil.rmtree(path, ignore_errors=True)


def read_json(path: Place, keys: Mapping[str, type]) -> dict[str, Any]:
    """The object of a JSON file; ValueError when it is not JSON, no object, or lacks one of ``keys`` (name -> type)."""
    data = read_bytes(str(path), Path())
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:  # also a file that is not UTF-8
        raise ValueError(f"{path}: is not JSON ({error}); expected an object: export the file again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a JSON {type(content).__name__}; expected an object with {', '.join(keys)}")
    for name, kind in keys.items():
        check_key(content, name, kind, str(path))
    return content


def check_key(content: object, name: str, kind: type | tuple[type, ...], where: str) -> Any:
    """``content[name]``; ValueError, naming ``where``, when it is missing or not of this type."""
    kinds = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
    if not isinstance(content, dict) or name not in content:
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else ""
        found = f"the keys {keys or '(none)'}" if isinstance(content, dict) else repr(content)[:60]
        raise ValueError(f"{where}: has {found}; expected {name!r} ({kinds}): add it")
    value = content[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where}: {name!r} is {str(value)[:60]!r}; expected {kinds}: correct it")
    return value


def _sync(path: Path) -> None:
    """Make a file (or the names in a folder) survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
