"""Templates of pages: what comes from outside is escaped, what is missing is a fault."""

import pytest
from jinja2 import UndefinedError

from orchestrator.pages import template


def test_names_from_outside_are_escaped_and_missing_ones_are_a_fault() -> None:
    page = template("parts.html")
    assert template("parts.html") is page
    with pytest.raises(UndefinedError):
        page.render()
    names = page.environment.from_string("{{ name }}")
    assert names.render(name="<script>") == "&lt;script&gt;"
