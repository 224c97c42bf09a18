"""The run folder, on a disk or in S3-compatible storage: where everything lies, written atomically, the marker last.

An artefact is a folder with a JSON marker. The marker holds what the artefact was made from, and is written after
everything else with exclusive creation, so its existence means "complete", and a process that outlived its run cannot
replace what its successor has committed.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from orchestrator.errors import RunError
from orchestrator.lease import leased
from tasks.data.files import Place, place, staged
from tasks.data.objects import S3Path
from tasks.data.s3 import StorageError, StorageRefused

CHOSEN = "chosen.json"  # marker of a choice that people are to label; what they have labeled is bought then
LABELS = "labels.parquet"  # their labels, as a manifest has them


def canonical(value: Any) -> str:
    """JSON with sorted keys: equal values, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=list)


def fingerprint(inputs: Any) -> str:
    """16 hex digits of what an artefact is made from."""
    return hashlib.sha256(canonical(inputs).encode()).hexdigest()[:16]


# ---- atomic writes -----


@contextmanager
def replacing(path: Place) -> Iterator[Path]:
    """A temporary local file: its content takes the place of ``path`` when the block ends well, and goes when not."""
    if isinstance(path, S3Path):
        with _told(path), staged(path) as draft:
            yield draft
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with _told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _told(path: Place) -> Iterator[None]:
    """What the disk or the server says when a file cannot be written, as a sentence."""
    try:
        yield
    except OSError as error:
        place = "see to the storage" if isinstance(path, S3Path) else "mend the folder"
        raise RunError(
            f"{path}: could not be written: {error.strerror or error}; make room or {place}, "
            "then type the same command again"
        ) from error


def write_text(path: Place, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Place, value: Any) -> None:
    write_text(path, _json(value))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, default=list) + "\n"


def write_table(path: Place, table: pa.Table, sorted_by: str | None = None) -> None:
    """``sorted_by``: the column whose order the rows are in; the file says so."""
    order = [pq.SortingColumn(table.column_names.index(sorted_by))] if sorted_by is not None else None
    with replacing(path) as temporary:
        pq.write_table(table, temporary, sorting_columns=order)


def write_tables(path: Place, tables: Iterable[pa.Table]) -> None:
    """Tables of one schema after each other, at least one, each a row group: they need not fit in memory together."""
    stream = iter(tables)
    with replacing(path) as temporary:
        first = next(stream)
        with pq.ParquetWriter(temporary, first.schema) as writer:
            for table in chain([first], stream):
                writer.write_table(table)


def read_json(path: Place) -> Any:
    """The content of a JSON file; RunError when it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: is not readable as JSON; delete this file and type the same command again") from error


def read_inputs(marker: Place) -> Mapping[str, Any]:
    """What an artefact was made from; RunError when its marker does not say."""
    content = read_json(marker)
    inputs = content.get("inputs") if isinstance(content, Mapping) else None
    if not isinstance(inputs, Mapping):
        raise RunError(
            f"{marker}: does not say what it was made from; delete this file and type the same command again"
        )
    return inputs


def read_table(path: Place, columns: Sequence[str] | None = None) -> pa.Table:
    """The content of a parquet file, or these columns of it; RunError when it is damaged."""
    with _parquet(path) as file:
        return file.read(columns)


def read_metadata(path: Place) -> pq.FileMetaData:
    """What the foot of a parquet file says; RunError when it is damaged."""
    with _parquet(path) as file:
        return file.metadata


@contextmanager
def _parquet(path: Place) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path.open("rb") if isinstance(path, S3Path) else path) as file:
            yield file
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(path, S3Path) and isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise  # the storage, and not the file, is what is wrong
        raise RunError(
            f"{path}: is not readable as parquet; delete this file and type the same command again"
        ) from error


def commit(marker: Place, value: Any) -> None:
    """Create the marker of a finished artefact. Where another process was first, its content stands."""
    if isinstance(marker, S3Path):
        with _told(marker), suppress(FileExistsError):
            marker.create(_json(value).encode())
        return
    draft = marker.with_name(f".draft-{marker.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        write_json(draft, value)
        os.link(draft, marker)
    except FileExistsError:
        return
    finally:
        draft.unlink(missing_ok=True)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What changed between two nested mappings: ``train.steps: 100 -> 200``."""
    lines: list[str] = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        name = f"{prefix}{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{name}.")
        elif canonical(a) != canonical(b):
            lines.append(f"{name}: {_short(a)} -> {_short(b)}")
    return lines


def _short(value: Any) -> str:
    text = "nothing" if value is None else canonical(value)
    return text if len(text) <= 60 else text[:57] + "..."


# ---- the folder -----


def shard_path(folder: Place | str, shard: int) -> Place:
    """Where a shard of a job on the whole pool lies: its scores, or what a teacher labeled of it."""
    return place(folder) / f"shard_{shard:05d}.parquet"


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run. Nothing else knows how the folder is laid out."""

    root: Place

    @property
    def experiment(self) -> Place:
        return self.root / "experiment.yaml"

    @property
    def environment(self) -> Place:
        return self.root / "environment.json"

    @property
    def reference(self) -> Place:
        return self.root / "reference.json"

    @property
    def cycles(self) -> Place:
        return self.root / "cycles.parquet"

    @property
    def failures(self) -> Place:
        return self.root / "failures.json"

    def pool(self, seed: int) -> Place:
        return self.root / "pools" / f"seed_{seed}.parquet"

    def reference_fit(self, mark: str, seed: int) -> Place:
        return self.root / "reference" / mark / f"seed_{seed}"

    def initial_fit(self, mark: str, seed: int) -> Place:
        return self.root / "initial" / mark / f"seed_{seed}"

    def own_pool(self, arm: str, seed: int) -> Place:
        """The first pool of an arm that does not start with the same number of labels for each task."""
        return self.trial(arm, seed) / "pool.parquet"

    def trial(self, arm: str, seed: int) -> Place:
        return self.root / arm / f"seed_{seed}"

    def cycle(self, arm: str, seed: int, index: int) -> Place:
        return self.trial(arm, seed) / f"cycle_{index}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one command; RunError when another one holds it. A killed command holds nothing.

        In object storage by a lease that runs out when nobody renews it: see ``lease``.
        """
        if isinstance(self.root, S3Path):
            with leased(self.root / ".lock"):
                with suppress(StorageRefused, StorageError):  # not all may, and not every server can
                    self.root.abort_uploads()  # of a command that was killed
                yield
            return
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("a+") as handle:
            try:
                flock(handle, LOCK_EX | LOCK_NB)
            except OSError as error:
                raise RunError(
                    f"{self.root}: another command is writing to this run; wait for it, or choose another name or "
                    "output"
                ) from error
            yield

    def write_experiment(self, plain: Mapping[str, Any]) -> None:
        write_text(self.experiment, yaml.safe_dump(dict(plain), sort_keys=False, allow_unicode=True))

    def require_same(self, marker: Place, inputs: Mapping[str, Any], name: str) -> None:
        """RunError, with the difference shown, when ``marker`` was committed from other inputs."""
        if not marker.is_file():
            return
        old = read_inputs(marker)
        if canonical(old) == canonical(inputs):
            return
        lines = differences(old, inputs)
        more = f" and {len(lines) - 5} more" if len(lines) > 5 else ""
        raise RunError(
            f"{marker.parent}: was made from another configuration ({'; '.join(lines[:5])}{more}); expected the same "
            f"one: undo the change, choose another name or output, or add --fresh {name} to make it again"
        )
