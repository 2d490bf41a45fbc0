"""The ways of running that a recipe file holds, and what its header says."""

from functools import partial
from pathlib import Path

import pytest

from repairkit.errors import DataError, ModelError, ModelWarning, UsageError
from repairkit.experiments.recipe import FACTS, facts_of, read_recipe, recipes_in, ways_of

TEXT = """
# What it is about.
#
# Source:   A paper, section 4
#           and figure 1.
# Minutes:  3
#
# Measured:
# nothing yet

# Expected: not of the header
command = "accuracy"
title = "Of all"
model = "resnet18"
[options]
top = 7
budget = 100
[paper]
title = "Of the paper"
options.budget = 900
data.folder = "large"
[small]
weights = "own.pth"
data.folder = "few"
data.parts = ["val"]
[embedded]
size = 48
"""


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(TEXT.lstrip())
    return file


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Where torch's cache would hold weights of resnet18; nothing is there."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder / "resnet18-f37072fd.pth"


def test_a_way_has_its_own_keys_over_those_of_all(file):
    ways = ways_of(file)
    assert list(ways) == ["paper", "small", "embedded"]
    assert [recipe.title for recipe in ways.values()] == ["Of the paper", "Of all", "Of all"]
    assert [recipe.options for recipe in ways.values()] == [{"top": 7, "budget": 900}, {"top": 7, "budget": 100}, {"top": 7, "budget": 100}]
    assert [recipe.paths() for recipe in ways.values()] == [["large"], ["few", "own.pth"], []]
    assert (ways["small"].data.parts, ways["paper"].data.parts, ways["embedded"].data) == (["val"], None, None)


def test_the_data_root_says_which_way(file, tmp_path, published):
    published.touch()
    (tmp_path / "few").mkdir()
    with pytest.raises(DataError, match=r"lacks what .* takes \(paper: large; small: own.pth\); give the folder"):
        read_recipe(file, data_root=tmp_path)
    (tmp_path / "own.pth").touch()
    assert read_recipe(file, data_root=tmp_path).weights == "own.pth"
    (tmp_path / "large").mkdir()
    assert read_recipe(file, data_root=tmp_path).title == "Of the paper"
    assert read_recipe(file, way="small", data_root=tmp_path).weights == "own.pth"
    assert read_recipe(file, way="embedded").size == 48


def test_the_ways_of_data_take_no_stand_in(file, tmp_path, published):
    for name in ("few", "large", "own.pth"):
        (tmp_path / name).touch()
    lacking = f"expected the weights of resnet18 in {published.parent}, found none; put a file there that torchvision publishes .*{published.name}"
    with pytest.raises(ModelError, match=rf"recipe.toml \(paper\): {lacking}.*, or run the recipe with --embedded$"):
        read_recipe(file, way="paper", data_root=tmp_path)
    with pytest.raises(ModelError, match=lacking):
        read_recipe(file, way="paper")
    with pytest.warns(ModelWarning, match=rf"recipe.toml runs in the way small and not paper: {lacking}"):
        assert read_recipe(file, data_root=tmp_path).weights == "own.pth"
    (tmp_path / "own.pth").unlink()
    with pytest.raises(ModelError, match=lacking):
        read_recipe(file, data_root=tmp_path)
    assert read_recipe(file, way="embedded").size == 48
    published.touch()
    assert read_recipe(file, way="paper").title == "Of the paper"


ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("file", recipes_in(ROOT / "recipes"), ids=lambda file: file.stem)
def test_no_committed_recipe_runs_its_way_paper_without_the_papers_networks(file, monkeypatch, tmp_path):
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path))
    expected = r"\(paper\): expected the weights of (squeezenet_celeba|inception_v3) (at|in) .*, found no"
    with pytest.raises(ModelError, match=expected):
        read_recipe(file, way="paper", data_root=tmp_path)


def test_a_rival_that_is_not_asked_for_may_be_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path))
    trained = tmp_path / "models" / "squeezenet_celeba.safetensors"
    trained.parent.mkdir()
    trained.touch()
    recipe = ROOT / "recipes" / "fig3a_fairness.toml"
    with pytest.raises(ModelError, match=r"weights of squeezenet_celeba_dropout at .*; make them with repairkit train --data celeba"):
        read_recipe(recipe, way="paper")
    assert read_recipe(recipe, way="paper", rival=False).dropout_model is None


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('command = "dropout"\nmodel = "squeezenet_celeba"', ["squeezenet_celeba", "squeezenet_celeba_dropout"]),
        ('command = "dropout"\nmodel = "resnet18"\nweights = "a"\ndropout_model = "resnet18"\ndropout_weights = "b"', []),
        ('command = "adversarial"\nmodel = "resnet18"\nweights = "a"\ncarriers = [{model = "alexnet"}]', ["alexnet"]),
        ('command = "prune"\nmodel = "resnet18"', ["resnet18"]),
        ('command = "truncation"\n[[networks]]\nname = "a"\nmodel = "resnet18"', ["resnet18"]),
    ],
)
def test_networks_that_are_taken_by_name(tmp_path, content, named):
    file = tmp_path / "recipe.toml"
    file.write_text(f'title = "T"\n{content}\n')
    assert read_recipe(file).named() == named


def test_nothing_that_says_which_way(file):
    with pytest.raises(
        UsageError, match=r"runs in 3 ways: give --data-root, a folder with large \(paper\) or few, own.pth \(small\) or --embedded"
    ):
        read_recipe(file)


def test_a_way_that_is_not_there(file):
    file.write_text(TEXT.replace("[embedded]", "[small.more]"))
    with pytest.raises(UsageError, match=r"has no way of running called 'embedded'; it has paper, small$"):
        read_recipe(file, way="embedded")
    file.write_text(TEXT.partition("[paper]")[0] + "[embedded]\nsize = 48\n")
    assert read_recipe(file).size == 48
    file.write_text(TEXT.partition("[paper]")[0])
    assert (ways_of(file), read_recipe(file).title) == ({}, "Of all")
    with pytest.raises(UsageError, match=r"called 'embedded'; it has but one, so leave this out$"):
        read_recipe(file, way="embedded")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("size = 48", "sise = 48"), r"recipe.toml \(embedded\): sise: Extra inputs are not permitted; correct this key"),
        (("options.budget = 900", "options.bugdet = 900"), r"recipe.toml \(paper\): options.bugdet is no option"),
        (("options.budget = 900", 'options.budget = "9"'), r"recipe.toml \(paper\): options.budget: Input should be a valid number"),
        (("[embedded]\nsize = 48", ""), None),
        (("top = 7", "tops = 7"), r"\(paper\): options.tops is no option"),
    ],
)
def test_a_mistake_names_the_way_and_the_key(file, change, message):
    file.write_text(TEXT.replace(*change))
    if message is None:
        assert list(ways_of(file)) == ["paper", "small"]
        return
    with pytest.raises(UsageError, match=message):
        ways_of(file)


def test_a_way_is_a_table(file):
    file.write_text(TEXT.partition("[options]")[0] + 'embedded = "yes"\n')
    with pytest.raises(UsageError, match=r"embedded: expected a table of the keys .*, got 'yes'; correct this key"):
        read_recipe(file)


@pytest.mark.parametrize(
    ("table", "misspelt"),
    [("[embedded]", "[embeded]"), ("[small]", "[smal]"), ("[paper]", "[Paper]"), ("[small]", "[[smal.networks]]\n[smal.training]")],
)
def test_a_misspelt_way_is_named_beside_those_there_are(file, table, misspelt):
    assert table in TEXT
    file.write_text(TEXT.replace(table, misspelt))
    written = misspelt.strip("[]").partition(".")[0]
    expected = rf"recipe.toml: \[{written}\] is no way of running; did you mean \{table}\? The ways are \[paper\], \[small\], \[embedded\]$"
    for read in (ways_of, read_recipe, partial(read_recipe, way="embedded")):
        with pytest.raises(UsageError, match=expected):
            read(file)


def test_facts_are_paragraphs_of_the_header(file, tmp_path):
    assert facts_of(file) == {"Source": "A paper, section 4 and figure 1.", "Minutes": "3"}
    with pytest.raises(UsageError, match="expected a recipe at"):
        facts_of(tmp_path / "none.toml")


def test_committed_recipes_state_every_fact(pytestconfig):
    for recipe in recipes_in(pytestconfig.rootpath / "recipes"):
        assert list(facts_of(recipe)) == list(FACTS), recipe


def test_a_folder_without_recipes(tmp_path):
    with pytest.raises(UsageError, match=r"expected a folder of recipes at .*, found no .toml file there"):
        recipes_in(tmp_path)
