"""A watch over the head of a cluster: a command whose head is gone ends with a sentence.  No Ray in here.

Ray's own calls wait for a lost head without a bound in places that no exception reaches, so this looks from outside of
Ray: a connection to the head's port, now and then.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

EVERY = 2.0  # seconds between looks, and for the head to answer one
NODES_WAIT = 60.0  # seconds that Ray's nodes wait for a head that comes back, where nothing else is set
NODES_WAIT_VARIABLE = "RAY_gcs_rpc_server_reconnect_timeout_s"
EARLIER = 0.8  # of that time: this command speaks before Ray ends it without a word


@dataclass
class Head:
    """Where the head is; "" as long as that is not known."""

    address: str = ""  # host:port

    def answers(self) -> bool:
        """Whether something listens there. An address that cannot be looked up counts as silent."""
        host, _, port = self.address.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=EVERY):
                return True
        except (OSError, ValueError):
            return False


def patience() -> float:
    """Seconds that a head may be away: a little less than the nodes wait for it (Ray's own setting)."""
    given = os.environ.get(NODES_WAIT_VARIABLE, "")
    return EARLIER * (float(given) if given.replace(".", "", 1).isdigit() else NODES_WAIT)


def give_up(head: Head) -> None:
    """End this process: what waits for the head cannot be woken."""
    sys.stderr.write(
        f"\nerror: the head of the cluster ({head.address}) has not answered for {patience():.0f} s; what is finished "
        "is kept: start the cluster again, then type the same command again\n"
    )
    sys.stderr.flush()
    os._exit(2)


@contextmanager
def watched(head: Head, lost: Callable[[Head], None] = give_up) -> Iterator[None]:
    """Call ``lost`` once when the head stays silent for ``patience()`` seconds during the block."""
    stop, limit = threading.Event(), patience()

    def watch() -> None:
        heard = time.monotonic()
        while not stop.wait(EVERY):
            if not head.address or head.answers():
                heard = time.monotonic()
            elif time.monotonic() - heard > limit:
                lost(head)
                return

    with beside(watch, stop):
        yield


@contextmanager
def beside(work: Callable[[], None], stop: threading.Event) -> Iterator[None]:
    """Work on a thread of its own for the time of the block; ``stop`` is set at its end, and tells the work to end."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)
