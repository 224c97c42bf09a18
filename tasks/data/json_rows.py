"""The rows of a JSON list that may be larger than memory, one at a time."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from tasks.data.files import check_key

CHUNK = 1 << 20  # characters that are read at a time
LONGEST = 64 << 20  # characters of a row; a longer one is taken for a broken file

Kinds = Mapping[str, type | tuple[type, ...]]


def rows(path: Path, keys: Kinds) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list in their order; what is in memory is one row and a chunk of the file.

    ValueError names the file and the row that is no JSON object, or lacks one of ``keys`` (name -> type).
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, row in enumerate(_values(file, path)):
                for name, kind in keys.items():
                    check_key(row, name, kind, f"{path}: row {number}")
                yield row
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected a table of the data set: restore it") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not text in UTF-8 ({error}); expected a JSON list: copy it again") from None


def _values(file: TextIO, path: Path) -> Iterator[Any]:
    """Each value of the list. One that the buffer holds in part is tried again with twice as much of the file."""
    decoder, text, at, size, number = json.JSONDecoder(), "", 0, CHUNK, 0
    expected = "["  # then "value or ]", then ", or ]" and "value" by turns
    while True:
        at = _after_blanks(text, at)
        sign = text[at : at + 1]
        try:
            if sign == "]" and "]" in expected:
                return
            if expected == "value" or (expected == "value or ]" and sign):
                value, at = decoder.raw_decode(text, at)
                yield value
                number, size, expected = number + 1, CHUNK, ", or ]"
                continue
            if sign and sign in expected:
                at, expected = at + 1, "value or ]" if sign == "[" else "value"
                continue
            why = f"expected {expected}"
        except json.JSONDecodeError as error:
            why = error.msg
        more = "" if sign and not expected.startswith("value") else file.read(size)
        if not more or len(text) - at > LONGEST:
            row = f"row {number} is not JSON" if number or expected != "[" else "is no JSON list"
            raise ValueError(
                f"{path}: {row} ({why}, found {text[at : at + 20]!r}); expected a list of rows: copy the file again"
            )
        text, at, size = text[at:] + more, 0, 2 * size


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at
