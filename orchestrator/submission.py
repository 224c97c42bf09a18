"""What a job of the cluster is made from: its command, the folder that travels, the environment. No Ray in here."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from orchestrator.config import find, load
from orchestrator.errors import ConfigError

SECRET = {
    "AUTH", "APIKEY", "CREDENTIAL", "CREDENTIALS", "DSN", "KEY", "KEYS", "PASS", "PASSPHRASE", "PASSWD", "PASSWORD",
    "PRIVATE", "SECRET", "SECRETS", "TOKEN", "TOKENS",
}  # fmt: skip
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
LOGIN = re.compile(r"://[^/@\s]*:[^/@\s]*@")  # user:password in a uri
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # a part of a uri, and of the name of a log file


@dataclass(frozen=True)
class Submission:
    """A job as the jobs server takes it."""

    id: str
    entrypoint: str  # a line for a shell
    folder: Path | None  # travels, and is where the entrypoint starts; None = nothing travels
    environment: Mapping[str, str]  # of the entrypoint and of all that it starts on the cluster


def submission(
    config: str,
    sets: Sequence[str] = (),
    *,
    folder: Path | None = None,
    fresh: Sequence[str] = (),
    python: str | None = None,
    name: str | None = None,
    environment: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> Submission:
    """The job that runs a configuration; ConfigError where its result would be lost or it could not start.

    ``folder`` travels; by default it is the one of the YAML, and nothing for a configuration that ships with mtal.
    ``name`` is the job's id; by default the experiment's name and the time.
    """
    experiment = load(config, sets)
    _check_output(experiment.output, config)
    place, word = _travelling(config, folder)
    words = [*_mtal(place, python), "run", word, "--address", "auto"]
    words += [part for text in sets for part in ("--set", text)]
    words += [part for arm in fresh for part in ("--fresh", arm)]
    return Submission(
        _checked_id(name) if name is not None else _own_id(experiment.name, now or datetime.now()),
        shlex.join(words),
        place,
        dict(environment or {}),
    )


def chosen(names: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of these names; ConfigError for what is not set or is a secret. No value is ever in a text."""
    found = {}
    for name in names:
        if not NAME.fullmatch(name):
            shown = f"{name.partition('=')[0]}=..." if "=" in name else name
            raise ConfigError(f"--env {shown}: expected the name of a variable alone; its value is taken from here")
        if SECRET & set(name.upper().split("_")):
            raise ConfigError(
                f"--env {name}: looks like a secret, and Ray writes the environment of a job into its logs as plain "
                "text; expected a name that holds none: give secrets to the nodes themselves, before ray start or as "
                "a secret of Kubernetes"
            )
        if name not in environ:
            raise ConfigError(f"--env {name}: is not set here; expected a value to pass on: set it, or leave --env out")
        if LOGIN.search(environ[name]):
            raise ConfigError(
                f"--env {name}: its value has a password in it, and Ray writes the environment of a job into its logs "
                "as plain text; expected a value without: give the login to the nodes themselves"
            )
        found[name] = environ[name]
    return found


def is_tree(folder: Path) -> bool:
    """Whether a folder holds the sources of mtal itself."""
    return (folder / "orchestrator" / "__main__.py").is_file() and (folder / "configs" / "__init__.py").is_file()


def _check_output(output: str, config: str) -> None:
    if output.startswith(("s3://", "file:///")) or Path(output).is_absolute():
        return
    raise ConfigError(
        f"{Path(config).name}: output is {output!r}, a place in the job's own copy of the folder, which goes with the "
        "cluster; expected an absolute path that all nodes see, or s3://bucket/path: add --set output=/shared/runs"
    )


def _travelling(config: str, folder: Path | None) -> tuple[Path | None, str]:
    """The folder that travels, and what the configuration is called from inside it."""
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"--working-dir {folder}: no such folder; expected one with the files of the experiment")
    if not Path(config).is_file():  # one that ships with mtal, or load() would have said so
        return None if folder is None else folder.absolute(), config
    path = find(config).resolve()
    if folder is None:
        return path.parent, path.name
    if not path.is_relative_to(folder.resolve()):
        raise ConfigError(
            f"{config}: lies outside of --working-dir {folder}, so the job would not find it; expected a file in that "
            "folder: move it there, or leave --working-dir out"
        )
    return folder.resolve(), path.relative_to(folder.resolve()).as_posix()


def _mtal(folder: Path | None, python: str | None) -> list[str]:
    """The command on the cluster: the installed one, or the tree's own where the tree travels."""
    if python is not None:
        return [python, "-m", "orchestrator"]
    return ["python", "-m", "orchestrator"] if folder is not None and is_tree(folder) else ["mtal"]


def _own_id(name: str, now: datetime) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{name}-{now:%Y%m%d-%H%M%S}").lstrip("._-")


def _checked_id(name: str) -> str:
    if not ID.fullmatch(name):
        raise ConfigError(f"--name {name}: expected letters, digits, dots, - and _, the first a letter or a digit")
    return name
