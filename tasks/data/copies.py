"""Copies of objects as local files: what is read in small pieces again and again, a manifest.

They lie in the same folder as the disk cache, with a limit of their own of the same size (``MTAL_CACHE_MIB``; 2 GiB
where nothing is set, because a manifest cannot be read without a copy). One that a process uses is never removed.
"""

import os
import time
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from uuid import uuid4

from tasks.data.disk_cache import ABANDONED, DRAFT, DiskCache, mark_of, own_folder
from tasks.data.objects import S3Path
from tasks.data.ranges import blocks

UNASKED = 2 << 30  # bytes of copies where the environment sets no limit
_used: dict[Path, int] = {}  # copies that this process uses, and the open files whose locks say so to others


def copied(path: S3Path) -> Path:
    """A local file with the content of an object, made once for each version of it on a machine; it is not to change.

    It stays for as long as this process lives. FileNotFoundError where there is no such object.
    """
    try:
        head = path.head()
    except (FileNotFoundError, PermissionError):
        path.raise_reason()
        raise
    mark = mark_of(f"{path}\n{head.etag}")
    place = own_folder() / "copies" / f"{mark}{path.suffix}"
    while not _use(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f"{place.name}.{uuid4().hex}{DRAFT}")
        try:
            with draft.open("wb") as file:
                for block in blocks(path.bucket, path.key, head.size, head.etag):
                    file.write(block)
            os.replace(draft, place)
        finally:
            draft.unlink(missing_ok=True)
    _drop(place.parent)
    return place


def _use(place: Path) -> bool:
    """Whether the copy is there; then nobody removes it until this process ends, however that comes about."""
    if place in _used and place.is_file():
        return True
    try:
        handle = os.open(place, os.O_RDONLY)
    except FileNotFoundError:
        return False
    flock(handle, LOCK_SH)
    if os.fstat(handle).st_nlink == 0:  # removed while we waited
        os.close(handle)
        return False
    os.utime(place)  # used just now
    before = _used.pop(place, None)  # of a copy that somebody has deleted
    if before is not None:
        os.close(before)
    _used[place] = handle
    return True


def _drop(folder: Path) -> None:
    """Remove unused copies, those used longest ago first, until the rest is within the limit."""
    cache = DiskCache.asked()
    limit = UNASKED if cache is None else cache.limit
    files = []
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):
            found = entry.stat()
            files.append((found.st_mtime, found.st_size, Path(entry.path)))
    held = sum(size for _, size, path in files if path.suffix != DRAFT)
    for mtime, size, path in sorted(files):
        if path.suffix == DRAFT:
            if time.time() - mtime > ABANDONED:
                path.unlink(missing_ok=True)
        elif held > limit and _removed(path):
            held -= size


def _removed(place: Path) -> bool:
    """Remove a copy, unless a process uses it."""
    with suppress(FileNotFoundError, BlockingIOError), place.open("rb") as file:
        flock(file, LOCK_EX | LOCK_NB)
        place.unlink()
        return True
    return False
