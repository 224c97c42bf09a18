"""What the conformance suite watches while a strategy works: its errors, the global generators, files it opens."""

import os
import pickle
import random
import sys
import threading
from types import TracebackType
from typing import ClassVar, Self

import numpy as np
import torch

_CODE = (".py", ".pyc", ".pyi", ".so", ".pyd", ".dll", ".dylib")
_SYSTEM = ("/proc/", "/sys/", "/dev/", os.path.join(sys.prefix, ""), os.path.join(sys.base_prefix, ""))
_EVENTS = (
    "open", "os.scandir", "sqlite3.connect", "socket.connect", "subprocess.Popen", "os.system", "gc.get_objects",
    "gc.get_referrers",
)  # fmt: skip


class NothingToTry(Exception):
    """A check does not apply to this strategy; its text says why."""


class Attempt:
    """Keeps the error of its block: a broken strategy is reported, and ends nothing."""

    error: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if not isinstance(error, Exception):
            return False
        self.error = error
        return True


class GlobalRngs:
    """The global generators of random, numpy and torch, put back at the end."""

    def __enter__(self) -> Self:
        self._numpy = np.random.get_state(legacy=False)  # noqa: NPY002 - the guard against it must look at it
        self._random, self._torch = random.getstate(), torch.get_rng_state()
        self.saved = self.states()
        return self

    def __exit__(self, *_: object) -> None:
        np.random.set_state(self._numpy)  # noqa: NPY002
        random.setstate(self._random)
        torch.set_rng_state(self._torch)

    def states(self) -> bytes:
        """All of them, to be compared."""
        numpy = np.random.get_state(legacy=False)  # noqa: NPY002
        return pickle.dumps((numpy, random.getstate(), torch.get_rng_state().numpy().tobytes()))

    def poison(self) -> None:
        """Move every one of them."""
        random.random()
        torch.rand(1)
        np.random.random()  # noqa: NPY002


class Lookouts:
    """What this thread looks at outside of its arguments: files, programs, the network, all objects in memory.

    Code that is imported, what is installed with Python and files of the system do not count.
    """

    _watching: ClassVar[dict[int, list[str]]] = {}  # thread: what was found
    _hooked: ClassVar[bool] = False

    def __enter__(self) -> Self:
        if not Lookouts._hooked:  # a hook can never be taken off, so there is one
            sys.addaudithook(_notice)
            Lookouts._hooked = True
        self.found: list[str] = []
        Lookouts._watching[threading.get_ident()] = self.found
        return self

    def __exit__(self, *_: object) -> None:
        Lookouts._watching.pop(threading.get_ident(), None)

    @classmethod
    def here(cls) -> list[str] | None:
        """Where to write down what this thread does; None where it is not watched."""
        return cls._watching.get(threading.get_ident())


def _notice(event: str, details: tuple[object, ...]) -> None:
    if event not in _EVENTS or (found := Lookouts.here()) is None:
        return
    what = details[0] if details else ""
    if event == "open":
        if not isinstance(what, str | bytes | os.PathLike):  # a descriptor that is open already
            return
        path = os.path.abspath(os.fsdecode(what))
        if path.endswith(_CODE) or path.startswith(_SYSTEM):
            return
        what = path
    found.append(f"{event} {what!r}" if event in ("open", "os.scandir", "subprocess.Popen", "os.system") else event)
