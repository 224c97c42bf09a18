"""A head that goes away is noticed; one that stays, or is not known yet, is not."""

import socket
import subprocess
import sys
import threading

import pytest

from orchestrator import head_watch
from orchestrator.head_watch import Head, patience, watched


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "0.2")
    monkeypatch.setattr(head_watch, "EVERY", 0.02)


def listening() -> tuple[socket.socket, str]:
    one = socket.create_server(("127.0.0.1", 0))
    return one, f"127.0.0.1:{one.getsockname()[1]}"


@pytest.mark.slow
def test_a_head_that_goes_away_is_noticed_once() -> None:
    server, address = listening()
    lost, calls = threading.Event(), list[Head]()
    head = Head(address)
    with watched(head, lambda one: (calls.append(one), lost.set())[0]):
        assert not lost.wait(0.5)
        server.close()
        assert lost.wait(30)
    assert calls == [head]


def test_a_head_that_comes_back_in_time_was_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "3600")
    server, address = listening()
    lost = threading.Event()
    with watched(Head(address), lambda _: lost.set()):
        server.close()
        assert not lost.wait(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("address", ["", "nonsense", "127.0.0.1:notaport"])
def test_an_address_that_is_none(address: str) -> None:
    lost = threading.Event()
    with watched(Head(address), lambda _: lost.set()):
        assert lost.wait(1.0) == bool(address)


@pytest.mark.slow
def test_the_command_ends_with_a_sentence() -> None:
    code = "import time; from orchestrator.head_watch import *\nwith watched(Head('127.0.0.1:9')): time.sleep(300)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "error: the head of the cluster (127.0.0.1:9) has not answered" in done.stderr
    assert "type the same command again" in done.stderr


def test_patience_is_shorter_than_that_of_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, nodes in (("15", 15.0), ("", 60.0), ("soon", 60.0)):
        monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", given)
        assert 0.5 * nodes < patience() < nodes
