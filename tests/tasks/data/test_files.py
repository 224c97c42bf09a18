"""Files are found, written all or nothing, and named when something is wrong."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.data.files import (
    check_key,
    local_file,
    place,
    read_bytes,
    read_json,
    relative_uri,
    remove_tree,
    resolve,
    staged,
    uris_below,
    version,
    write_bytes,
)


def test_uris_are_relative_to_the_base(tmp_path: Path) -> None:
    write_bytes("a/b.bin", tmp_path, b"one")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"one"
    assert read_bytes("a/b.bin", tmp_path) == b"one"
    assert read_bytes(str(tmp_path / "a" / "b.bin"), Path("/nowhere")) == b"one"
    assert resolve(f"file://{tmp_path}/x", Path("/nowhere")) == tmp_path / "x"


def test_a_uri_below_the_base_can_move_with_it(tmp_path: Path) -> None:
    assert relative_uri(tmp_path / "x" / "y.png", tmp_path) == "x/y.png"
    assert relative_uri(tmp_path / "x" / "y.png", tmp_path / "z") == str(tmp_path / "x" / "y.png")


def test_uris_of_other_kinds_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"gs://bucket/a.jpg: is a gs:// uri; expected a local path or s3://bucket/path"
    ):
        resolve("gs://bucket/a.jpg", Path())


def test_local_files_are_themselves(tmp_path: Path) -> None:
    path = place(str(tmp_path / "a.txt"))
    assert path == place(f"file://{tmp_path}/a.txt") == place(tmp_path / "a.txt")
    assert version(path) == ""
    path.write_text("one")
    first = version(path)
    assert first == version(path)
    os.utime(path, ns=(1, 1))
    assert version(path) != first
    assert local_file(path) == path
    remove_tree(tmp_path)
    remove_tree(tmp_path)  # what is not there is no fault
    assert not tmp_path.exists()


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.jpg: no such file; expected"):
        read_bytes("none.jpg", tmp_path)
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder.jpg: is a folder; expected a file"):
        read_bytes("folder.jpg", tmp_path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="killed"), staged(target) as draft:
        draft.write_text("ne")
        raise RuntimeError("killed")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_problems_say_where_and_what(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text, message in [
        ('{"images": [', r"a.json: is not JSON \(Expecting value: line 1"),
        ("\xff", "a.json: is not JSON"),
        ("[1]", "a.json: holds a JSON list; expected an object with images"),
        ("{}", r"a.json: has the keys \(none\); expected 'images' \(list\)"),
        ('{"images": 3}', "a.json: 'images' is '3'; expected list"),
    ]:
        path.write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match=message):
            read_json(path, {"images": list})
    path.write_text('{"images": [1], "more": 2}')
    assert read_json(path, {"images": list}) == {"images": [1], "more": 2}


def test_keys_of_a_part_are_checked() -> None:
    assert check_key({"id": 3}, "id", (int, str), "a.json: images[0]") == 3
    with pytest.raises(ValueError, match=r"a.json: images\[0\]: 'id' is 'True'; expected int or str"):
        check_key({"id": True}, "id", (int, str), "a.json: images[0]")
    with pytest.raises(ValueError, match=r"a.json: images\[0\]: has 7; expected 'id'"):
        check_key(7, "id", int, "a.json: images[0]")


@given(
    st.sampled_from(["a", "/data/a", "/data", ".", "s3://bucket/a", "s3://bucket", "a/b/../c"]),
    st.sampled_from(["a", "/data", "/data/a/b", "/data/a", ".", "s3://bucket", "s3://bucket/a/b", "a/b"]),
    st.lists(st.sampled_from(["x", "b", "..", ".", "", "/", "é y", "s3://bucket/k", "x.jpg"]), max_size=4),
)
def test_uris_of_many_names_are_those_of_each(folder: str, base: str, words: list[str]) -> None:
    name = "/".join(words)
    try:
        expected = relative_uri(resolve(name, place(folder)), place(base))
    except ValueError:
        return
    assert uris_below(place(folder), place(base))(name) == expected
