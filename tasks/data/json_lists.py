"""The long lists of a JSON file, an element at a time: the file may be far larger than memory."""

import codecs
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from json.decoder import JSONDecodeError
from typing import Any, BinaryIO, NamedTuple

from msgspec.json import Decoder

from tasks.data.files import Place, check_key, listed_file

_BLOCK = 1 << 20  # bytes that are read at a time, at least
_LOST = 1 << 24  # characters behind an error, from which on it is one, and not the end of what is held
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*(?=[^ \t\n\r])").match
_decode = json.JSONDecoder().raw_decode
_fast_decode = Decoder().decode  # refuses what it would read otherwise than ``json``
_TRIES = 3  # closing braces at which an object may end, before it is read the slow way


Kinds = Mapping[str, type | tuple[type, ...]]  # of keys that must be there


class Element(NamedTuple):
    """One value of a file, and where it stands."""

    key: str  # of the list that it is in, or its own; "" where the whole file is a list
    value: Any
    is_listed: bool  # an element of a list; else the value of a key of the file
    offset: int  # bytes
    length: int


def read_elements(path: Place, lists: Sequence[str] = (), begun: list[str] | None = None) -> Iterator[Element]:
    """Every value of a JSON file in its order: each element of its ``lists``, and the other keys as a whole.

    Where the file is one list: its elements. ``begun`` gets the names of the lists that are there, be they empty.
    ValueError names the file and the place where it is no such JSON.
    """
    with listed_file(path).open("rb") as file:
        text = _Text(file, path)
        if text.takes("["):
            yield from _listed(text, "")
        elif text.takes("{"):
            is_first = True
            while text.goes_on("}", is_first):
                is_first = False
                key = str(text.value().value)
                text.expect(":")
                if key in lists and text.takes("["):
                    if begun is not None:
                        begun.append(key)
                    yield from _listed(text, key)
                else:
                    yield text.value(key)
        else:
            raise text.wrong("an object or a list")
        if text.peek():
            raise text.wrong("nothing behind the end")


def rows(path: Place, keys: Kinds) -> Iterator[dict[str, Any]]:
    """The objects of a file that is one list, in their order.

    ValueError names the file and the row that is no JSON object, or lacks one of ``keys`` (name -> type).
    """
    for number, element in enumerate(read_elements(path)):
        if not element.is_listed:
            raise ValueError(f"{path}: holds an object; expected a list of rows: copy the file again")
        for name, kind in keys.items():
            check_key(element.value, name, kind, f"{path}: row {number}")
        yield element.value


def _listed(text: "_Text", key: str) -> Iterator[Element]:
    is_first = True
    while text.goes_on("]", is_first):
        is_first = False
        yield text.value(key, is_listed=True)


def read_object(data: bytes) -> Any:
    """The value of a JSON text. What the fast library does not take (NaN), the standard one does."""
    try:
        return _fast_decode(data)
    except (ValueError, RecursionError):
        return json.loads(data)


def _object_at(text: str, at: int) -> tuple[Any, int] | None:
    """An object with little nesting, and where it ends, several times as fast; None where it is not one.

    No beginning of an object is an object, so the first brace up to which the text is one is its end.
    """
    if text[at : at + 1] != "{":
        return None
    end = at
    for _ in range(_TRIES):
        end = text.find("}", end) + 1
        if not end:
            return None
        try:
            return _fast_decode(text[at:end]), end
        except (ValueError, RecursionError):
            continue
    return None


class _Text:
    """A file from its beginning to its end, of which little is held."""

    def __init__(self, file: BinaryIO, path: Place) -> None:
        self._file, self._path = file, path
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._held, self._at = "", 0
        self._offset = 0  # of self._at in the file, in bytes

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            rest = self._held[self._at : self._at + 1]
            if not rest and not self._more(_BLOCK):
                return ""
            if rest and not (rest.isspace() or rest == "\ufeff"):
                return rest
            self._step(len(rest))

    def takes(self, character: str) -> bool:
        """Step over this character, if it comes next."""
        found = self.peek() == character
        self._step(int(found))
        return found

    def expect(self, character: str) -> None:
        if not self.takes(character):
            raise self.wrong(repr(character))

    def goes_on(self, end: str, is_first: bool) -> bool:
        """Whether a value comes next; steps over the comma before it, or over the end of its list."""
        if not is_first and (comma := _COMMA(self._held, self._at)):
            self._step(comma.end() - self._at)
            return True
        if self.takes(end):
            return False
        if not is_first:
            self.expect(",")
        return True

    def value(self, key: str = "", is_listed: bool = False) -> Element:
        """The value that comes next."""
        self.peek()
        block, is_end = _BLOCK, False
        while (found := self._decoded(is_end)) is None:
            if is_end:
                raise self.wrong("a whole JSON value")
            is_end = not self._more(block)
            block *= 2
        value, end = found
        offset = self._offset
        self._step(end - self._at)
        return Element(key, value, is_listed, offset, self._offset - offset)

    def _decoded(self, is_end: bool) -> tuple[Any, int] | None:
        """The value that comes next, and where it ends; None where it may go on behind what is held."""
        if (found := _object_at(self._held, self._at)) is not None:
            return found
        try:
            value, end = _decode(self._held, self._at)
        except JSONDecodeError as error:
            if len(self._held) - error.pos > _LOST:
                raise self.wrong("a JSON value") from None
            return None
        except RecursionError:
            raise self.wrong("a value that is not nested so deeply") from None
        except ValueError:  # Python reads no longer numbers
            raise self.wrong("numbers of less than 4300 digits") from None
        may_go_on = isinstance(value, int | float) and not is_end and self._held[end : end + 1] in ("", ".", "e", "E")
        return None if may_go_on else (value, end)

    def _step(self, count: int) -> None:
        part = self._held[self._at : self._at + count]
        self._offset += len(part) if part.isascii() else len(part.encode())
        self._at += count

    def _more(self, count: int) -> bool:
        data = self._file.read(count)
        try:
            text = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError:
            raise self.wrong("UTF-8") from None
        self._held, self._at = self._held[self._at :] + text, 0
        return bool(data)

    def wrong(self, expected: str) -> ValueError:
        """What to tell about what comes next."""
        found = self._held[self._at : self._at + 20] or "the end of the file"
        return ValueError(
            f"{self._path}: is not JSON at byte {self._offset} ({found!r}); expected {expected}: export the file again"
        )
