"""What the headers of recipes say that a run on smaller published data costs, against the plan of such a run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import call

from repairkit.cli import runner
from repairkit.data.images import LabelledImages
from repairkit.experiments import results as kinds
from repairkit.experiments.dropout.run import DropoutTask
from repairkit.experiments.recipe import facts_of
from repairkit.models import zoo

RECIPES = Path(__file__).parent.parent / "recipes"
SMALL = {
    "correlation_attack_accuracy": (20, 60),
    "fig1_critical_filters": (20, 90),
    "fig2_class_filters": (20, 90),
    "fig4_dropout": (2, 1239),
    "fig8_sample_efficiency": (1000, 1),
    "table_conductance": (20, 90),
}
"""Classes of the data, and images of each; of those that train first the images that are left. Other recipes take several data sets."""
STATED = re.compile(r"small: [^()]*\(([\d,]+) image passes")


def stand_ins(plan, classes, each, architecture=None):
    """A network with fresh weights and noise for images: a plan asks how many there are, and nothing else."""
    names = (*getattr(plan, "classes", ()), *map(str, range(classes)))[:classes]
    labels = np.repeat(np.arange(classes), each)
    architecture = architecture or plan.model
    side = 75 if architecture == "inception_v3" else 48
    pixels = np.random.default_rng(0).integers(0, 256, size=(len(labels), side, side, 3), dtype=np.uint8)
    return zoo.fresh(architecture, names), LabelledImages(pixels, labels, np.array(names)[labels], classes=names, name="noise")


def rivals(plan, classes, each):
    """Two such networks of the architecture that a recipe trains."""
    model, images = stand_ins(plan, classes, each, plan.training.architecture)
    return DropoutTask(model, zoo.fresh(plan.training.architecture, images.classes), images)


@pytest.mark.parametrize("name", SMALL)
def test_a_header_states_the_passes_of_its_plan(name, monkeypatch):
    for kind in ("critical", "correlation", "sample_efficiency"):
        place = f"repairkit.experiments.{kind}.experiment.load_from_recipe"
        monkeypatch.setattr(place, lambda recipe, *_: stand_ins(recipe, *SMALL[name]))
    monkeypatch.setattr("repairkit.experiments.dropout.experiment.Dropout.load_recipe", lambda _, recipe, __: rivals(recipe, *SMALL[name]))
    monkeypatch.setattr(runner, "speed_of", lambda *_: 1.0)
    file = RECIPES / f"{name}.toml"
    code, stdout, stderr = call("run", file, "--variant", "small", "--data-root", "DATA", "--threads", "1", "--dry-run", "--json")
    assert code == 0, stderr
    stated = STATED.search(facts_of(file)["Minutes"])
    assert stated, f"{file}: Minutes: give the image passes of the way small as (N image passes ...)"
    assert float(stated[1].replace(",", "")) == pytest.approx(sum(json.loads(stdout)["passes"].values()), rel=0.01)


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.toml")), ids=lambda file: file.stem)
def test_a_header_states_the_minutes_of_the_committed_embedded_run(file):
    """Give or take half: the machines are noisy. Every one is to take about two minutes at most."""
    stated = re.search(r"embedded: (\d+(?:\.\d+)?)\b", facts_of(file)["Minutes"])
    assert stated, f"{file}: Minutes: give the minutes of the way embedded as (embedded: N)"
    results = sorted((RECIPES.parent / "reports" / "embedded" / file.stem).rglob("result.json"))
    took = sum(kinds.read(result).reproduction.minutes for result in results)
    assert 0 < took <= 1.5 * float(stated[1])
    assert float(stated[1]) <= 2.5


EMBEDDED = Path(__file__).parent.parent / "reports" / "embedded"
QUICK = ("correlation_attack_accuracy", "fig8_sample_efficiency", "fig5_truncation")


@pytest.mark.parametrize(
    "name",
    [pytest.param(file.stem, marks=() if file.stem in QUICK else pytest.mark.extended) for file in sorted(RECIPES.glob("*.toml"))],
)
def test_a_plan_is_within_a_tenth_of_what_the_embedded_run_booked(name):
    code, stdout, stderr = call("run", RECIPES / f"{name}.toml", "--embedded", "--threads", "1", "--dry-run", "--json")
    assert code == 0, stderr
    booked = json.loads((EMBEDDED / name / "result.json").read_text())["costs"]
    assert sum(json.loads(stdout)["passes"].values()) == pytest.approx(sum(cost["passes"] for cost in booked), rel=0.1)
