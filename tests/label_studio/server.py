"""A real Label Studio for the tests: in a virtual environment of its own, on loopback, killed and started again."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from fcntl import LOCK_EX, flock
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from tests.s3.weed import free_ports

VERSION = "1.23.2"
HOME = Path(__file__).resolve().parents[2]
TOKEN = "0f1e2d3c4b5a69788796a5b4c3d2e1f001122334"


def environment_folder() -> Path:
    """Where the server's own virtual environment is: MTAL_LABEL_STUDIO, or beside the project's."""
    return Path(os.environ.get("MTAL_LABEL_STUDIO", HOME / ".venv-label-studio"))


def program() -> Path:
    """The server's program; installed where it is not there yet (794 MB). Skips where it cannot be."""
    folder = environment_folder()
    with folder.with_name(f"{folder.name}.lock").open("w") as door:
        flock(door, LOCK_EX)  # of several processes that test, one installs
        return _program(folder)


def _program(folder: Path) -> Path:
    found = folder / "bin" / "label-studio"
    if (folder / ".ready").is_file() and found.is_file():
        return found
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.is_file() else shutil.which("uv")
    if uv is None:
        pytest.skip("no program 'uv' to install Label Studio with")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    done = subprocess.run(
        [uv, "pip", "install", "--quiet", f"label-studio=={VERSION}"],
        env={**os.environ, "VIRTUAL_ENV": str(folder)}, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"Label Studio {VERSION} cannot be installed: {done.stderr[-300:]}")
    (folder / ".ready").touch()
    return found


class LabelStudioServer:
    """One server with its database in ``folder``, which stays over a kill. Images below ``images`` are served."""

    def __init__(self, folder: Path, images: Path) -> None:
        self._folder, self._images = folder, images
        (folder / "data").mkdir(parents=True)
        self.port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs."""
        return {"LABEL_STUDIO_URL": f"http://127.0.0.1:{self.port}", "LABEL_STUDIO_API_KEY": TOKEN}

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def start(self, wait: bool = True) -> None:
        """Start; come back when it answers."""
        data, template = str(self._folder / "data"), environment_folder() / f"empty-{VERSION}.sqlite3"
        database = self._folder / "data" / "label_studio.sqlite3"
        if not database.exists() and template.is_file():
            shutil.copyfile(template, database)
        words = [
            str(program()), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(self.port),
            "--data-dir", data, "--username", "tester@example.org", "--password", "a-password-of-the-tests",
            "--user-token", TOKEN, "--log-level", "WARNING",
        ]  # fmt: skip
        own = {
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true", "LABEL_STUDIO_BASE_DATA_DIR": data, "HOME": data,
            "LATEST_VERSION_CHECK": "false", "COLLECT_ANALYTICS": "false", "SENTRY_DSN": "",
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(self._images),
        }  # fmt: skip
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LABEL_STUDIO_", "DJANGO_"))}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env={**kept, **own})
        end = time.monotonic() + 900
        while wait and not self._answers():
            assert self._process.poll() is None, self.log[-2000:]
            assert time.monotonic() < end, self.log[-2000:]
            time.sleep(0.3)
        if wait and not template.is_file():  # its tables cost half a minute, or some on a busy machine: make them once
            draft = template.with_name(f"{template.name}.{os.getpid()}")
            with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(draft)) as target:
                source.backup(target)
            draft.replace(template)

    def kill(self) -> None:
        """SIGKILL, and no questions asked."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        door = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            door.request("GET", "/api/projects", headers={"Authorization": f"Token {TOKEN}"})
            return door.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            door.close()
