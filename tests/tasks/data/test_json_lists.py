"""A JSON file an element at a time is the same as the whole file, wherever its blocks end."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tasks.data import json_lists
from tasks.data.json_lists import read_elements, rows

CONTENT: dict[str, Any] = {
    "info": {"a": 1, "é": "ü€😀"},
    "images": [{"id": i, "n": "ä" * (i % 5), "x": [1.5] * i} for i in range(40)],
    "number": -12.5e3,
    "annotations": [],
    "categories": [1, 22, 333],
    "none": None,
}


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, indent: int | None) -> None:
    monkeypatch.setattr(json_lists, "_BLOCK", block)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(CONTENT, indent=indent, ensure_ascii=False), encoding="utf-8")
    begun: list[str] = []
    found = list(read_elements(path, ("images", "annotations"), begun))
    assert begun == ["images", "annotations"]
    assert [one.value for one in found if one.is_listed] == CONTENT["images"]
    rest = {one.key: one.value for one in found if not one.is_listed}
    assert rest == {k: v for k, v in CONTENT.items() if k not in ("images", "annotations")}
    data = path.read_bytes()
    assert all(json.loads(data[one.offset : one.offset + one.length]) == one.value for one in found)


def test_a_file_that_is_a_list(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("\ufeff [ {} , 3 , [1] ]\n", encoding="utf-8")
    assert [(one.key, one.value) for one in read_elements(path)] == [("", {}), ("", 3), ("", [1])]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected an object or a list"),
        ("3", "expected an object or a list"),
        ("[1,", "at byte 3 .'the end of the file'.; expected a whole JSON value"),
        ('{"a" 1}', "at byte 5 .'1}'.; expected ':'"),
        ("[1 2]", "expected ','"),
        ('{"images":[1,2}', "expected ','"),
        ("[1]x", "expected nothing behind the end"),
        ("[" * 100_000, "not nested so deeply"),
        (f"[{'1' * 5000}]", "expected numbers of less than 4300 digits"),
    ],
)
def test_what_is_no_json(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        list(read_elements(path, ("images",)))


def test_what_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match="expected UTF-8"):
        list(read_elements(path))


@pytest.mark.slow
def test_a_large_table_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lists, "_BLOCK", 1 << 14)
    with (tmp_path / "table.json").open("w") as file:
        file.write("[")
        file.writelines(f'{"," if i else ""}\n{{"token": "{i:0200d}"}}' for i in range(20_000))
        file.write("]")
    tracemalloc.start()
    count = sum(1 for _ in rows(tmp_path / "table.json", {"token": str}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < (tmp_path / "table.json").stat().st_size / 10


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1}', r"holds an object; expected a list of rows"),
        ('[{"b": 1}]', r"row 0: has the keys b; expected 'a' \(int\)"),
        ("[1]", r"row 0: has 1; expected 'a'"),
    ],
)
def test_a_row_that_is_broken_is_named(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(ValueError, match=rf"table.json: {told}"):
        list(rows(tmp_path / "table.json", {"a": int}))


def test_a_table_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone.json: no such file"):
        list(rows(tmp_path / "gone.json", {}))
