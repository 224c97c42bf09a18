"""Who holds a lease, and whether it still can. Leases on a server are in tests/s3."""

import os
import subprocess
import sys

import psutil

from orchestrator.lease import Holder


def test_a_holder_comes_back_from_what_it_writes() -> None:
    me = Holder.me()
    assert me.pid == os.getpid()
    assert Holder.of(me.written(3)) == me
    assert me.written(3) != me.written(4)  # every renewal is another version of the object
    for data in (b"", b"{", b"[]", b'{"pid": 3}', b"\xff"):
        assert Holder.of(data) is None


def test_the_dead_are_known_on_their_own_machine_only() -> None:
    me = Holder.me()
    assert not me.is_dead()
    assert Holder("t", me.machine, me.pid, me.started - 100).is_dead()  # another process had this number before
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(child.pid).create_time()
    held = Holder("t", me.machine, child.pid, started)
    assert not held.is_dead()
    child.communicate(b"\n")
    assert held.is_dead()
    assert not Holder("t", "elsewhere", child.pid, started).is_dead()
