"""A strategy against the laws that all strategies keep, by name."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from orchestrator.components import Component, make
from orchestrator.errors import ConfigError
from orchestrator.pool_scoring import named
from strategies.base import Strategy
from strategies.conformance import CheckResult, check_strategy


def check_named_strategy(text: str) -> list[CheckResult]:
    """The result of every check of a strategy: a name, ``module:Class``, or YAML with options."""
    component: Component = next(iter(named([text], option="").values()))
    strategy = make("strategy", component, text)
    if not isinstance(strategy, Strategy):
        raise ConfigError(
            f"{text}: makes a {type(strategy).__name__}; expected a subclass of strategies.base.Strategy: derive it"
        )
    return check_strategy(strategy)


def check_table(name: str, results: Sequence[CheckResult]) -> Table:
    """One row a check: what it is called, whether it holds, and what it demands, or what was found where it fails."""
    table = Table(title=f"{escape(name)}: {sum(r.ok for r in results)} of {len(results)} checks hold")
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("what it demands, or what was found")
    for result in results:
        said = "[green]ok[/green]" if result.ok else "[bold red]FAILED[/bold red]"
        table.add_row(escape(result.name), said, escape(result.why or result.law))
    return table
