"""Rows of a JSON list, a chunk of the file at a time."""

import json
import tracemalloc
from pathlib import Path

import pytest

from tasks.data import json_rows
from tasks.data.json_rows import rows


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1 << 20])
def test_every_row_whatever_the_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(json_rows, "CHUNK", chunk)
    content = [{"a": i, "text": 'ü ,]}{" \\ \u2603', "list": [[1.5e-3, None, True], {}]} for i in range(9)]
    for indent in (None, 0, 2):
        (tmp_path / "table.json").write_text(" \n" + json.dumps(content, indent=indent) + "\n", encoding="utf-8")
        assert list(rows(tmp_path / "table.json", {"a": int})) == content
    (tmp_path / "table.json").write_text("[ ]")
    assert list(rows(tmp_path / "table.json", {"a": int})) == []


def test_a_large_table_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "CHUNK", 1 << 14)
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
        ("", r"is no JSON list .*copy the file again"),
        ('{"a": 1}', r"is no JSON list \(expected \[, found '{\"a\": 1}'\)"),
        ('[{"a": 1}, {"a"', r"row 1 is not JSON .*copy the file again"),
        ('[{"a": 1} {"a": 2}]', r"row 1 is not JSON \(expected , or ], found '{\"a\": 2}]'\)"),
        ('[{"a": 1},]', r"row 1 is not JSON"),
        ('[{"a": 1}', r"row 1 is not JSON"),
        ('[{"a": 1}, nonsense]', r"row 1 is not JSON"),
        ('[{"b": 1}]', r"row 0: has the keys b; expected 'a' \(int\)"),
        ("[1]", r"row 0: has 1; expected 'a'"),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(ValueError, match=rf"table.json: {told}"):
        list(rows(tmp_path / "table.json", {"a": int}))


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone.json: no such file"):
        list(rows(tmp_path / "gone.json", {}))
    (tmp_path / "table.json").write_bytes(b'[{"a": "\xff"}]')
    with pytest.raises(ValueError, match=r"is not text in UTF-8"):
        list(rows(tmp_path / "table.json", {}))
