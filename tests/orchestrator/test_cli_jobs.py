"""The verbs for jobs: what is refused before anything is asked, and how they end. Real jobs are in tests/ray."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli import main
from tests.tiny import write_tiny


def typed(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert isinstance(end.value.code, int)
    return end.value.code


def test_a_result_that_would_be_lost_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("submit", "demo") == 2
    assert "demo: output is 'runs'" in capsys.readouterr().err


def test_a_secret_is_refused_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_TOKEN", "hush")
    config = write_tiny(tmp_path / "tiny.yaml", tmp_path / "runs")
    assert typed("submit", str(config), "--env", "MY_TOKEN") == 2
    told = capsys.readouterr()
    assert "looks like a secret" in told.err
    assert "hush" not in told.out + told.err


def test_a_server_that_is_away_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["status"], ["status", "some"], ["stop", "some"]):
        assert typed(*words, "--address", "http://127.0.0.1:1") == 2
        told = capsys.readouterr().err
        assert "no jobs server answers" in told
        assert len(told.splitlines()) == 1


def test_following_needs_a_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("status", "--follow") == 2
    assert "expected the name of a job" in capsys.readouterr().err


@pytest.mark.slow
def test_without_the_extra_it_says_what_to_install() -> None:
    """A Python in which the client's part of Ray cannot be found."""
    code = (
        "import sys\n"
        "sys.modules['aiohttp'] = None\n"
        "from orchestrator.cli import main\n"
        "main(['status', '--address', 'http://127.0.0.1:1'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'mtal[jobs]'" in done.stderr
    assert "Traceback" not in done.stderr
