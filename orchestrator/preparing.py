"""Prepare a data set: check every image and label, and write the manifest that everything else reads."""

import csv
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Literal, TextIO

from tasks.classes import ClassMap
from tasks.data.checks import IMAGE_KINDS, Checked, Finding, Together, check_record
from tasks.data.concurrent import in_order
from tasks.data.files import Place, resolve, staged
from tasks.data.manifest import NAME, Adapter, Record, write_manifest
from tasks.data.objects import S3Path

PROBLEMS = "problems.csv"
_FIRST = 5  # findings that an error quotes


class PrepareError(ValueError):
    """The data set has faults; says which, how many, and what to do."""


@dataclass
class Report:
    """What ``prepare`` found."""

    images: int = 0  # that the data set lists
    kept: int = 0  # that the manifest holds
    objects: int = 0  # that the manifest holds
    clipped: int = 0  # boxes that reached up to a pixel beyond their image and were cut at its border
    splits: Counter[str] = field(default_factory=Counter)  # kept images of each split
    counts: Counter[str] = field(default_factory=Counter)  # findings of each kind
    first: list[Finding] = field(default_factory=list)  # the first few findings

    def add(self, found: Checked) -> None:
        """Count one image."""
        self.images += 1
        self.clipped += found.clipped
        self.counts.update(one.kind for one in found.findings)
        self.first += found.findings[: _FIRST - len(self.first)]
        if found.record is not None:
            self.kept += 1
            self.objects += len(found.record.objects or ())
            self.splits[found.record.split] += 1

    def __str__(self) -> str:
        splits = ", ".join(f"{self.splits[name]} {name}" for name in sorted(self.splits))
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items())) or "none"
        return (
            f"{self.kept} of {self.images} images ({splits}), {self.objects} objects, {self.clipped} boxes cut at the "
            f"border; faults: {found}"
        )


def prepare(
    adapter: Adapter,
    folder: Place,
    on_error: Literal["refuse", "skip"] = "refuse",
    progress: Callable[[int], None] | None = None,
    threads: int | None = None,
) -> Report:
    """Check every image of a data set and write ``folder/manifest.parquet``; answers what was found.

    "refuse": any fault raises PrepareError and no manifest is written (one that is there stays). "skip": an image with
    a fault in its files, id or scene is left out, an object with a fault is left out of its image. Either way
    ``folder/problems.csv`` lists all faults. ``progress`` is told how many images are done. Same input, same bytes; a
    kill leaves the manifest that was there before.

    Where ``folder`` is in object storage, the adapter makes its files on local disk (TMPDIR), from where they are sent.
    """
    if on_error not in ("refuse", "skip"):
        raise ValueError(f"prepare: on_error is {on_error!r}; expected 'refuse' or 'skip'")
    if isinstance(folder, Path):
        return _prepared(adapter, folder, folder, on_error, progress, threads)
    (folder / ".writable").write_bytes(b"")  # who may not write there shall hear it before all images are read
    (folder / ".writable").unlink()
    with tempfile.TemporaryDirectory(prefix="mtal-data-") as scratch:
        return _prepared(adapter, Path(scratch), folder, on_error, progress, threads)


def _prepared(
    adapter: Adapter,
    local: Path,
    folder: Place,
    on_error: str,
    progress: Callable[[int], None] | None,
    threads: int | None,
) -> Report:
    report, refused = Report(), None
    problems = folder / PROBLEMS
    classes, lut = adapter.classes(), adapter.semantic_lut()
    check = partial(_checked, base=local, folder=folder, classes=classes, lut=lut)
    with staged(problems) as draft, draft.open("w", newline="") as file:
        records = adapter.records(local)
        first = list(islice(records, 1))
        checked = in_order(chain(first, records), check, threads or _threads(local, folder, first))
        usable = _usable(checked, report, _writer(file), progress)
        try:
            write_manifest(folder / NAME, _unless(usable, report, folder, on_error), classes, lut, adapter.size)
        except PrepareError as error:
            refused = error
    if not report.counts:
        problems.unlink(missing_ok=True)
    if refused is not None:
        raise refused
    return report


def _threads(local: Path, folder: Place, first: Sequence[Record]) -> int:
    """Threads that check: as many as decode at a time, and more where they mostly wait for a server."""
    places = [folder, *(resolve(record.uri, local) for record in first)]
    return 16 if any(isinstance(one, S3Path) for one in places) else min(8, os.cpu_count() or 1)


def _checked(record: Record, base: Path, folder: Place, classes: ClassMap, lut: Sequence[int]) -> Checked:
    """What is left of a record, once the files that the adapter has made for it are where the manifest will be."""
    found = check_record(record, base, classes, lut)
    if isinstance(folder, S3Path) and found.record is not None:
        for uri in (found.record.uri, found.record.segmentation, found.record.depth):
            if uri is not None and isinstance(path := resolve(uri, base), Path) and path.is_relative_to(base):
                (folder / uri).write_file(path)
    return found


def _usable(
    checked: Iterator[tuple[Record, Checked]],
    report: Report,
    write: Callable[[Finding], None],
    progress: Callable[[int], None] | None,
) -> Iterator[Record]:
    """The records that can be used; faults go into the report and to ``write``."""
    together = Together()
    for record, found in checked:
        across = together.check(record)
        if across:
            found = replace(found, record=None, findings=(*found.findings, *across))
        report.add(found)
        for one in found.findings:
            write(one)
        if progress is not None:
            progress(report.images)
        if found.record is not None:
            yield found.record


def _unless(usable: Iterator[Record], report: Report, folder: Place, on_error: str) -> Iterator[Record]:
    """The usable records, and at their end PrepareError where there is no manifest to be written."""
    yield from usable
    if not report.images:
        raise PrepareError(f"{folder}: the data set lists no image; expected at least one: check its paths and splits")
    if report.counts and on_error == "refuse":
        raise PrepareError(
            _refusal(report, folder, "correct them, or leave them out with 'mtal prepare --on-error skip'")
        )
    if not report.kept:
        raise PrepareError(_refusal(report, folder, "correct them: no image is left"))


def _refusal(report: Report, folder: Place, advice: str) -> str:
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(report.counts.items()))
    plural = "s" if report.counts.total() != 1 else ""
    lines = [f"  {one.id}: {one.sentence} [{one.kind}: {one.file}]" for one in report.first]
    more = report.counts.total() - len(lines)
    return "\n".join(
        [
            f"{folder}: {report.counts.total()} fault{plural} in {report.images} images ({counts}); expected none; no "
            f"manifest is written: {advice}. All are in {PROBLEMS}",
            *lines,
            *([f"  and {more} more"] if more else []),
        ]
    )


def _writer(file: TextIO) -> Callable[[Finding], None]:
    """Writes findings as rows of a CSV file, as they come."""
    rows = csv.writer(file)
    rows.writerow(["kind", "dropped", "id", "file", "sentence"])

    def write(one: Finding) -> None:
        rows.writerow([one.kind, "image" if one.kind in IMAGE_KINDS else "object", one.id, one.file, one.sentence])

    return write
