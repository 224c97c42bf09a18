"""Components by name: what ``name:`` in a YAML stands for, with its options checked against its own fields."""

import copy
import dataclasses
import difflib
import importlib
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from orchestrator.errors import ConfigError
from strategies import STRATEGIES
from tasks import ADAPTERS, MODELS, TASKS, WEIGHTINGS

Kind = Literal["strategy", "model", "task", "weighting", "data"]
ROOMS: Mapping[str, Mapping[str, str]] = {
    "strategy": STRATEGIES,
    "model": MODELS,
    "task": TASKS,
    "weighting": WEIGHTINGS,
    "data": ADAPTERS,
}
SAID: Mapping[str, str] = {"data": "data set"}  # what a kind is called, where it is not its own name
PLUGIN_GROUP = "mtal.strategies"
NEEDS: Mapping[str, tuple[str, ...]] = {  # what an object must have to be of a kind; of a model its user asks
    "strategy": ("reads", "views", "scores_labeled", "score_batch", "select", "explain", "at"),
    "task": ("metric", "label_cost"),
    "weighting": ("total", "step", "weights", "parameters"),
    "data": ("size", "classes", "semantic_lut", "records"),
}


_OF_PYDANTIC = re.compile(r"function-|(float|str)$|.*\[")  # parts of its paths that are no keys: members of a union


@dataclasses.dataclass(frozen=True)
class Component:
    """A chosen class and its options: ``{name: boxmask, tau: 0.3}``."""

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def component_of(value: Any, where: str) -> Component:
    """A component from YAML data: its name alone, or a mapping with ``name`` and its options."""
    if isinstance(value, str):
        return Component(value)
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        return Component(value["name"], {k: v for k, v in value.items() if k != "name"})
    raise ConfigError(f"{where}: found {value!r}; expected a name, or a mapping with 'name' and its options")


def guess(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" when something is close, else what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there is {', '.join(names) or 'nothing'}"


@dataclasses.dataclass(frozen=True)
class Offer:
    """A strategy that an installed package offers by an entry point."""

    name: str
    target: str  # module:Class
    package: str
    version: str


def locate(kind: Kind, name: str, where: str) -> str:
    """The ``module:attribute`` behind a name: the room's dict, an entry point (strategies), or the name itself."""
    if ":" in name:
        return name
    room = ROOMS[kind]
    plugins = plugin_strategies() if kind == "strategy" else []
    if why := why_not(name, plugins):
        raise ConfigError(f"{where}: {why}")
    if name in room:
        return room[name]
    known = {offer.name: offer.target for offer in plugins}
    if name in known:
        return known[name]
    raise ConfigError(f"{where}: no {SAID.get(kind, kind)} is called {name!r}; {guess(name, [*room, *known])}")


def plugin_strategies() -> list[Offer]:
    """Every strategy that an installed package offers, by name and package; several of one name are all in it."""
    try:
        offers = [_offer(point, point.dist) for point in entry_points(group=PLUGIN_GROUP)]
    except (TypeError, ValueError):  # a damaged package; it must not take the others along
        offers = _one_by_one()
    return sorted(offers, key=lambda offer: (offer.name, offer.package, offer.target))


def _one_by_one() -> list[Offer]:
    """The offers of each package by itself, as ``entry_points`` orders them; a damaged one is an offer of nothing."""
    offers: dict[str, list[Offer]] = {}
    for package in distributions():
        name = re.sub(r"[-_.]+", "-", _said(package, "Name")).lower()
        if name in offers:  # hidden by another one of this name
            continue
        try:
            offers[name] = [_offer(point, package) for point in package.entry_points.select(group=PLUGIN_GROUP)]
        except (TypeError, ValueError):
            offers[name] = [_offer(EntryPoint("entry_points.txt", "", PLUGIN_GROUP), package)]
    return [offer for mine in offers.values() for offer in mine]


def _offer(point: EntryPoint, package: Distribution | None) -> Offer:
    name = _said(package, "Name") or "an unknown package"
    return Offer(point.name, point.value.partition("[")[0].strip(), name, _said(package, "Version"))


def _said(package: Distribution | None, field: str) -> str:
    """What the metadata of a package say; "" where they are damaged and do not."""
    return str(package.metadata[field] or "") if package is not None and field in package.metadata else ""


def why_not(name: str, offers: Iterable[Offer]) -> str:
    """Why a strategy of this name cannot be had although it is offered; empty where nothing is against it."""
    mine = [offer for offer in offers if offer.name == name]
    if not mine:
        return ""
    packages = [offer.package for offer in mine]
    if name in STRATEGIES:
        return (
            f"the strategy {name!r} is both built in and offered by the plugin {' and '.join(packages)}; rename the "
            "plugin's entry point"
        )
    if len(mine) > 1:
        both = "both " if len(mine) == 2 else ""
        return f"the strategy {name!r} is offered by {both}{' and '.join(packages)}; uninstall all but one"
    if ":" in name:
        return (
            f"the strategy {name!r} of {packages[0]} has a colon in its name, so that it reads as module:Class; rename "
            "its entry point"
        )
    if not mine[0].target:
        return f"the package {packages[0]} has a damaged entry_points.txt; install it again"
    if not all(mine[0].target.partition(":")):
        return (
            f"the strategy {name!r} of {packages[0]} is the entry point {mine[0].target!r}; expected module:Class: "
            "correct it in that package"
        )
    return ""


def attribute(target: str) -> Any:
    """The object behind ``module:attribute`` of our own rooms, imported when it is asked for."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def resolve(kind: Kind, name: str, where: str) -> Any:
    """The class or function behind a name; ConfigError when it cannot be imported."""
    target = locate(kind, name, where)
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{where}: {name!r} needs the module {error.name!r}, which is not installed or not on the path; "
            "start the command in its folder, or install it"
        ) from error
    except (Exception, SystemExit) as error:  # a module that is imported may raise anything, or end the program
        raise ConfigError(
            f"{where}: importing {module_name!r} failed with {type(error).__name__}: {error}; mend that module"
        ) from error
    if not hasattr(module, attribute):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise ConfigError(f"{where}: {module_name!r} has no {attribute!r}; {guess(attribute, public)}")
    found = getattr(module, attribute)
    if not callable(found):
        raise ConfigError(
            f"{where}: {name!r} is of type {type(found).__name__}; expected a class or a function: name the {kind}"
        )
    return found


def make(kind: Kind, component: Component, where: str, *arguments: Any) -> Any:
    """Build a component: its options are checked, then its class or function is called."""
    factory = resolve(kind, component.name, where)
    try:
        options = checked_options(factory, component.options, where, skip=len(arguments))
        made = factory(*arguments, **options)
        lacks = [name for name in NEEDS.get(kind, ()) if not hasattr(made, name)]
    except ConfigError:
        raise
    except (ValueError, OSError, ImportError) as error:
        raise ConfigError(f"{where}: {error}") from error
    except (Exception, SystemExit) as error:  # so may a constructor that somebody brings
        raise ConfigError(
            f"{where}: making {component.name!r} failed with {type(error).__name__}: {error}; correct its options, or "
            "mend it"
        ) from error
    if lacks:
        advice = "derive it from strategies.base.Strategy" if kind == "strategy" else "add them"
        raise ConfigError(
            f"{where}: {component.name!r} lacks {', '.join(lacks)}; every {SAID.get(kind, kind)} has them: {advice}"
        )
    return made


def checked_options(
    factory: Callable[..., Any], options: Mapping[str, Any], where: str, skip: int = 0
) -> dict[str, Any]:
    """The options as values of the factory's own parameter types; ConfigError for unknown keys and wrong types."""
    shape = factory if dataclasses.is_dataclass(factory) else _signature(factory, skip)
    if shape is None:  # a factory with **options checks them itself
        return dict(options)
    try:
        refuse_unknown_keys(shape, options, where)
        inner = _inner_components(shape, options, where)
        plain = {key: value for key, value in options.items() if key not in inner}
        value = validate(_without(shape, frozenset(inner)) if inner else shape, plain, where)
    except (PydanticUserError, NameError) as error:
        name = getattr(factory, "__name__", "it")
        first = str(error).partition(". ")[0]
        raise ConfigError(
            f"{where}: the options of {name} have types that no YAML can fill ({first}); expected numbers, texts, "
            "lists, mappings and dataclasses of them: change their annotations"
        ) from error
    return {**{f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}, **inner}


def _inner_components(shape: Any, options: Mapping[str, Any], where: str) -> dict[str, tuple[Any, ...]]:
    """The components inside a component: fields marked ``field(metadata={"component": kind})`` hold a tuple of them."""
    made: dict[str, tuple[Any, ...]] = {}
    for f in dataclasses.fields(shape):
        if "component" not in f.metadata:
            continue
        place, listed = _inside(where, f.name), options.get(f.name)
        if not isinstance(listed, list | tuple):
            found = f"found {listed!r}" if f.name in options else "this key is missing"
            raise ConfigError(f"{place}: {found}; expected a list of names, or of mappings with 'name' and its options")
        made[f.name] = tuple(
            make(f.metadata["component"], component_of(one, spot), spot)
            for i, one in enumerate(listed)
            for spot in [_inside(place, str(i))]
        )
    return made


@cache
def _without(shape: Any, names: frozenset[str]) -> Any:
    """The dataclass without some of its fields."""
    hints = typing.get_type_hints(shape)
    rows: list[Any] = [
        (f.name, hints[f.name], dataclasses.field(default=f.default, default_factory=f.default_factory))
        for f in dataclasses.fields(shape)
        if f.init and f.name not in names
    ]
    return dataclasses.make_dataclass(shape.__name__, rows, frozen=True, kw_only=True)


@cache
def _signature(factory: Callable[..., Any], skip: int) -> Any:
    """A dataclass of a function's (or class's) keyword parameters, so that both are checked in one way."""
    parameters = list(inspect.signature(factory).parameters.values())[skip:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    parameters = [p for p in parameters if p.kind is not p.VAR_POSITIONAL]
    source = factory.__init__ if inspect.isclass(factory) else factory
    hints = typing.get_type_hints(source)
    rows: list[Any] = [
        (p.name, hints.get(p.name, Any))
        if p.default is p.empty
        else (p.name, hints.get(p.name, Any), dataclasses.field(default_factory=partial(copy.copy, p.default)))
        for p in parameters
    ]
    return dataclasses.make_dataclass(getattr(factory, "__name__", "options"), rows, frozen=True)


def validate(shape: Any, value: Any, where: str) -> Any:
    """A value of a (data)class from plain YAML data: strict types, unknown keys refused."""
    refuse_unknown_keys(shape, value, where)
    try:
        text = json.dumps(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}; expected plain numbers, texts, lists and mappings") from error
    try:
        return _adapter(shape).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(p) for p in first["loc"] if not _OF_PYDANTIC.match(str(p)))
        raise ConfigError(f"{_inside(where, path)}: {_sentence(first)}") from error


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def _sentence(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        return "this key is missing; add it"
    if error["type"] == "value_error":
        return message
    expected = message.removeprefix("Input should be ").replace("an object", "a mapping").replace("valid array", "list")
    return f"found {error['input']!r}; expected {expected}; correct the value"


def refuse_unknown_keys(shape: Any, value: Any, where: str) -> None:
    """ConfigError for a key that the dataclass (or one inside it) does not have."""
    origin = typing.get_origin(shape)
    if origin in (typing.Union, types.UnionType):
        for option in typing.get_args(shape):
            if dataclasses.is_dataclass(option):
                refuse_unknown_keys(option, value, where)
        return
    if not dataclasses.is_dataclass(shape) or not isinstance(value, Mapping):
        return
    hints = typing.get_type_hints(shape)
    fields = {f.name: hints[f.name] for f in dataclasses.fields(shape) if f.init}
    name = shape.__name__ if isinstance(shape, type) else type(shape).__name__
    for key, inner in value.items():
        if key not in fields:
            raise ConfigError(f"{_inside(where, key)}: no such key in {name}; {guess(str(key), fields)}")
        refuse_unknown_keys(fields[key], inner, _inside(where, key))


def _inside(where: str, key: str) -> str:
    """The place of a key: ``demo.yaml: train`` and ``steps`` make ``demo.yaml: train.steps``."""
    if not key:
        return where.removesuffix(": ")
    return f"{where}{key}" if where.endswith(": ") else f"{where}.{key}"
