"""Bytes at a uri: the one place that knows where data lies. Another kind of storage would be added here."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4


def resolve(uri: str, base: Path) -> Path:
    """The local path of a uri; a relative one starts at ``base``. ValueError for s3:// and other remote uris."""
    if uri.startswith("file://"):
        uri = uri.removeprefix("file://")
    if "://" in uri:
        kind = uri.split("://", 1)[0]
        raise ValueError(f"{uri}: is a {kind}:// uri; this version reads local paths only: copy or mount the data")
    return base / uri


def relative_uri(path: Path, base: Path) -> str:
    """The uri of a local file: relative where it lies below ``base`` (the folder can be moved), else absolute."""
    path, base = path.absolute(), base.absolute()
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()


def read_bytes(uri: str, base: Path) -> bytes:
    """The bytes at a uri. FileNotFoundError or another OSError names the file."""
    path = resolve(uri, base)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected what the data set lists: restore it") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path}: is a folder; expected a file: correct the uri") from None


def write_bytes(uri: str, base: Path, data: bytes) -> None:
    """Write the bytes at a uri, all or nothing; folders are made."""
    with staged(resolve(uri, base)) as draft:
        draft.write_bytes(data)


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes the place of ``path`` when the block ends, and goes when it fails.

    A kill at any moment leaves the old file or the new one, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        yield draft
        _sync(draft)
        os.replace(draft, path)
        _sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def read_json(path: Path, keys: Mapping[str, type]) -> dict[str, Any]:
    """The object of a JSON file; ValueError when it is not JSON, no object, or lacks one of ``keys`` (name -> type)."""
    data = read_bytes(str(path), Path())
    try:
        content = json.loads(data)
    except ValueError as error:  # also a file that is not UTF-8
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
