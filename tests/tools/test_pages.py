"""Pages say what the code holds: the picture of the layers, and links to files."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import call

from repairkit.data.images import LabelledImages

ROOT = Path(__file__).parents[2]
HOME = "https://github.com/repairkit/repairkit/blob/main/"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def layers():
    """The layers of the import contract, from top to bottom, each a set of folders and modules."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    stated = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [layer.replace("(", "").replace(")", "") for layer in stated]


def test_the_picture_of_the_layers_is_the_import_contract():
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    picture = re.search(r"<!-- layers: .*? -->\n```\n(.*?)```", page, re.DOTALL)[1]
    shown = [re.split(r"\s{2,}", line)[0] for line in picture.splitlines()]
    assert shown == [layer for layer in layers() if layer != "__main__"]


def test_every_folder_of_the_package_has_a_layer():
    folders = {path.stem for path in (ROOT / "repairkit").iterdir() if path.name != "__init__.py" and (path / "__init__.py").is_file()}
    assert folders <= {name for layer in layers() for name in re.findall(r"\w+", layer)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    here = [
        ROOT / link.removeprefix(HOME) if link.startswith(HOME) else page.parent / link
        for link in links
        if HOME in link or "://" not in link
    ]
    missing = [str(target) for target in here if not Path(str(target).partition("#")[0]).exists()]
    assert not missing


def test_the_readme_has_no_link_that_only_the_repository_can_follow():
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert links
    assert all(link.startswith("https://") for link in links)


def test_the_options_that_the_pages_show_exist(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES).replace("\\\n", " ")
    commands = re.findall(r"^repairkit ([a-z]+)\b(.*)", text, re.MULTILINE)
    assert {name for name, _ in commands} >= {
        "fairness",
        "adversarial",
        "recall",
        "accuracy",
        "dropout",
        "prune",
        "train",
        "run",
        "recipes",
    }
    helps = {name: call(name, "--help-all")[1] for name, _ in commands}
    missing = {option for name, arguments in commands for option in re.findall(r"--[a-z-]+", arguments) if option not in helps[name]}
    assert not missing
    named = set(re.findall(r"`(--[a-z-]+)", text)) - {"--help-all"}
    assert not {option for option in named if not any(option in shown for shown in helps.values())}


def test_the_objective_of_the_contributing_page_works_as_written():
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Add an objective")[2].partition("\n## ")[0]
    labels = np.array([0, 0, 0, 1, 1, 2])
    images = LabelledImages(np.zeros((6, 8, 8, 3), np.uint8), labels, np.full(6, "all"), classes=("a", "b", "c"), name="six")
    names = {"images": images}
    exec("\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL)), names)  # noqa: S102 - our own page
    assert names["BalancedAccuracy"]().weights(images).sum() == pytest.approx(1)
