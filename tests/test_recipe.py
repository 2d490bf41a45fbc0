import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import three_colours
import tiny_faces

from repairkit.attacks.methods import PGD
from repairkit.data import loaders
from repairkit.errors import DataError, ModelError, UsageError
from repairkit.experiments import loading as preparing
from repairkit.experiments import registry
from repairkit.experiments.attack_task import PRESETS, SHARES, AttackBudget, AttackOptions
from repairkit.experiments.base import Loading
from repairkit.experiments.fairness.recipe import FairnessRecipe
from repairkit.experiments.recipe import WAYS, read_recipe, ways_of
from repairkit.experiments.recipe_base import FolderSection
from repairkit.models import zoo
from repairkit.network.weights import hash_state, read_weights, write_weights
from repairkit.run.options import Options

ROOT = Path(__file__).parent.parent
COMMITTED = sorted((ROOT / "recipes").glob("*.toml"))

NAMED = """
command = "fairness"
title = "Named"
size = 48
model = "squeezenet_celeba"
[target]
name = "target.csv"
[source]
name = "source.csv"
"""
TRAINED = """
command = "fairness"
title = "Trained"
size = 48
[target]
name = "target"
[source]
name = "source"
[training]
architecture = "squeezenet1_0"
seed = 5
init = "start.safetensors"
source_groups = ["*men"]
[training.quotas]
men = 24
women = 16
[training.plain]
epochs = 2
learning_rate = 1e-5
[training.dropout]
epochs = 1
learning_rate = 1e-5
filter_dropout = 0.1
"""
CLASSES = """
command = "recall"
title = "Classes"
model = "resnet18"
weights = "own.safetensors"
per_class = 30
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
classes = ["red", "blue"]
[data]
folder = "colours"
parts = ["train", "val"]
[options]
top = 2
"""


def prepare(recipe, data_root, *, device, threads, fit=True):
    return registry.experiment(recipe.command).load_recipe(recipe, Loading(fit=fit, data_root=data_root, device=device, threads=threads))


@pytest.fixture
def write(tmp_path):
    def written(text, *changes):
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "recipe.toml"
        file.write_text(text)
        return file

    return written


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.stem)
def test_committed_recipes_are_sound_in_each_of_their_ways(file):
    ways = ways_of(file)
    assert tuple(ways) == WAYS
    for recipe in ways.values():
        assert recipe.run_options(file).budget > 0
        if isinstance(recipe, FairnessRecipe):
            assert recipe.target.name in loaders.NAMES
            assert recipe.source.name in loaders.NAMES
    assert ways["embedded"].paths() == []
    assert ways["small"].paths()


def test_there_is_a_recipe_of_each_command():
    assert {read_recipe(file, way="embedded").command for file in COMMITTED} >= {
        "fairness",
        "recall",
        "accuracy",
        "adversarial",
        "truncation",
        "efficiency",
    }


def test_options_reach_the_run_as_written(write):
    file = write(NAMED + "[options]\nfolds = 5\nbudget = 1234\nsource_counts = [4, 3, 2]\nranking = 'recall'\nmax_clean_drop = 0.5\n")
    recipe = read_recipe(file)
    expected = Options(folds=5, budget=1234, source_counts=(4, 3, 2), ranking="recall", max_clean_drop=0.5, seed=3, device="cpu")
    assert recipe.run_options(file, seed=3, device="cpu") == expected
    assert read_recipe(write(NAMED)).run_options() == Options()


@pytest.mark.parametrize(
    ("text", "change", "message"),
    [
        (NAMED, ('"Named"', '"Named"\ncolour = "red"'), "colour: Extra inputs are not permitted"),
        (NAMED, ('name = "target.csv"', 'name = "x"\nfodler = "y"'), "target.fodler: Extra inputs are not permitted"),
        (TRAINED, ("epochs = 2", "epochs = 2\nmomentum = 0.9"), "training.plain.momentum: Extra inputs"),
        (
            NAMED,
            ('command = "fairness"', 'command = "fariness"'),
            r"command: expected fairness or .* or recall or .*, got 'fariness'",
        ),
        (NAMED, ('command = "fairness"', 'command = ["fairness"]'), r"command: expected .*, got \['fairness'\]"),
        (NAMED, ('command = "fairness"', ""), "command: expected .*, got None; correct this key"),
        (NAMED, ('title = "Named"', ""), "title: Field required"),
        (NAMED, ("size = 48", 'size = "big"'), "size: Input should be a valid integer"),
        (NAMED, ("size = 48", 'size = "48"'), "size: Input should be a valid integer"),
        (NAMED, ("size = 48", "size = true"), "size: Input should be a valid integer"),
        (NAMED, ("size = 48", "size = 0"), "size: Input should be greater than or equal to 1"),
        (TRAINED, ("epochs = 2", "epochs = 0"), "training.plain.epochs: Input should be greater than or equal to 1"),
        (TRAINED, ("men = 24", "men = -4"), "training.quotas.men: Input should be greater than or equal to 1"),
        (TRAINED, ("seed = 5", f"seed = {2**63}"), "training.seed: Input should be less than or equal to 9223372036854775807"),
        (NAMED, ("[target]", f"[options]\nseed = {2**63}\n[target]"), "options.seed must lie between 0 and"),
        (TRAINED, ("epochs = 2", "epochs = 2.5"), "training.plain.epochs: Input should be a valid integer"),
        (TRAINED, ("men = 24", 'men = "many"'), "training.quotas.men: Input should be a valid integer"),
        (NAMED, ('model = "squeezenet_celeba"', ""), r"give either a \[training\] section or a model, not both or neither"),
        (TRAINED, ("size = 48", 'size = 48\nmodel = "squeezenet_celeba"'), r"give either a \[training\] section or a model, not both"),
        (
            TRAINED,
            ("size = 48", 'size = 48\ndropout_model = "x"'),
            r"dropout_model goes with model; beside \[training\] give \[training.dr",
        ),
        (NAMED, ("[target]", "[options]\nbugdet = 3\n[target]"), "options.bugdet is no option; the options are engine, budget, top"),
        (NAMED, ("[target]", '[options]\nbudget = "much"\n[target]'), "options.budget: Input should be a valid number, got 'much'"),
        (NAMED, ("[target]", '[options]\nfolds = "5"\n[target]'), "options.folds: Input should be a valid integer, got '5'"),
        (NAMED, ("[target]", "[options]\nfolds = 2\n[target]"), "options.folds must be 1 or at least 3"),
        (NAMED, ("[target]", '[options]\nengine = "magic"\n[target]'), "options.engine: Input should be 'tmab', .*, got 'magic'"),
        (
            NAMED,
            ("[target]", "[options]\nsource_counts = [1, 2]\n[target]"),
            "options.source_counts: Field required, got .1, 2.; correct this key",
        ),
        (NAMED, ("[target]", "[target"), "is not TOML: .*line"),
        (CLASSES, ("parts", "prats"), "data.prats: Extra inputs are not permitted"),
        (CLASSES, ("per_class = 30", "per_class = 0"), "per_class: Input should be greater than or equal to 1"),
        (CLASSES, ("0.5, 0.5, 0.5", "0.5, 0.5"), "mean.2: Field required"),
        (CLASSES, ('model = "resnet18"', ""), "model: Field required"),
        (CLASSES, ("[options]", "[target]\nname = 'drawn'\n[options]"), "target: Extra inputs are not permitted"),
        (CLASSES, ('["red", "blue"]', "[]"), "toml: classes: give the names of those whose recall is asked about, at least one$"),
        (CLASSES, ('"recall"', '"accuracy"'), "classes and repair go with .*; accuracy asks about all classes, so leave them out$"),
        (CLASSES, ("top = 2", "folds = 5"), "options.folds is no option; the options are engine, budget, top"),
        (
            CLASSES,
            ("top = 2", 'ranking = "recall + source"'),
            "options.ranking must be 'specific' or 'recall' for a class, got 'recall . source'",
        ),
        (
            CLASSES,
            ("top = 2", 'compare = ["fairprune"]'),
            "options.compare: fairprune does not suit this command; there are random, weight norm",
        ),
    ],
)
def test_a_recipe_that_is_wrong_names_the_key(write, text, change, message):
    file = write(text, change)
    with pytest.raises(UsageError, match=message) as error:
        read_recipe(file)
    assert "\n" not in str(error.value)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", "folder"])
def test_recipes_that_cannot_be_read(tmp_path, content):
    file = tmp_path / "recipe.toml"
    if content == "folder":
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(
        UsageError, match=r"expected a recipe at .*recipe.toml, could not read it; repairkit recipes lists those of repairkit"
    ):
        read_recipe(file)


ATTACKED = """
command = "adversarial"
title = "an attack"
model = "inception_v3"
elsewhere = "other"

[[carriers]]
model = "squeezenet1_1"
weights = "other.safetensors"

[attack]
eps = 8
images = [20, 10, 40]
effort = {adaptive = 12}
"""


def test_a_recipe_of_an_attack_gives_bounds_in_255ths_and_leaves_the_rest_as_the_command_has_it(write):
    recipe = read_recipe(write(ATTACKED))
    attacks = recipe.attack_options()
    assert attacks == AttackOptions(method=PGD(eps=8 / 255), images=(20, 10, 40), effort=replace(PRESETS["quick"], adaptive=12))
    assert recipe.run_options() == Options(target_shares=SHARES, max_clean_drop=0.03)
    assert recipe.attack_options("cuda") == attacks
    on_data = recipe.model_copy(update={"data": FolderSection(folder="imagenet")})
    assert on_data.attack_options().effort == AttackBudget(adaptive=12)
    assert on_data.attack_options("cuda").effort == replace(PRESETS["full"], adaptive=12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("eps = 8", "eps = 0"), "attack: PGD: expected eps in"),
        (("adaptive = 12", "adaptable = 12"), "attack.effort.adaptable is no setting"),
        (("eps = 8", "epsilon = 8"), "attack.epsilon"),
        (("images = [20, 10, 40]", "images = [20, 10]"), "attack.images"),
        (("images = [20, 10, 40]", 'ranking = "both"'), "attack.ranking"),
    ],
)
def test_a_recipe_of_an_attack_that_is_wrong_names_the_key(write, change, message):
    with pytest.raises(UsageError, match=message):
        read_recipe(write(ATTACKED, change))


def test_a_recipe_of_classes_asks_about_each_as_the_command_does(write):
    recipe = read_recipe(write(CLASSES))
    assert (recipe.data.parts, recipe.mean, recipe.per_class) == (["train", "val"], (0.5, 0.5, 0.5), 30)
    assert recipe.run_options() == Options(top=2, ranking="specific", t0=0.97)
    assert read_recipe(write(CLASSES, ("top = 2", 'top = 2\nranking = "recall"'))).run_options() == Options(
        top=2, ranking="recall", t0="auto"
    )
    assert read_recipe(write(CLASSES, ("top = 2", "t0 = 0.9"))).run_options().t0 == 0.9
    assert read_recipe(write(CLASSES, ("top = 2", 'engine = "monte-carlo"'))).run_options().t0 is None
    tasks = recipe.tasks(three_colours.model(), three_colours.images())
    assert [(task.subject, task.repair) for task in tasks] == [("red", False), ("blue", False)]
    accuracy = read_recipe(write(CLASSES, ('"recall"', '"accuracy"'), ('classes = ["red", "blue"]', "")))
    assert accuracy.run_options() == Options(top=2, ranking="recall", t0="settled")
    with pytest.raises(
        UsageError, match=r"options\.t0: recall of a class has few images to settle a live range on; give a number or 'auto'"
    ):
        read_recipe(write(CLASSES, ("top = 2", 't0 = "settled"\nranking = "recall"'))).run_options()
    assert [task.label for task in accuracy.tasks(three_colours.model(), three_colours.images())] == [None]
    with pytest.raises(UsageError, match="no class is called 'rde'; did you mean red"):
        read_recipe(write(CLASSES, ('"red"', '"rde"'))).tasks(three_colours.model(), three_colours.images())


def test_what_stands_in_place_of_the_recipes_options_suits_its_command(write):
    recipe = read_recipe(write(CLASSES))
    assert recipe.run_options("it", precision="bfloat16", batch=8) == replace(recipe.run_options(), precision="bfloat16", batch=8)
    with pytest.raises(
        UsageError, match=r"^it has no use for --source-counts; leave it out. The options of its command are engine, budget"
    ):
        recipe.run_options("it", source_counts=(1, 2, 3))


def test_prepare_with_a_named_model(tmp_path, write, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, images in (("target", tiny_faces.target()), ("source", tiny_faces.source())):
        tiny_faces.write_manifest(tmp_path, images, name)
    # numbers in place of names are read by the model's classes
    source = tmp_path / "source.csv"
    source.write_text(source.read_text().replace(",female,", ",0,").replace(",male,", ",1,"))
    task = prepare(read_recipe(write(NAMED)), None, device="cpu", threads=1)
    assert task.model.stand_in
    assert task.dropout is None
    assert task.training is None
    assert task.source.classes == task.target.classes == ("female", "male")
    np.testing.assert_array_equal(task.target.pixels, tiny_faces.target().pixels)
    np.testing.assert_array_equal(task.source.labels, tiny_faces.source().labels)
    both = write(NAMED, ("size = 48", 'size = 48\ndropout_model = "squeezenet_celeba_dropout"'))
    assert prepare(read_recipe(both), None, device="cpu", threads=1).dropout.sha256 == zoo.load("squeezenet_celeba_dropout").sha256


def test_a_size_that_drawn_faces_do_not_have_is_refused(write):
    drawn = ('name = "target.csv"', 'name = "drawn"'), ('name = "source.csv"', 'name = "drawn"')
    with pytest.raises(UsageError, match=r"^drawn faces come in 96 pixels and whole, got size 48; leave out size"):
        prepare(read_recipe(write(NAMED, *drawn)), None, device="cpu", threads=1)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The tiny faces under the names that recipes call them, and weights to start from."""
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path / "cache"))

    def load(name, *, root, size, classes=None, source):
        assert (size, source) == (48, name == "source")
        assert root == (tmp_path / "sub" if name == "nested" else tmp_path)
        return tiny_faces.source() if source else tiny_faces.target()

    monkeypatch.setattr(loaders, "load", load)
    shipped = zoo.load("squeezenet_celeba")
    network = shipped.classifier.network
    write_weights(network, tmp_path / "start.safetensors", architecture="squeezenet1_0", classes=("female", "male"), trained_on="x")
    return tmp_path


def test_training_is_made_once_and_then_taken_from_the_cache(data, write, monkeypatch):
    recipe = read_recipe(write(TRAINED))
    calls = []
    real = preparing.train

    def counted(images, settings, *, init, **more):
        calls.append((images, vars(settings) | {"init": init}))
        return real(images, settings, init=init, **more)

    monkeypatch.setattr(preparing, "train", counted)
    planned = prepare(recipe, data, device="cpu", threads=1, fit=False)
    assert (calls, planned.model.trained_on, planned.dropout.trained_on) == ([], "nothing", "nothing")
    task = prepare(recipe, data, device="cpu", threads=1)
    (images, plain), (again, dropout) = calls
    assert len(images) == len(again) == 40
    assert {name: int((images.groups == name).sum()) for name in images.group_names} == {"men": 24, "women": 16}
    assert (planned.target.hashes.tolist(), planned.source.hashes.tolist()) == (task.target.hashes.tolist(), task.source.hashes.tolist())
    # what is left is the source; nothing that was trained on is in it
    assert len(task.source) == len(tiny_faces.source()) - 40
    assert not set(task.source.hashes) & set(task.training.hashes)
    assert plain["init"] == data / "start.safetensors"
    assert (plain["epochs"], plain["filter_dropout"], plain["seed"]) == (2, 0.0, 5)
    assert (dropout["epochs"], dropout["filter_dropout"]) == (1, 0.1)
    # the rival continues from the plain network
    assert hash_state(read_weights(dropout["init"])[0]) == task.model.sha256
    assert len({task.model.sha256, task.dropout.sha256, zoo.load("squeezenet_celeba").sha256}) == 3

    second = prepare(recipe, data, device="cpu", threads=1)
    assert len(calls) == 2
    assert (second.model.sha256, second.dropout.sha256) == (task.model.sha256, task.dropout.sha256)
    trained = sorted(file.name for file in (data / "cache" / "models").iterdir())
    assert len(trained) == 4
    record = json.loads((data / "cache" / "models" / trained[1]).read_text())
    assert record["stages"][0]["settings"]["images"] == 40

    alone = prepare(recipe.varied(rival=False), data, device="cpu", threads=1)
    assert (alone.model.sha256, alone.dropout, len(calls)) == (task.model.sha256, None, 2)
    other = prepare(recipe.varied(training_seed=6, rival=False), data, device="cpu", threads=1)
    assert calls[2][1]["seed"] == 6
    assert set(other.training.hashes) != set(task.training.hashes)

    # what decides the weights decides whether they are trained again
    prepare(read_recipe(write(TRAINED, ("filter_dropout = 0.1", "filter_dropout = 0.2"))), data, device="cpu", threads=1)
    assert [settings["filter_dropout"] for _, settings in calls[3:]] == [0.2]


def test_a_recipe_without_training_has_no_training_seed(write):
    recipe = read_recipe(write(NAMED))
    with pytest.raises(UsageError, match="trains no network, so it has no training seed; leave --training-seed out"):
        recipe.varied(training_seed=1)
    assert recipe.varied(rival=False).dropout_model is None


def test_a_training_that_fails_leaves_nothing_in_the_cache(data, write, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(preparing, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(read_recipe(write(TRAINED)), data, device="cpu", threads=1)
    assert not (data / "cache" / "models").exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ([("men = 24\n", "men = 1000\n")], DataError, "expected 1000 images of 'men', but there are"),
        ([("men = 24\n", "mice = 24\n")], DataError, "no subgroup matches 'mice'; there are men, women"),
        ([('"*men"', '"cats*"')], DataError, r"no image of cats\* is left for the source; lower the quotas"),
        ([("start.safetensors", "none.safetensors")], ModelError, "none.safetensors, found no file; check the path"),
    ],
)
def test_trainings_that_cannot_work(data, write, changes, error, message):
    with pytest.raises(error, match=message):
        prepare(read_recipe(write(TRAINED, *changes)), data, device="cpu", threads=1)


def test_weights_to_start_from_need_the_data_root(write, monkeypatch):
    monkeypatch.setattr(loaders, "load", lambda *_, source, **__: tiny_faces.source() if source else tiny_faces.target())
    with pytest.raises(UsageError, match=r"the recipe takes start.safetensors: give --data-root"):
        prepare(read_recipe(write(TRAINED)), None, device="cpu", threads=1)


def test_folders_are_relative_to_the_data_root(data, write):
    text = TRAINED.split("[training]", maxsplit=1)[0].replace('name = "target"', 'name = "nested"\nfolder = "sub"')
    recipe = read_recipe(write(text.replace("size = 48", 'size = 48\nmodel = "squeezenet_celeba"')))
    task = prepare(recipe, data, device="cpu", threads=1)
    assert len(task.target) == len(replace(tiny_faces.target()))


DROPOUT = TRAINED.replace('"fairness"', '"dropout"').replace('[target]\nname = "target"\n', "")


def test_a_recipe_of_dropout_trains_both_networks_and_asks_about_the_rest_of_the_source(data, write):
    recipe = read_recipe(write(DROPOUT))
    assert recipe.run_options().ranking == "recall"
    task = prepare(recipe, data, device="cpu", threads=1)
    fair = prepare(read_recipe(write(TRAINED)), data, device="cpu", threads=1)  # the same networks, out of the cache
    assert (task.model.sha256, task.dropout.sha256) == (fair.model.sha256, fair.dropout.sha256)
    assert task.dropout.stages[-1].settings.filter_dropout == 0.1
    assert len(task.images) == len(tiny_faces.source()) - 40
    assert not set(task.images.hashes) & set(task.training.hashes)
    other = prepare(recipe.varied(training_seed=6), data, device="cpu", threads=1)
    assert set(other.training.hashes) != set(task.training.hashes)
    assert len({other.model.sha256, other.dropout.sha256, task.model.sha256, task.dropout.sha256}) == 4
    assert recipe.varied(training_seed=None) == recipe


def test_a_control_is_trained_on_as_long_as_the_rival_without_dropout(data, write, monkeypatch):
    rival = DROPOUT.replace("filter_dropout = 0.1", "filter_dropout = 0.1\nramp = 0")  # from the first of its few steps on
    control = rival.replace("seed = 5", "seed = 5\ncontrol = true")
    real, starts = preparing.train, []

    def noted(images, settings, *, init, **more):
        starts.append(init)
        return real(images, settings, init=init, **more)

    monkeypatch.setattr(preparing, "train", noted)
    task, plain = (prepare(read_recipe(write(each)), data, device="cpu", threads=1) for each in (control, rival))
    assert starts == [data / "start.safetensors", plain.model.weights, plain.model.weights]  # the second time all is in the cache
    assert task.dropout.sha256 == plain.dropout.sha256
    assert task.model.sha256 != plain.model.sha256
    assert task.model.stages[-1].settings.filter_dropout == 0
    with pytest.raises(UsageError, match=r"control: it is trained as long as the rival, give \[training.dropout\]"):
        read_recipe(write(TRAINED.split("[training.dropout]", maxsplit=1)[0].replace("seed = 5", "seed = 5\ncontrol = true")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("size = 48", 'size = 48\nmodel = "squeezenet_celeba"')], r"give either a \[training\] section or a model, not both or neither"),
        (
            [("size = 48", 'size = 48\ndropout_weights = "x"')],
            r"dropout_weights goes with model; beside \[training\] give \[training.dropout\]",
        ),
        ([("[training.dropout]\nepochs = 1\nlearning_rate = 1e-5\nfilter_dropout = 0.1\n", "")], "training.dropout: give the stage"),
        ([('[source]\nname = "source"\n', "")], r"source: give the data that \[training\] draws from"),
        ([("[training]", '[data]\nfolder = "x"\n[training]')], r"give class folders as \[data\] or a data set as \[source\], not both"),
        ([("[training]", "[options]\nmax_filters = 3\n[training]")], "options.max_filters is no option"),
    ],
)
def test_a_recipe_of_dropout_that_is_wrong_names_the_key(write, changes, message):
    with pytest.raises(UsageError, match=message):
        read_recipe(write(DROPOUT, *changes)).run_options()
