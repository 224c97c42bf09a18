"""Processes that train one model together: how they meet, and what they tell each other.

They meet at a port of the first one (a store of torch's), on the address of its node alone: no shared folder is needed,
and a cluster on loopback stays on loopback. gloo carries what they say on CPUs, nccl on GPUs.
"""

import io
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psutil
import torch
import torch.distributed as dist
from torch import Tensor

from orchestrator.errors import ConfigError
from orchestrator.workers import GroupLost, Seat

MEETING = timedelta(minutes=5)  # to wait for a process that does not come
SILENCE = timedelta(hours=1)  # to wait for one that says nothing: the first may be judging a checkpoint meanwhile


@dataclass(frozen=True)
class Group:
    """One process of those that train together; alone by default, and then nothing is sent."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    def share(self, parts: int) -> range:
        """The parts of a batch that are this process's: neighbours, as many as any other's."""
        assert parts % self.world == 0
        each = parts // self.world
        return range(self.rank * each, (self.rank + 1) * each)

    def add(self, values: Tensor) -> Tensor:
        """``values`` summed over the processes, in place: the same bits on each. GroupLost where one is gone."""
        if self.world > 1:
            with _lost():
                dist.all_reduce(values)
        return values

    def from_first(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """The first process's tensors and plain values, on every process."""
        if self.world == 1:
            return dict(content)
        packed = io.BytesIO()
        if self.rank == 0:
            torch.save(dict(content), packed)
        size = torch.tensor([len(packed.getbuffer())], device=self.device)
        self.add(size)  # the others' are 0
        data = torch.zeros(int(size), dtype=torch.uint8)
        if self.rank == 0:
            data = torch.frombuffer(packed.getbuffer(), dtype=torch.uint8).clone()
        data = data.to(self.device)
        with _lost():
            dist.broadcast(data, src=0)
        received = io.BytesIO(data.cpu().numpy().tobytes())
        found: dict[str, Any] = torch.load(received, map_location=self.device, weights_only=True)
        return found


def listen(host: str) -> socket.socket:
    """A socket on any free port of this address, at which the others will be met."""
    return socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


@contextmanager
def joined(seat: Seat | None, device: torch.device, door: socket.socket | None = None) -> Iterator[Group]:
    """The group that this process trains in, for the time of the block; without a seat it is alone.

    ``door`` is the first process's listening socket; it is closed at the end. GroupLost where others do not come.
    """
    if seat is None:
        yield Group(device=device.type)
        return
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if name not in os.environ:
            os.environ[name] = _interface(seat.host)
    listening = None if door is None else door.detach()
    try:
        with _lost():
            store = dist.TCPStore(  # type: ignore[attr-defined]
                *seat.meet, seat.world, seat.rank == 0, MEETING, wait_for_workers=False, master_listen_fd=listening
            )
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=store, rank=seat.rank, world_size=seat.world, timeout=SILENCE)
        group = Group(seat.rank, seat.world, device.type)
        yield group
        group.add(torch.zeros(1, device=device))  # nobody leaves, and takes the store along, before all are done
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def _lost() -> Iterator[None]:
    """What torch says of a process that is gone (or never came) as GroupLost."""
    try:
        yield
    except RuntimeError as error:
        raise GroupLost(
            "train.processes: a process that trains with this one does not answer "
            f"({str(error).splitlines()[0][:160]}); expected all to live: type the same command again"
        ) from error


def _interface(host: str) -> str:
    """The name of the network interface with this address. ConfigError where this machine has none."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address.partition("%")[0] == host for one in addresses):
            return name
    raise ConfigError(
        f"train.processes: no network interface of this node has the address {host}; expected one: set "
        "GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME in the environment of the cluster's nodes"
    )
