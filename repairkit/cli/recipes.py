"""`repairkit recipes`: the experiments there are."""

from __future__ import annotations

import json
from pathlib import Path

from repairkit.cli.settings import RecipesSettings
from repairkit.experiments import results as kinds
from repairkit.experiments.recipe import facts_of, read_recipe, recipe_folder, recipes_in, results_of, title_of, ways_of


def recipes(settings: RecipesSettings) -> None:
    """List the recipes of a folder."""
    found = [describe(file) for file in recipes_in(recipe_folder(settings.folder))]
    if settings.as_json:
        print(json.dumps(found, indent=1))  # noqa: T201
        return
    for recipe in found:
        lines = [f"  {name}: {value}" for name, value in recipe.items() if name != "recipe" and value]
        print("\n".join([recipe["recipe"], *lines, ""]))  # noqa: T201


def describe(file: Path) -> dict[str, str]:
    """What the file says of itself.

    Raises:
        UsageError: it is no recipe.
    """
    ways = ways_of(file)
    recipe = next(iter(ways.values())) if ways else read_recipe(file)
    facts = {name.lower(): text for name, text in facts_of(file).items()}
    root = file.resolve().parent.parent
    measured = " ".join(f"{kinds.read(place).verdict.headline} ({place.parent.relative_to(root)})" for place in results_of(file))
    return {
        "recipe": str(file),
        "title": title_of(file) or recipe.title,
        "command": recipe.command,
        "ways": ", ".join(ways),
        **facts,
        "measured": measured,
    }
