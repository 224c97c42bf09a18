"""What travels to a cluster, as Ray counts it, and what a jobs server's answers are made into. No cluster here."""

import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE, get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package
from ray.job_submission import JobStatus

from orchestrator import jobs
from orchestrator.errors import ConfigError, RunError
from orchestrator.jobs import LIMIT, JobsServer, exit_code, parcel, require_small
from orchestrator.submission import Submission


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An experiment with things that are to stay here."""
    place = tmp_path / "experiment"
    for name in ("a/deep", ".git", ".venv/lib", "runs", "a/__pycache__"):
        (place / name).mkdir(parents=True)
    files = ("mine.yaml", "my_strategies.py", "a/deep/größe.txt", "a/deep/x.tmp", ".git/HEAD", ".venv/lib/big.so")
    for count, name in enumerate((*files, "runs/model.pt", "a/__pycache__/x.pyc", "data.bin", "a/kept.bin")):
        (place / name).write_bytes(b"x" * (count + 1))
    (place / ".gitignore").write_text("runs/\n*.bin\n!kept.bin\n")
    (place / "a" / ".rayignore").write_text("*.tmp\n")
    return place


def test_what_travels_is_what_ray_packs(folder: Path, tmp_path: Path) -> None:
    create_package(
        str(folder), tmp_path / "ray.zip", include_gitignore=True, excludes=get_runtime_env_default_excludes()
    )
    with zipfile.ZipFile(tmp_path / "ray.zip") as packed:
        theirs = {(info.file_size, info.filename) for info in packed.infolist() if not info.is_dir()}
    ours = parcel(folder)
    assert set(ours.files) == theirs
    assert {"mine.yaml", "my_strategies.py", "a/kept.bin"} < {path for _, path in ours.files}
    assert ours.is_whole
    assert ours.size == (tmp_path / "ray.zip").stat().st_size


def test_the_limit_is_that_of_ray() -> None:
    assert LIMIT == DASHBOARD_CLIENT_MAX_SIZE


def test_a_folder_that_is_too_large_is_told_with_what_makes_it_so(folder: Path) -> None:
    with (folder / "weights.pt").open("wb") as large:
        large.truncate(LIMIT)  # a hole: no bytes on the disk
    with pytest.raises(ConfigError, match=r"largest weights.pt \(100 MiB\).*at most 100 MiB.*\.rayignore"):
        require_small(folder)
    (folder / ".rayignore").write_text("weights.pt\n")
    require_small(folder)


def test_the_look_at_a_huge_folder_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MANY", 3)
    assert not parcel(folder).is_whole
    with pytest.raises(ConfigError, match="more than 4 files"):
        require_small(folder)


class Answering(BaseHTTPRequestHandler):
    """A jobs server that knows its version and has one answer for everything else."""

    code, text = 200, ""

    def do_GET(self) -> None:
        if self.path == "/api/version" and self.code not in (401, 403):
            self.answer(200, json.dumps({"version": "4", "ray_version": "2.60.0"}))
        else:
            self.answer(self.code, self.text)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.answer(self.code, self.text)

    def answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_ADDRESS", "auto")  # it must not be preferred to --address
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


JOB = Submission("mine-1", "true", None, {})


@pytest.mark.parametrize(
    ("code", "text", "told"),
    [
        (500, "Traceback ...\nValueError: Job with submission_id mine-1 already exists.", "--name mine-1: there is"),
        (500, "Traceback ...\n  File x\nValueError: bad entrypoint", r"refused \(bad entrypoint"),
        (404, "Job mine-1 does not exist", "mine-1: no job of this name at http"),
        (413, "too large", "too large for this jobs server"),
        (401, "Unauthorized", "asks for a token, and there is none here"),
        (403, "Forbidden", "asks for a token, and there is none here, or another one"),
    ],
)
def test_an_answer_that_is_no_becomes_one_sentence(
    address: str, code: int, text: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answering, "code", code)
    monkeypatch.setattr(Answering, "text", text)
    with pytest.raises(RunError, match=told) as error:
        JobsServer(address).submit(JOB)
    assert "\n" not in str(error.value)


def test_a_cluster_that_has_just_come_up_is_asked_again(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answering, "code", 500)
    monkeypatch.setattr(Answering, "text", "No available agent to submit job, please try again later.")
    monkeypatch.setattr(jobs, "LOOK", 0.01)
    server = JobsServer(address)
    come = threading.Timer(0.3, lambda: setattr(Answering, "code", 404))
    come.start()
    with pytest.raises(RunError, match="no job of this name"):
        server.submit(JOB)
    come.join()


def test_a_server_that_is_away_is_told() -> None:
    with pytest.raises(RunError, match="no jobs server answers"):
        JobsServer("http://127.0.0.1:1")


@pytest.mark.parametrize("address", ["auto", "host:6379", "ray://host:10001"])
def test_an_address_that_is_no_jobs_servers_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"--address .* http://127.0.0.1:8265"):
        JobsServer(address)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", -9, 137), ("FAILED", None, 1), ("STOPPED", None, 1)],
)
def test_the_exit_code_of_a_job_is_that_of_the_command(status: str, code: int | None, expected: int) -> None:
    job = SimpleNamespace(status=JobStatus(status), driver_exit_code=code)
    assert exit_code(job) == expected
