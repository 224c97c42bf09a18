"""Who is to blame for an error that comes out of a strategy, and for what."""

import inspect
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from orchestrator.errors import ConfigError, MtalError
from strategies.base import Strategy


@contextmanager
def blamed(strategies: Mapping[str, Strategy]) -> Iterator[None]:
    """Whatever comes out of strategies, as one sentence: which one, on which line of it, what."""
    try:
        yield
    except (MtalError, MemoryError, torch.OutOfMemoryError):  # the memory is the dispatcher's to mend
        raise
    except Exception as error:  # a strategy that somebody brings may raise anything
        if isinstance(error, ValueError) and str(error).startswith("strategy "):
            raise ConfigError(str(error)) from error
        frames = traceback.extract_tb(error.__traceback__)
        held = [one for strategy in strategies.values() for one in _with_members(strategy)]
        own = {inspect.getsourcefile(type(strategy)) for strategy in held}
        frame = next((frame for frame in reversed(frames) if frame.filename in own), frames[-1])
        raise ConfigError(
            f"strategy {', '.join(map(repr, strategies))}: {type(error).__name__}: {error} "
            f"({Path(frame.filename).name}, line {frame.lineno}); expected an answer: mend it, 'mtal check' tells "
            "more"
        ) from error


def _with_members(strategy: Strategy) -> Iterator[Strategy]:
    """A strategy, and those that it holds, however deep."""
    yield strategy
    for value in vars(strategy).values():
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Strategy):
                yield from _with_members(one)
