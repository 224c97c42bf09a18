"""A lock in object storage: an object that its holder renews, and that others take when it has run out.

A disk's lock goes with its process; here nothing does, so a lease counts for ``TERM`` seconds after it was last
renewed, by the server's clock. Who comes later waits that long for a holder who died; one who died on the same machine
is known at once.

What it does not protect against: a holder that stood still for longer than ``TERM`` (a machine asleep, a network cut
off) goes on beside the one that took the lease. Both then write to one run. Finished steps are safe, since each marker
is made by exclusive creation and both compute the same from the same inputs; only ``--fresh``, which deletes, should
not be given while another command may still be alive.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import psutil

from orchestrator.errors import RunError
from tasks.data.objects import S3Path
from tasks.data.s3 import ObjectChanged, ObjectExists, ObjectNotFound

TERM = 60.0  # seconds that a lease counts without being renewed
BEAT = 10.0  # seconds between renewals
LOOK = 1.0  # seconds between looks at somebody else's lease


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease, as the lease says."""

    token: str
    machine: str  # where process numbers mean the same: host, boot and process namespace
    pid: int
    started: float  # when the process was, so that a number that is used again is another one

    @staticmethod
    def me() -> "Holder":
        return Holder(uuid4().hex, _machine(), os.getpid(), psutil.Process().create_time())

    def written(self, count: int) -> bytes:
        """What the object holds after so many renewals: no two are equal, so no two have one ETag."""
        return json.dumps({**asdict(self), "renewed": count}).encode()

    @staticmethod
    def of(data: bytes) -> "Holder | None":
        """The holder that a lease names; None where it names none."""
        try:
            raw = json.loads(data)
            return Holder(str(raw["token"]), str(raw["machine"]), int(raw["pid"]), float(raw["started"]))
        except (ValueError, KeyError, TypeError):
            return None

    def is_dead(self) -> bool:
        """Whether it certainly is; False where that cannot be told from here."""
        if self.machine != _machine():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) > 1.0
        except psutil.NoSuchProcess:
            return True


def _machine() -> str:
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


@contextmanager
def leased(path: S3Path) -> Iterator[None]:
    """Hold the lease of this object for the time of the block; RunError when another command renews it."""
    me = Holder.me()
    etag = _taken(path, me)
    stop = threading.Event()
    beat = threading.Thread(target=_renew, args=(path, me, etag, stop), daemon=True, name="lease")
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join(timeout=LOOK)  # it may be waiting for a server that is away
        with suppress(OSError):  # who cannot give it back lets it run out
            if _is(path, me):
                path.unlink(missing_ok=True)


def _taken(path: S3Path, me: Holder) -> str:
    """The ETag of our lease, once nobody else has one."""
    data = me.written(0)
    seen: str | None = None
    while True:
        try:
            etag = path.create(data)
            _require_conditions(path)
            return etag
        except ObjectExists:
            pass
        try:
            head, other = path.head(), Holder.of(path.read_bytes())
            age = (head.now - head.modified).total_seconds()
            if age > TERM or (other is not None and other.is_dead()):
                return path.replace(data, head.etag)
        except (ObjectNotFound, ObjectChanged):  # given back, renewed or taken just now
            continue
        if seen not in (None, head.etag):
            who = f" ({other.machine.split()[0]}, process {other.pid})" if other is not None else ""
            raise RunError(
                f"{path.parent}: another command{who} is writing to this run; wait for it, or choose another name or "
                "output"
            )
        seen = head.etag
        time.sleep(LOOK)


def _require_conditions(path: S3Path) -> None:
    """RunError where the server makes an object again that was to be made once: finished steps would not be safe."""
    try:
        path.create(b"")
    except ObjectExists:
        return
    path.unlink(missing_ok=True)
    raise RunError(
        f"{path}: this server ignores If-None-Match, so that two processes could finish the same step; expected "
        "conditional writes: use a newer server, or another one"
    )


def _renew(path: S3Path, me: Holder, etag: str, stop: threading.Event) -> None:
    """Write the lease again and again, until told to stop or until it is somebody else's."""
    count = 0
    while not stop.wait(BEAT):
        count += 1
        try:
            etag = path.replace(me.written(count), etag)
        except (ObjectChanged, ObjectNotFound):
            return
        except OSError:  # the server is away: it may be back by the next beat
            continue


def _is(path: S3Path, me: Holder) -> bool:
    found = Holder.of(path.read_bytes())
    return found is not None and found.token == me.token
