"""The jobs server of a Ray cluster: what travels to it, and how a job is submitted, followed, listed and stopped."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from aiohttp import ClientError
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import get_excludes_from_ignore_files
from ray._private.thirdparty.pathspec import PathSpec
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from orchestrator.errors import ConfigError, RunError
from orchestrator.submission import Submission

LIMIT = 100 * 2**20  # bytes that the jobs server takes as a working directory (aiohttp's client_max_size there)
MANY = 100_000  # files; a folder with more is no working directory
PATIENCE = 60.0  # seconds that a server may be away, or have no agent yet, before that is an error
LOOK = 2.0  # seconds between tries
TIMEOUT = 10.0  # seconds that a head node may take to say anything at all
QUIET = 30.0  # seconds without a word of a job before the server is asked whether it still runs


@dataclass(frozen=True)
class Parcel:
    """What of a folder travels."""

    files: tuple[tuple[int, str], ...]  # bytes and path within the folder, in no order
    is_whole: bool  # False: the folder is so large that the look at it was given up

    @property
    def size(self) -> int:
        """Bytes of the zip that Ray makes of them, which is not compressed."""
        return 22 + sum(size + 76 + 2 * len(path.encode()) for size, path in self.files)


def parcel(folder: Path) -> Parcel:
    """The files of a folder that Ray uploads: all but those that .gitignore, .rayignore and its defaults name."""
    root = folder.absolute()
    defaults = PathSpec.from_lines("gitwildmatch", get_runtime_env_default_excludes())
    with_git = os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") != "1"
    found: list[tuple[int, str]] = []
    total, is_whole = 0, True

    def visit(place: Path, excludes: Sequence[Callable[[Path], bool]]) -> None:
        nonlocal total, is_whole
        here = [*excludes, *get_excludes_from_ignore_files(place, include_gitignore=with_git)]
        if any(excluded(place) for excluded in here):
            return
        if place.is_file():
            found.append((place.stat().st_size, place.relative_to(root).as_posix()))
            total += found[-1][0]
        elif place.is_dir():
            for inner in place.iterdir():
                if total > 20 * LIMIT or len(found) > MANY:
                    is_whole = False
                    return
                visit(inner, here)

    visit(root, [lambda path: defaults.match_file(str(path.relative_to(root)))])
    return Parcel(tuple(found), is_whole)


def require_small(folder: Path) -> None:
    """ConfigError where a folder is too large to travel, with the names of what makes it so."""
    held = parcel(folder)
    if held.size <= LIMIT and len(held.files) <= MANY:
        return
    largest = ", ".join(f"{path} ({size / 2**20:.0f} MiB)" for size, path in sorted(held.files, reverse=True)[:3])
    count = f"{'' if held.is_whole else 'more than '}{len(held.files)} files of {held.size / 2**20:.0f} MiB"
    raise ConfigError(
        f"{folder}: would travel with the job, and holds {count}, the largest {largest}; expected at most "
        f"{LIMIT // 2**20} MiB, which is what Ray takes: keep data elsewhere, or name what stays here in .rayignore "
        "(it is written like .gitignore)"
    )


class JobsServer:
    """The jobs server at a http address; every failure that can be mended is one sentence."""

    def __init__(self, address: str) -> None:
        if not address.startswith(("http://", "https://")):
            raise ConfigError(
                f"--address {address}: expected that of the jobs server on the head node, such as "
                "http://127.0.0.1:8265; the port is that of Ray's dashboard"
            )
        self.address = address.rstrip("/")
        for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):  # Ray would prefer them to what it is given
            os.environ.pop(name, None)
        for handler in logging.getLogger("ray").handlers:  # uploads and sockets are not the reader's business
            handler.setLevel(logging.ERROR)
        with self._told():
            requests.get(f"{self.address}/api/version", timeout=TIMEOUT)  # Ray's client would wait for minutes
            self._client = JobSubmissionClient(self.address)

    def submit(self, job: Submission) -> None:
        """Upload the folder and start the job."""
        environment: dict[str, Any] = {"env_vars": dict(job.environment)} if job.environment else {}
        if job.folder is not None:
            require_small(job.folder)
            environment["working_dir"] = str(job.folder)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                with self._told(job.id):
                    self._client.submit_job(entrypoint=job.entrypoint, submission_id=job.id, runtime_env=environment)
                return
            except RunError as error:  # a cluster that has just come up
                if "No available agent" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(LOOK)

    def job(self, name: str) -> JobDetails:
        with self._told(name):
            return self._client.get_job_info(name)

    def jobs(self) -> list[JobDetails]:
        """Submitted jobs, the newest last."""
        with self._told():
            found = [job for job in self._client.list_jobs() if job.submission_id]
        return sorted(found, key=lambda job: job.start_time or 0)

    def log(self, name: str) -> str:
        """All that a job has printed so far; "" where it has not started."""
        with self._told(name):
            return str(self._client.get_job_logs(name) or "")

    def stop(self, name: str) -> JobDetails:
        """The job once it has ended; what it had finished stays in its run folder."""
        with self._told(name):
            self._client.stop_job(name)
        end = time.monotonic() + PATIENCE
        while not (job := self.job(name)).status.is_terminal() and time.monotonic() < end:
            time.sleep(LOOK / 4)
        return job

    def follow(self, name: str, say: Callable[[str], None]) -> JobDetails:
        """The job once it has ended, with all its output said on the way. A connection that breaks is made again."""
        self.job(name)  # there is one of this name, and the server answers
        said, end = 0, time.monotonic() + PATIENCE
        while True:
            said = asyncio.run(self._tail(name, said, say))
            try:
                job, rest = self.job(name), self.log(name)[said:]
            except RunError:
                if time.monotonic() > end:
                    raise
            else:
                end = time.monotonic() + PATIENCE
                say(rest)
                said += len(rest)
                if job.status.is_terminal():
                    return job
            time.sleep(LOOK)

    async def _tail(self, name: str, skip: int, say: Callable[[str], None]) -> int:
        """How many characters have been said in all, once the stream ends, breaks, or the job is over."""
        seen, stream = 0, self._client.tail_job_logs(name)
        with suppress(RuntimeError, OSError, TimeoutError, ClientError, StopAsyncIteration):
            while True:
                coming = asyncio.ensure_future(anext(stream))
                while not (await asyncio.wait([coming], timeout=QUIET))[0]:
                    if self._is_over(name):
                        coming.cancel()
                        return max(seen, skip)
                text = await coming
                if seen + len(text) > skip:
                    say(text[max(skip - seen, 0) :])
                seen += len(text)
        return max(seen, skip)

    def _is_over(self, name: str) -> bool:
        """Whether a job that says nothing has ended, or its server is away: then its stream is dead."""
        try:
            return bool(self.job(name).status.is_terminal())
        except RunError:
            return True

    @contextmanager
    def _told(self, name: str = "") -> Iterator[None]:
        """What the server or Ray's client says, as one sentence. No token is ever in it."""
        try:
            yield
        except AuthenticationError:
            raise RunError(
                f"--address {self.address}: the cluster asks for a token, and there is none here, or another one; "
                "expected that of the cluster in RAY_AUTH_TOKEN, in the file that RAY_AUTH_TOKEN_PATH names, or in "
                "~/.ray/auth_token, and RAY_AUTH_MODE not 'disabled': copy it from the head node (ray get-auth-token)"
            ) from None
        except (ConnectionError, KeyError, requests.RequestException) as error:  # nobody, or somebody else
            raise RunError(
                f"--address {self.address}: no jobs server answers ({type(error).__name__}); expected Ray's dashboard "
                "there: start the cluster, mend the address, or make a tunnel to the head node "
                "(ssh -L 8265:127.0.0.1:8265 HEAD)"
            ) from None
        except RuntimeError as error:
            raise RunError(self._sentence(name, " ".join(str(error).split()))) from None

    def _sentence(self, name: str, said: str) -> str:
        if "status code 404" in said or "does not exist" in said:
            return (
                f"{name}: no job of this name at {self.address}; expected one that was submitted there: mtal status "
                "lists them"
            )
        if "already exists" in said:
            return f"--name {name}: there is such a job at {self.address} already; expected a new name: choose another"
        if "status code 413" in said:
            return (
                f"--address {self.address}: the folder is too large for this jobs server; name what stays here in "
                ".rayignore"
            )
        why = said.split("Error: ")[-1][-300:]  # the end of a traceback
        return f"--address {self.address}: the jobs server refused ({why}); mend that, then type it again"


def exit_code(job: JobDetails) -> int:
    """What a command that waited for the job ends with: the job's own code; 128 + n where signal n killed it."""
    if job.status == JobStatus.SUCCEEDED:
        return 0
    code = job.driver_exit_code or 1
    return 128 - code if code < 0 else code
