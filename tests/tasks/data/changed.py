"""One change in the content of a JSON file, for tests of what is then said."""

from collections.abc import Callable
from typing import Any


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    """What sets the value at a path of keys and indices; the last argument is the value."""

    def change(value: dict[str, Any]) -> None:
        place: Any = value
        for key in path[:-2]:
            place = place[key]
        place[path[-2]] = path[-1]

    return change
