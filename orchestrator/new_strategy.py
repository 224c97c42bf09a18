"""A package for a strategy of one's own: a small one that works, to be changed into another."""

import importlib.util
import keyword
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from orchestrator import __version__
from orchestrator.components import Offer, plugin_strategies
from orchestrator.errors import ConfigError
from strategies import STRATEGIES

TEMPLATES = Path(__file__).parent / "templates" / "strategy"
LONGEST = 40  # characters of a name: no generated line becomes too long
FORM = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
# classes that the templates import, and modules that would mean something else beside a pyproject.toml
TAKEN = (
    "Check", "Detections", "Direction", "Mapping", "Path", "Prediction", "Score", "Seen", "SegMap", "Strategy",
    "Tensor",
)  # fmt: skip
SPECIAL = ("conftest", "setup", "tests")


@dataclass(frozen=True)
class Names:
    """One name in the forms that a package needs."""

    strategy: str  # in a YAML; the folder
    package: str  # as indexes of packages have it
    module: str
    kind: str  # the class


def new_strategy(name: str, parent: Path) -> list[Path]:
    """Write the package ``parent/name`` and answer its files; it is there whole or not at all.

    ConfigError where the name cannot be that of a strategy, a module and a package, or where something is there.
    """
    names = names_of(name)
    folder = parent / name
    if os.path.lexists(folder):
        raise ConfigError(f"{folder}: is there already; nothing is overwritten: choose another name or another folder")
    texts = _texts(names)
    with tempfile.TemporaryDirectory(prefix=".new-strategy-", dir=parent) as scratch:
        made = Path(scratch) / name  # a folder of its own, since the scratch folder is closed to other users
        for place, text in texts.items():
            (made / place).parent.mkdir(parents=True, exist_ok=True)
            (made / place).write_text(text, encoding="utf-8")
        try:
            made.rename(folder)
        except OSError as error:  # somebody was quicker
            raise ConfigError(f"{folder}: cannot be made ({error.strerror}); choose another name or folder") from error
    return [folder / place for place in texts]


def names_of(name: str) -> Names:
    """The forms of a name; ConfigError where one of them cannot be, or is somebody else's."""
    if not FORM.fullmatch(name) or len(name) > LONGEST:
        raise ConfigError(
            f"NAME {name!r}: expected at most {LONGEST} small letters and digits, a letter first, with single - or _ "
            f"between words; type mtal new-strategy {_near(name)}"
        )
    words = re.split("[-_]", name)
    names = Names(name, "-".join(words), "_".join(words), "".join(word.capitalize() for word in words))
    if keyword.iskeyword(names.module) or keyword.iskeyword(names.kind) or yaml.safe_load(name) != name:
        raise ConfigError(f"NAME {name!r}: is a word of Python or of YAML; expected a name of its own: choose another")
    if names.kind in TAKEN:
        raise ConfigError(
            f"NAME {name!r}: makes a class {names.kind}, which is one of mtal's; expected a name of its own: choose "
            "another"
        )
    offers = [Offer(one, target, "mtal", "") for one, target in STRATEGIES.items()] + plugin_strategies()
    if owner := next((offer.package for offer in offers if offer.name == name), None):
        raise ConfigError(f"NAME {name!r}: is a strategy of {owner}; expected a name of its own: choose another")
    if names.module in SPECIAL or _is_module(names.module):
        raise ConfigError(f"NAME {name!r}: there is a module of this name; expected a name of its own: choose another")
    return names


def _near(name: str) -> str:
    """A name of the right form that is close to another one."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    words = re.sub(r"^[^a-z]+", "", re.sub(r"[^a-z0-9]+", "-", words))
    return words[:LONGEST].strip("-") or "my-strategy"


def _is_module(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # one that is imported and was never found
        return True
    return spec is not None and spec.origin is not None  # a plain folder on the path has no origin, and hides nothing


def _texts(names: Names) -> dict[str, str]:
    """The text of each file by its place in the folder."""
    places = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{names.module}.py": "strategy.py",
        f"tests/test_{names.module}.py": "test_strategy.py",
    }
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    return {
        place: templates.get_template(f"{template}.jinja").render(names=names, version=__version__)
        for place, template in places.items()
    }
