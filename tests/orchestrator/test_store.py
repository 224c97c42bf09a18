"""The run folder: all or nothing, markers created once, damage and changes named."""

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.errors import RunError
from orchestrator.store import (
    RunFolder,
    commit,
    differences,
    fingerprint,
    read_json,
    read_table,
    replacing,
    write_json,
    write_table,
    write_tables,
    write_text,
)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("new")
        _ = 1 // 0
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(RunError, match=r"could not be written: No space left on device; make room"):
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.symlink_to("/dev/full")
            with temporary.open("w") as handle:
                handle.write("x" * 100_000)
    assert os.listdir(tmp_path) == []


def test_tables_after_each_other_are_one_file_or_none(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b", "c", "d", "e"], "n": [1, 2, 3, 4, 5]})
    write_table(tmp_path / "whole.parquet", table)
    write_tables(tmp_path / "one.parquet", [table])
    write_tables(tmp_path / "parts.parquet", (table.slice(start, 2) for start in (0, 2, 4)))
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert read_table(tmp_path / "parts.parquet").equals(table)
    assert pq.read_metadata(tmp_path / "parts.parquet").num_row_groups == 3

    def broken() -> Iterator[pa.Table]:
        yield table
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_tables(tmp_path / "parts.parquet", broken())
    assert read_table(tmp_path / "parts.parquet").equals(table)
    assert sorted(os.listdir(tmp_path)) == ["one.parquet", "parts.parquet", "whole.parquet"]


def test_the_first_commit_stands(tmp_path: Path) -> None:
    commit(tmp_path / "done.json", {"by": 1})
    commit(tmp_path / "done.json", {"by": 2})
    assert read_json(tmp_path / "done.json") == {"by": 1}
    assert os.listdir(tmp_path) == ["done.json"]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(RunError, match=r"a\.json: is not readable as JSON; delete this file"):
        read_json(tmp_path / "a.json")
    with pytest.raises(RunError, match=r"a\.parquet: is not readable as parquet; delete this file"):
        read_table(tmp_path / "a.parquet")


def test_tables_come_back(tmp_path: Path) -> None:
    table = pa.table({"x": [1, 2]}).replace_schema_metadata({"inputs": "abc"})
    write_table(tmp_path / "deep" / "t.parquet", table)
    back = read_table(tmp_path / "deep" / "t.parquet")
    assert back.equals(table)
    assert back.schema.metadata[b"inputs"] == b"abc"


def test_fingerprints_follow_values_not_order() -> None:
    assert fingerprint({"a": 1, "b": (1, 2)}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_differences_are_dotted() -> None:
    old = {"train": {"steps": 1, "rate": 0.1}, "gone": 1}
    new = {"train": {"steps": 2, "rate": 0.1}, "new": [1]}
    assert differences(old, new) == ["gone: 1 -> nothing", "new: nothing -> [1]", "train.steps: 1 -> 2"]


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    marker = folder.cycle("a", 0, 0) / "cycle.json"
    folder.require_same(marker, {"x": 1}, "a")  # nothing there yet
    commit_to = {"inputs": {"train": {"steps": 1}}}
    write_json(marker, commit_to)
    folder.require_same(marker, {"train": {"steps": 1}}, "a")
    with pytest.raises(RunError, match=r"train\.steps: 1 -> 2.*--fresh a"):
        folder.require_same(marker, {"train": {"steps": 2}}, "a")


def _hold(root: str, ready: "multiprocessing.synchronize.Event", stop: "multiprocessing.synchronize.Event") -> None:
    with RunFolder(Path(root)).locked():
        ready.set()
        stop.wait(20)


@pytest.mark.slow
def test_two_commands_cannot_write_to_one_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, stop = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path), ready, stop))
    other.start()
    assert ready.wait(20)
    with pytest.raises(RunError, match="another command is writing to this run"), RunFolder(tmp_path).locked():
        pass
    other.kill()  # a killed command holds nothing
    other.join()
    with RunFolder(tmp_path).locked():
        assert (tmp_path / ".lock").exists()
