"""Objects that were read, kept on local disk up to a limit: images that every epoch and every cycle reads again.

Asked for by the environment of each machine, as its disk is its own: ``MTAL_CACHE_MIB`` is the limit (0 or nothing: no
cache), ``MTAL_CACHE_DIR`` the folder. All processes of a machine share it, and it may be deleted at any time.
"""

import hashlib
import math
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from uuid import uuid4

from tasks.data.objects import S3Path

_FULL = 0.9  # share of the limit that is held when old objects have just been dropped
DRAFT, ABANDONED = ".tmp", 3600.0  # a file that is being written; seconds after which nobody writes it any more


@dataclass(frozen=True)
class DiskCache:
    """Whole objects as files, named by bucket and key; the first line of each is its ETag.

    A read asks the server whether the object is still the one of this ETag, so nothing old is ever returned. The least
    recently read ones go first. What cannot be kept (a full disk) is passed on.
    """

    folder: Path
    limit: int  # bytes

    @staticmethod
    def asked() -> "DiskCache | None":
        """The cache that the environment asks for. ValueError when the limit is no number."""
        text = os.environ.get("MTAL_CACHE_MIB", "") or "0"
        try:
            mib = float(text)
        except ValueError:
            mib = math.nan
        if not 0 <= mib < math.inf:
            raise ValueError(f"MTAL_CACHE_MIB is {text!r}; expected a number of MiB: correct it")
        return DiskCache(own_folder() / "objects", int(mib * 2**20)) if mib else None

    def read(self, path: S3Path) -> bytes:
        """The bytes of an object, from here where it has not changed."""
        place = self.place(path)
        held = _content(place)
        answer = path.read_if_changed(held[0] if held else None)
        if answer is None:
            assert held is not None
            with suppress(OSError):
                os.utime(place)  # read just now
            return held[1]
        with suppress(OSError):
            self._put(place, f"{answer[1]}\n".encode() + answer[0])
        return answer[0]

    def place(self, path: S3Path) -> Path:
        """Where an object is kept."""
        mark = mark_of(str(path))
        return self.folder / mark[:2] / mark

    def _put(self, place: Path, content: bytes) -> None:
        if len(content) > _FULL * self.limit:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f"{place.name}.{uuid4().hex}{DRAFT}")
        try:
            draft.write_bytes(content)
            with self._alone():
                old = place.stat().st_size if place.is_file() else 0
                held = self._held() - old + len(content)
                if held > self.limit:
                    held = self._drop(self.limit * _FULL - len(content)) + len(content)
                os.replace(draft, place)
                self._count.write_text(str(held))
        finally:
            draft.unlink(missing_ok=True)

    @property
    def _count(self) -> Path:
        return self.folder / "bytes"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process counts or drops in the meantime."""
        with (self.folder / ".lock").open("a") as lock:
            flock(lock, LOCK_EX)
            yield

    def _held(self) -> int:
        """Bytes in here, as counted so far, or from the files where the count was lost."""
        try:
            return int(self._count.read_text())
        except (OSError, ValueError):
            return self._drop(math.inf)

    def _drop(self, until: float) -> int:
        """Delete what was read longest ago until no more bytes than these are left; answers how many there are."""
        files = []
        for folder in (entry for entry in os.scandir(self.folder) if entry.is_dir()):
            for file in os.scandir(folder):
                with suppress(FileNotFoundError):
                    found = file.stat()
                    files.append((found.st_mtime, found.st_size, file.path))
        now, left = time.time(), 0
        kept = []
        for mtime, size, path in sorted(files):
            if not path.endswith(DRAFT):
                kept.append((size, path))
                left += size
            elif now - mtime > ABANDONED:
                Path(path).unlink(missing_ok=True)
        for size, path in kept:
            if left <= until:
                break
            Path(path).unlink(missing_ok=True)
            left -= size
        return left


def _content(place: Path) -> tuple[str, bytes] | None:
    try:
        etag, _, data = place.read_bytes().partition(b"\n")
    except OSError:
        return None
    return etag.decode(errors="replace"), data


def own_folder() -> Path:
    """A folder on local disk that only this user can write to. OSError where somebody else made it."""
    asked = os.environ.get("MTAL_CACHE_DIR")
    folder = Path(asked) if asked else Path(tempfile.gettempdir()) / f"mtal-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not asked and (found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022):
        raise OSError(f"{folder}: may be written by others; expected a folder of your own: set MTAL_CACHE_DIR")
    return folder


def mark_of(text: str) -> str:
    """40 hex digits that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:40]
