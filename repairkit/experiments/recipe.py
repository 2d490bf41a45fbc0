"""Recipe files: what their headers say, and the ways of running that one file holds.

The keys of a file hold for every way. A table `[paper]`, `[small]` or `[embedded]` holds keys that one way adds or has in their place:
the paper's own data, smaller published data, or what comes with repairkit. A file without such tables runs in one way, as it stands.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
import warnings
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from repairkit.errors import DataError, ModelError, ModelWarning, UsageError
from repairkit.experiments import registry
from repairkit.experiments.recipe_base import Recipe
from repairkit.models import zoo

Way = Literal["paper", "small", "embedded"]
WAYS: tuple[Way, ...] = get_args(Way)
FACTS = ("Source", "Data", "Hardware", "Minutes", "Expected")
"""What the header of a recipe of repairkit says, each in a paragraph of its own that begins with the word."""
_FACT = re.compile(rf"# ({'|'.join(FACTS)}): +(.*)")
_QUOTED = "# figures: "
_MORE = re.compile(r"# {3,}(\S.*)")


SHIPPED = Path(str(files("repairkit"))) / "recipes"
"""The recipes that come with repairkit; in its repository a link to the folder `recipes/`."""


def recipe_folder(given: Path | None) -> Path:
    """The folder of recipes: the given one, `recipes/` where one begins, else the recipes that come with repairkit."""
    local = Path("recipes")
    return given or (local if local.is_dir() else SHIPPED)


def find_recipe(given: Path) -> Path:
    """The recipe file, or the recipe of that name that comes with repairkit.

    Example:
        >>> find_recipe(Path("fig4_dropout")).name
        'fig4_dropout.toml'
    """
    shipped = SHIPPED / f"{given.name.removesuffix('.toml')}.toml"
    named = len(given.parts) == 1 and not given.exists() and shipped.is_file()
    return shipped if named else given


def recipes_in(folder: Path) -> list[Path]:
    """The recipes of a folder, by name.

    Raises:
        UsageError: it holds none.
    """
    if found := sorted(folder.glob("*.toml")):
        return found
    raise UsageError(f"expected a folder of recipes at {folder}, found no .toml file there; give the folder recipes/ of repairkit")


def facts_of(path: Path) -> dict[str, str]:
    """The paragraphs of a recipe's header by their first word, each as one line; those of `FACTS` that are there.

    Raises:
        UsageError: no such file.
    """
    found: dict[str, str] = {}
    last = ""
    for line in _text_of(path).splitlines():
        if not line.startswith("#"):
            break
        if fact := _FACT.fullmatch(line):
            last, found[last] = fact[1], fact[2].strip()
        elif last and (more := _MORE.fullmatch(line)):
            found[last] += f" {more[1].strip()}"
        else:
            last = ""
    return found


def title_of(path: Path) -> str:
    """The title that all ways of running share; "" where each has its own alone."""
    title = _content_of(path).get("title", "")
    return title if isinstance(title, str) else ""


def results_of(path: Path) -> list[Path]:
    """The committed results that a recipe's header quotes and that are there, beside the folder of recipes.

    Raises:
        UsageError: no such file.
    """
    quoted = [name for line in _text_of(path).splitlines() if line.startswith(_QUOTED) for name in line.removeprefix(_QUOTED).split()]
    return [place for name in dict.fromkeys(quoted) if (place := path.resolve().parent.parent / name).is_file()]


def ways_of(path: Path) -> dict[Way, Recipe]:
    """Every way of running a recipe, checked; empty where the file has but one, as it stands.

    Raises:
        UsageError: as `read_recipe`.
    """
    content = _content_of(path)
    return {way: _checked(_merged(content, way), f"{path} ({way})") for way in WAYS if way in content}


def read_recipe(path: Path, *, way: Way | None = None, data_root: Path | None = None, rival: bool = True) -> Recipe:
    """Read and check a recipe.

    The ways "paper" and "small" take the networks that they name, never stand-ins that come with repairkit or are fitted to digits.

    Args:
        path: the file.
        way: which of its ways to run; by default the first of "paper" and "small" whose files and networks are all there, or "embedded" where
            that is the only one.
        data_root: the folder that its paths are relative to.
        rival: whether a recipe keeps its dropout-trained comparison model.

    Raises:
        UsageError: no such file, no TOML, a key that is unknown, missing or of another type, a way that the file does not have, or
            nothing that says which way to run.
        DataError: the data root holds the files of no way.
        ModelError: the weights of a network that "paper" or "small" takes by name are not on this machine.

    Warns:
        ModelWarning: for want of such weights "small" is taken, where the files would do for "paper".
    """
    content = _content_of(path)
    there = [each for each in WAYS if each in content]

    def read(one: Way | None) -> Recipe:
        recipe = _checked(_merged(content, one), f"{path} ({one})") if one else _checked(content, str(path))
        return recipe.varied(rival=rival)

    if way is not None and way not in there:
        has = f"it has {', '.join(there)}" if there else "it has but one, so leave this out"
        raise UsageError(f"{path} has no way of running called {way!r}; {has}")
    if way == "embedded" or there == ["embedded"]:
        return read("embedded")
    if not there:
        return read(None)
    possible: dict[Way, Recipe] = {each: read(each) for each in ([way] if way else there) if each != "embedded"}
    if way is None:
        possible = _with_files(possible, path, data_root, embedded="embedded" in there)
    lacking = {each: next(filter(None, map(zoo.missing_weights_message, recipe.named())), None) for each, recipe in possible.items()}
    first, *_ = possible
    chosen = next((each for each, text in lacking.items() if text is None), None)
    if chosen is None:
        instead = ", or run the recipe with --embedded" if "embedded" in there else ""
        raise ModelError(f"{path} ({first}): {lacking[first]}{instead}")
    if chosen != first:
        warnings.warn(f"{path} runs in the way {chosen} and not {first}: {lacking[first]}", ModelWarning, stacklevel=2)
    return possible[chosen]


def check_recipe(path: Path) -> None:
    """Check the keys of every way of a recipe, whatever data and weights are there.

    Raises:
        UsageError: no such file, no TOML, or a key that is unknown, missing or of another type.
    """
    if not ways_of(path):
        _checked(_content_of(path), str(path))


def _with_files(possible: Mapping[Way, Recipe], path: Path, data_root: Path | None, *, embedded: bool) -> dict[Way, Recipe]:
    """Those ways whose files the data root holds.

    Raises:
        UsageError: there is no data root.
        DataError: it holds the files of none.
    """
    if data_root is None:
        or_embedded = " or --embedded, which needs no data" if embedded else ""
        holding = " or ".join(f"{', '.join(recipe.paths())} ({each})" for each, recipe in possible.items())
        raise UsageError(f"{path} runs in {len(possible) + embedded} ways: give --data-root, a folder with {holding}{or_embedded}")
    missing = {each: [file for file in recipe.paths() if not (data_root / file).exists()] for each, recipe in possible.items()}
    if found := {each: recipe for each, recipe in possible.items() if not missing[each]}:
        return found
    lacking = "; ".join(f"{each}: {', '.join(files)}" for each, files in missing.items())
    raise DataError(f"{data_root} lacks what {path} takes ({lacking}); give the folder that holds these with --data-root, or --embedded")


def _recipe_classes() -> dict[str, type[Recipe]]:
    classes = {command: registry.experiment(command).recipe_class for command in registry.EXPERIMENTS}
    return {command: recipe for command, recipe in classes.items() if recipe is not None}


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"expected a recipe at {path}, could not read it; repairkit recipes lists those of repairkit") from None


def _content_of(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(_text_of(path))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    for way in WAYS:
        if not isinstance(content.get(way, {}), dict):
            raise UsageError(
                f"{path}: {way}: expected a table of the keys that this way of running has, got {content[way]!r}; correct this key"
            )
    keys = {key for recipe in _recipe_classes().values() for key in recipe.model_fields}
    for table in (key for key, value in content.items() if isinstance(value, dict) and key not in keys.union(WAYS)):
        if near := difflib.get_close_matches(table.casefold(), WAYS, n=1):
            raise UsageError(
                f"{path}: [{table}] is no way of running; did you mean [{near[0]}]? The ways are {', '.join(f'[{way}]' for way in WAYS)}"
            )
    return content


def _merged(content: Mapping[str, Any], way: Way) -> dict[str, Any]:
    """The keys of one way: its own over those of all, table by table."""

    def over(own: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
        both = {key: over(own[key], common[key]) for key in own if isinstance(own[key], dict) and isinstance(common.get(key), dict)}
        return {**common, **own, **both}

    return over(content[way], {key: value for key, value in content.items() if key not in WAYS})


def _checked(content: Mapping[str, Any], where: str) -> Recipe:
    """The keys as the recipe of their command; `where` names the file in errors."""
    command = content.get("command")
    classes = _recipe_classes()
    if command not in list(classes):
        raise UsageError(f"{where}: command: expected {' or '.join(classes)}, got {command!r}; correct this key")
    try:
        # read as JSON, in which a strict check takes lists for tuples and whole numbers for numbers, but no text or truth value
        recipe = classes[command].model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        text = first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"{where}: {'.'.join(map(str, first['loc']))}: {text}; correct this key" if first["loc"] else f"{where}: {text}"
        ) from None
    recipe.run_options(where)
    return recipe
