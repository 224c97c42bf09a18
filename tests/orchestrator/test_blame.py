"""Errors of strategies: one sentence each, and what is not theirs passes."""

import pytest

from orchestrator.blame import blamed
from orchestrator.errors import ConfigError, RunError
from strategies.uniform import Random


def test_what_comes_out_of_a_strategy_names_it() -> None:
    with pytest.raises(ConfigError, match=r"strategy 'x': ZeroDivisionError: .*test_blame.py, line \d+\); expected an"):
        with blamed({"x": Random()}):
            raise ZeroDivisionError("division by zero")
    with pytest.raises(ConfigError, match=r"^strategy 'x': value is nan$"):
        with blamed({"x": Random()}):
            raise ValueError("strategy 'x': value is nan")


@pytest.mark.parametrize("error", [RunError("data: gone"), MemoryError()])
def test_what_is_not_its_own_passes(error: Exception) -> None:
    with pytest.raises(type(error)):
        with blamed({"x": Random()}):
            raise error
