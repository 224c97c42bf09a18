"""The plot of a bench as text. The curves of a report are tested with the report."""

import re

from orchestrator.figures import scaling_svg

SERIES = {
    "shards of 16": [(1, 18.9, 19.4, 19.7), (2, 36.1, 37.2, 38.0), (4, 68.0, 71.5, 73.0)],
    "shards of 64": [(4, 70.0, 76.5, 77.0), (1, 19.5, 20.1, 20.3)],
}


def texts(svg: str) -> list[str]:
    return re.findall(r">([^<>]+)</text>", svg)


def test_a_scaling_plot_names_its_series_and_the_ideal() -> None:
    svg = scaling_svg(SERIES, "demo: equal, small, 96 x 160 px")
    said = texts(svg)
    assert {"demo: equal, small, 96 x 160 px", "images a second", "workers", "in proportion", "1", "2", "4"} <= set(
        said
    )
    assert [one for one in said if one.endswith(tuple(SERIES))] == ["■ shards of 16", "◆ shards of 64"]
    assert svg == scaling_svg(SERIES, "demo: equal, small, 96 x 160 px")


def test_one_number_of_workers_has_no_ideal() -> None:
    said = texts(scaling_svg({"shards of 4": [(1, 9.0, 10.0, 11.0)]}, "one"))
    assert "in proportion" not in said
    assert "■ shards of 4" in said


def test_small_numbers_do_not_run_into_each_other() -> None:
    counts = [2**k for k in range(8)]
    said = texts(scaling_svg({"a": [(n, n - 0.1, float(n), n + 0.1) for n in counts]}, "many"))
    ticks = said[: said.index("workers")]
    assert ticks[-1] == "128"
    assert not {"1", "4"} & set(ticks)
