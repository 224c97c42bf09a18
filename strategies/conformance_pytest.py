"""The laws of a strategy as tests.  @plugin-dev: the one module of mtal's own that needs pytest; import it in tests.

Decorate one test, whose body calls the check::

    @parametrize_with_checks([LeastSure(), LeastSure(floor=0.3)])
    def test_it_keeps_the_law(strategy, check):
        check(strategy)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING

import pytest

from strategies.base import Strategy
from strategies.conformance import CHECKS, checked_reasons

Reasons = Mapping[str, str]  # {name of a check: why it cannot hold}


def parametrize_with_checks(
    strategies: Sequence[Strategy], expected_failures: Reasons | Callable[[Strategy], Reasons] | None = None
) -> pytest.MarkDecorator:
    """A decorator: the test runs once for each ``strategy`` and ``check``, and is named after both.

    A check that cannot hold is expected to fail, with its reason: for all strategies, or as a function of the strategy.
    Such a test is an xfail while the check fails, and fails once the check holds. ValueError for an unknown check, for
    no reason, and for what is no strategy.
    """
    rows = []
    for place, strategy in enumerate(strategies):
        if not isinstance(strategy, Strategy):
            raise ValueError(f"parametrize_with_checks: strategies[{place}] is {strategy!r}; expected Strategy objects")
        reasons = expected_failures(strategy) if callable(expected_failures) else expected_failures or {}
        reasons = checked_reasons(reasons)
        for name, check in CHECKS.items():
            why = reasons.get(name)
            marks = [pytest.mark.xfail(reason=why, raises=AssertionError, strict=True)] if why else []
            rows.append(pytest.param(strategy, check, marks=marks, id=f"{_called(strategy)}-{name}"))
    return pytest.mark.parametrize(("strategy", "check"), rows)


def _called(strategy: Strategy) -> str:
    """Its class, and the options that are not as they come."""
    told = []
    for name, option in getattr(strategy, "__dataclass_fields__", {}).items():
        usual = option.default if option.default_factory is MISSING else option.default_factory()
        if (value := getattr(strategy, name)) != usual:
            told.append(f"{name}={value!r}")
    return f"{type(strategy).__name__}({', '.join(told)})"
