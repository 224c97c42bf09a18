"""Prepare a data set: check every image and label, and write the manifest that everything else reads."""

import csv
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Literal, TextIO

from tasks.classes import ClassMap
from tasks.data.checks import IMAGE_KINDS, LOOKS, Checked, Finding, Look, Together, check_files, check_objects
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


@dataclass(frozen=True)
class Site:
    """What the files of a record are judged by, and where those go that the adapter makes. Cheap to pickle."""

    local: Path  # where relative uris start, on this machine
    folder: Place  # of the manifest
    classes: ClassMap
    lut: Sequence[int]
    look: Look

    def is_only_here(self, record: Record) -> bool:
        """Whether a file of this record was made in a folder that other machines do not see."""
        if isinstance(self.folder, Path):
            return False
        paths = (resolve(uri, self.local) for uri in (record.uri, record.segmentation, record.depth) if uri is not None)
        return any(isinstance(path, Path) and path.is_relative_to(self.local) for path in paths)

    def files(self, record: Record) -> tuple[Finding, ...]:
        """What is wrong with the files of a record."""
        return check_files(record, self.local, self.classes, self.lut, self.look)

    def checked(self, looked: tuple[Record, tuple[Finding, ...] | None]) -> Checked:
        """What is left of a record, once the files that were made for it are where the manifest will be."""
        record, findings = looked
        found = check_objects(record, self.classes, self.files(record) if findings is None else findings)
        if isinstance(self.folder, S3Path) and found.record is not None:
            for uri in (found.record.uri, found.record.segmentation, found.record.depth):
                path = resolve(uri, self.local) if uri is not None else None
                if uri is not None and isinstance(path, Path) and path.is_relative_to(self.local):
                    (self.folder / uri).write_file(path)
        return found


# Looks at the files of records in another way than by threads of this process; the records come back in their order.
Elsewhere = Callable[[Iterator[Record], Site], Iterator[tuple[Record, tuple[Finding, ...]]]]


def prepare(
    adapter: Adapter,
    folder: Place,
    on_error: Literal["refuse", "skip"] = "refuse",
    progress: Callable[[int], None] | None = None,
    threads: int | None = None,
    look: Look = "pixels",
    elsewhere: Elsewhere | None = None,
) -> Report:
    """Check every image of a data set and write ``folder/manifest.parquet``; answers what was found.

    "refuse": any fault raises PrepareError and no manifest is written (one that is there stays). "skip": an image with
    a fault in its files, id or scene is left out, an object with a fault is left out of its image. Either way
    ``folder/problems.csv`` lists all faults. ``progress`` is told how many images are done. Same input, same bytes; a
    kill leaves the manifest that was there before. ``look`` says what is read of the files: see ``check_files``.

    Where ``folder`` is in object storage, the adapter makes its files on local disk (TMPDIR), from where they are sent.
    """
    if on_error not in ("refuse", "skip"):
        raise ValueError(f"prepare: on_error is {on_error!r}; expected 'refuse' or 'skip'")
    if look not in LOOKS:
        raise ValueError(f"prepare: look is {look!r}; expected one of {', '.join(LOOKS)}")

    def into(local: Path) -> Report:
        site = Site(local, folder, adapter.classes(), adapter.semantic_lut(), look)
        return _prepared(adapter, site, on_error, progress, threads, elsewhere)

    if isinstance(folder, Path):
        return into(folder)
    (folder / ".writable").write_bytes(b"")  # who may not write there shall hear it before all images are read
    (folder / ".writable").unlink()
    with tempfile.TemporaryDirectory(prefix="mtal-data-") as scratch:
        return into(Path(scratch))


def _prepared(
    adapter: Adapter,
    site: Site,
    on_error: str,
    progress: Callable[[int], None] | None,
    threads: int | None,
    elsewhere: Elsewhere | None,
) -> Report:
    report, refused, folder = Report(), None, site.folder
    problems = folder / PROBLEMS
    with staged(problems) as draft, draft.open("w", newline="") as file:
        records = adapter.records(site.local)
        first = list(islice(records, 1))
        looked: Iterator[tuple[Record, tuple[Finding, ...] | None]]
        looked = ((record, None) for record in chain(first, records))
        if elsewhere is not None:
            looked = elsewhere((record for record, _ in looked), site)
        checked = in_order(looked, site.checked, _threads(site, first) if threads is None else threads)
        usable = _usable(((record, found) for (record, _), found in checked), report, _writer(file), progress)
        try:
            kept = _unless(usable, report, folder, on_error)
            write_manifest(folder / NAME, kept, site.classes, site.lut, adapter.size)
        except PrepareError as error:
            refused = error
    if not report.counts:
        problems.unlink(missing_ok=True)
    if refused is not None:
        raise refused
    return report


def _threads(site: Site, first: Sequence[Record]) -> int:
    """Threads that check: as many as decode at a time, and more where they mostly wait for a server."""
    places = [site.folder, *(resolve(record.uri, site.local) for record in first)]
    if any(isinstance(one, S3Path) for one in places):
        return 16
    return min(8, os.cpu_count() or 1) if site.look != "list" else 0


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
