"""Files of a large data set, looked at by a Ray cluster: what ``prepare`` may use in place of its threads.

Records go to Ray Data some thousands at a time; what comes back are findings by row number, so that the manifest and
the list of faults are those of one process. Ray does a task again whose worker was lost.
"""

import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa
import ray.data
from ray.data.exceptions import SystemException
from ray.exceptions import RayError

from orchestrator.errors import MtalError, RunError
from orchestrator.identity import HOME, code_fingerprint, require_same_sources
from orchestrator.preparing import Elsewhere, Site
from orchestrator.tuning import cluster
from tasks.data.checks import Finding
from tasks.data.manifest import Record

WINDOW = 1 << 14  # records that one execution looks at
BATCH = 256  # records of a task: what is done again where its worker is lost
RETRIES = 3  # of a task, before the command ends: a file may be what kills workers


@contextmanager
def on_cluster(address: str) -> Iterator[Elsewhere]:
    """What ``prepare`` takes as ``elsewhere``, for as long as the cluster is there. RunError where there is none."""
    with cluster(address):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield looked_at


def looked_at(records: Iterator[Record], site: Site) -> Iterator[tuple[Record, tuple[Finding, ...]]]:
    """Each record, in its order, with what is wrong with its files. Files that only this machine has are read here."""
    absolute = replace(site, local=site.local.absolute(), folder=site.folder.absolute())
    while window := list(islice(records, WINDOW)):
        far = [row for row, one in enumerate(window) if not site.is_only_here(one)]
        found = _on_workers([(row, replace(window[row], objects=None)) for row in far], absolute)
        for row, record in enumerate(window):
            yield record, found[row] if row in found else site.files(record)


def _on_workers(rows: list[tuple[int, Record]], site: Site) -> dict[int, tuple[Finding, ...]]:
    """Findings by row number; the error of a worker that could not look."""
    blocks = [pa.table({"rows": [pickle.dumps(rows[at : at + BATCH])]}) for at in range(0, len(rows), BATCH)]
    if not blocks:
        return {}
    look = partial(_look, site=site, code=code_fingerprint(), home=str(HOME))
    done = ray.data.from_arrow(blocks).map_batches(look, batch_format="pyarrow", max_retries=RETRIES)
    found: dict[int, tuple[Finding, ...]] = {}
    try:
        for answer in done.iter_rows():
            findings = pickle.loads(answer["found"])
            if isinstance(findings, Exception):
                raise findings
            found |= findings
    except (RayError, SystemException) as error:
        raise RunError(
            f"prepare: the cluster did not look at all files ({str(error).splitlines()[-1][:160]}); type the same "
            "command again, or use --address none to see which file it is"
        ) from error
    return found


def _look(batch: Any, site: Site, code: str, home: str) -> Any:
    """On a worker: what was found in some rows, or why it could not look."""
    found: dict[int, tuple[Finding, ...]] | Exception
    try:
        require_same_sources(code, home)
        found = {row: site.files(one) for rows in batch["rows"].to_pylist() for row, one in pickle.loads(rows)}
    except (MtalError, OSError) as error:  # of the storage: the data's own faults are findings
        found = error
    return pa.table({"found": [pickle.dumps(found)]})
