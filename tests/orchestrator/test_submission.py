"""What a job is made from: the command, the folder that travels, variables by name, and what is refused."""

import shlex
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.submission import chosen, submission
from tests.tiny import write_tiny

NOW = datetime(2026, 1, 2, 3, 4, 5)
HOME = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "experiment").mkdir()
    return write_tiny(tmp_path / "experiment" / "mine.yaml", tmp_path / "runs")


def test_the_folder_of_the_yaml_travels_and_the_installed_command_runs(config: Path) -> None:
    job = submission(str(config), now=NOW)
    assert job.folder == config.parent
    assert job.entrypoint == "mtal run mine.yaml --address auto"
    assert job.id == "tiny-20260102-030405"
    assert job.environment == {}


def test_a_larger_folder_travels_with_the_yaml_in_it(config: Path) -> None:
    job = submission(str(config), folder=config.parents[1])
    assert job.folder == config.parents[1]
    assert shlex.split(job.entrypoint)[2] == "experiment/mine.yaml"


def test_a_link_to_the_folder_is_the_folder(config: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(config.parent)
    job = submission(str(config), folder=tmp_path / "link")
    assert (job.folder, shlex.split(job.entrypoint)[2]) == (config.parent, "mine.yaml")


def test_a_shipped_configuration_needs_no_folder() -> None:
    job = submission("demo", ["output=s3://bucket/runs"])
    assert job.folder is None
    assert job.entrypoint.startswith("mtal run demo --address auto")


def test_the_tree_of_mtal_runs_itself() -> None:
    job = submission("demo", ["output=/shared"], folder=HOME)
    assert job.entrypoint == "python -m orchestrator run demo --address auto --set output=/shared"
    assert job.folder == HOME


def test_another_python_and_arms_to_make_again(config: Path) -> None:
    job = submission(str(config), python="/opt/my env/bin/python", fresh=["random", "boxmask"])
    words = shlex.split(job.entrypoint)
    assert words[:4] == ["/opt/my env/bin/python", "-m", "orchestrator", "run"]
    assert words[-4:] == ["--fresh", "random", "--fresh", "boxmask"]


@pytest.mark.parametrize("value", ["[0, 1]", "'a b'", '"$HOME; echo `id`"', "a\\b", "{seed: 1}", "ünï", "x\ny"])
def test_a_shell_gives_every_value_back_as_it_was_typed(config: Path, value: str) -> None:
    job = submission(str(config), [f"data.note={value}"])
    shown = subprocess.run(
        ["sh", "-c", job.entrypoint.replace("mtal", "printf '%s\\0'", 1)], capture_output=True, check=True
    )
    assert shown.stdout.decode().split("\0")[-2] == f"data.note={value}"


@pytest.mark.parametrize("output", ["runs", "./runs", "file://runs"])
def test_results_that_would_be_lost_are_refused(config: Path, output: str) -> None:
    with pytest.raises(ConfigError, match=r"mine.yaml: output is .* add --set output="):
        submission(str(config), [f"output={output}"])


@pytest.mark.parametrize("output", ["/shared/runs", "s3://bucket/runs", "file:///shared/runs"])
def test_results_that_stay_are_taken(config: Path, output: str) -> None:
    assert f"output={output}" in submission(str(config), [f"output={output}"]).entrypoint


def test_a_yaml_outside_of_the_folder_is_refused(config: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match="lies outside of --working-dir"):
        submission(str(config), folder=tmp_path / "other")
    with pytest.raises(ConfigError, match="no such folder"):
        submission(str(config), folder=tmp_path / "none")


@pytest.mark.parametrize("name", ["my job", "", "-x", "a/b", "ü"])
def test_names_that_a_uri_cannot_hold_are_refused(config: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--name"):
        submission(str(config), name=name)


def test_a_name_of_other_letters_becomes_an_id(config: Path) -> None:
    assert submission(str(config), ["name=größe+1"], now=NOW).id == "gr-e-1-20260102-030405"
    assert submission(str(config), name="my.job_1-a").id == "my.job_1-a"


def test_variables_are_taken_by_name() -> None:
    environ = {"AWS_PROFILE": "labels", "AWS_ENDPOINT_URL": "https://s3.example.com:8333", "OTHER": "x"}
    assert chosen(["AWS_PROFILE", "AWS_ENDPOINT_URL"], environ) == {k: environ[k] for k in list(environ)[:2]}


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "RAY_AUTH_TOKEN", "db_password", "LABEL_STUDIO_API_KEY", "HF_TOKEN"],
)
def test_secrets_are_refused_and_never_shown(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"--env {name}: looks like a secret") as told:
        chosen([name], {name: "hush-hush"})
    assert "hush" not in str(told.value)


def test_a_value_with_a_login_is_refused_and_never_shown() -> None:
    with pytest.raises(ConfigError, match="has a password in it") as told:
        chosen(["PROXY_URL"], {"PROXY_URL": "https://me:hush@example.com/x"})
    assert "hush" not in str(told.value)


def test_what_is_not_set_or_no_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="--env AWS_PROFILE: is not set"):
        chosen(["AWS_PROFILE"], {})
    with pytest.raises(ConfigError, match=r"--env AWS_PROFILE=\.\.\.: expected the name") as told:
        chosen(["AWS_PROFILE=hush"], {})
    assert "hush" not in str(told.value)
