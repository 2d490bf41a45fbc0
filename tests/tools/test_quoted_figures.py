"""Figures that stand in running text, outside the blocks that are filled in: each is read again from the committed result that it is of."""

import re
from functools import cache
from pathlib import Path

import pytest

from repairkit.experiments import report_kinds as kinds

ROOT = Path(__file__).parents[2]


@cache
def result(name):
    return kinds.read(ROOT / "reports" / name / "result.json")


def baseline(name, of):
    return next(each for each in result(name).comparison.baselines if each.name == of)


def leads(name, of, *, bounds=False):
    """By how many points the Shapley values are ahead of a baseline in area."""
    found = baseline(name, of)
    return [100 * each for each in ((found.lead, found.lead_low, found.lead_high) if bounds else (found.lead,))]


def changes(name, first, second, metric, group=None, *, bounds=False):
    """By how many points the second column is above the first."""
    pairs = result(name).differences
    found = next(each for each in pairs if (each.first, each.second, each.metric, each.group) == (first, second, metric, group))
    return [100 * each for each in ((found.value, found.low, found.high) if bounds else (found.value,))]


def frozen(name, *numbers):
    """Accuracy in percent with so many of the highest filters frozen."""
    points = {(p.series, p.metric, p.filters): p.value for p in result(name).removal}
    return [100 * points["critical", "accuracy", number] for number in numbers]


def share(name, column, metric):
    return 100 * result(name).share(column, metric).value


def spent(name, *of):
    return [baseline(name, each).total for each in of]


def most_spent():
    """Image passes of values and choosing of the dearest baseline over those of the Shapley run, in percent above it, over all compared repairs."""
    above = []
    for name in ("fig3a_fairness_compared", "fig3b_adversarial_compared", "fig3b_adversarial_squeezenet"):
        ours, *others = [each.total for each in result(name).comparison.baselines if each.total is not None]
        above.append(100 * (max(others) / ours - 1))
    return max(above)


FAIR, ATTACK, SETTLED = "fig3a_fairness_compared", "fig3b_adversarial_compared", "fig1_critical_filters_settled"
DUMBBELL, VAN = (f"fig2_class_filters_compared/{name}" for name in ("dumbbell", "police-van"))
HUNDRED, EQUAL = "conductance (100 images)", "conductance (equal passes)"


def chosen(of):
    """Percent of the stored images that still reach their target after choosing from a baseline's candidates."""
    return 100 * next(each.value for each in baseline(ATTACK, of).selections if each.metric == "target success")


def flipped(values):
    """Behind in place of ahead: signs and bounds turn around."""
    value, low, high = values
    return [-value, -high, -low]


TOLD = [
    ("README.md", "moving the decision threshold does {:.1f} points better", lambda: [-each for each in changes("example_drawn_faces", "threshold", "repaired", "mean recall")]),
    ("README.md", "it gained nothing and lost {:.1f} points of clean accuracy", lambda: [-each for each in changes("example_digits_adversarial", "original", "repaired", "clean accuracy")]),
    ("README.md", "one that goes on spent up to {:.0f} % more than the Shapley run", lambda: [most_spent()]),
    ("README.md", "response norm: {:.1f} % of the stored images still reach their target; the others {:.0f} % and more", lambda: [chosen("response norm"), min(chosen(each) for each in ("random", "weight norm", "mean activation", "leave-one-out", "taylor"))]),
    ("README.md", "conductance cannot be told from Shapley values ({:.1f} and {:.1f} %)", lambda: sorted(map(chosen, (HUNDRED, EQUAL)))),
    ("docs/results.md", "took from {:,.0f} to {:,.0f} image passes where the Shapley run took {:,.0f}", lambda: spent(FAIR, "fairprune", "weight norm", "Shapley values")),
    ("docs/results.md", "where those two spent {:,.0f} and {:,.0f}", lambda: spent(FAIR, "random", "fairprune")),
    ("docs/results.md", "mean recall {:.1f} % against {:.1f} %", lambda: [share(FAIR, column, "mean recall") for column in ("whole_network", "repaired")]),
    ("docs/results.md", "a lowest recall {:.1f} points higher ({:.1f} to {:.1f})", lambda: flipped(changes(FAIR, "group_thresholds", "repaired", "lowest recall", bounds=True))),
    ("docs/results.md", "at {:.1f} points less for darker men and {:.1f} less for lighter women", lambda: [changes(FAIR, "group_thresholds", "repaired", "recall", group)[0] for group in ("darker men", "lighter women")]),
    ("docs/results.md", "the 20 highest filters leave {:.1f} %, and by area", lambda: frozen(SETTLED, 20)),
    ("docs/results.md", "leave-one-out ({:.1f} points) and conductance of 100 images ({:.1f}) among them", lambda: [*leads(SETTLED, "leave-one-out"), *leads(SETTLED, HUNDRED)]),
    ("docs/results.md", "cannot be told from it ({:.1f} points behind, {:.1f} to {:.1f}, which is no claim among eight)", lambda: leads(SETTLED, EQUAL, bounds=True)),
    ("docs/results.md", "for police van Taylor is ahead by {:.1f} points, {:.1f} to {:.1f}, which is no claim", lambda: flipped(leads(VAN, "taylor", bounds=True))),
    ("docs/results.md", "Conductance of 100 images, less its price, is behind by {:.1f} and {:.1f} points", lambda: [*leads(DUMBBELL, HUNDRED), *leads(VAN, HUNDRED)]),
    ("docs/results.md", "where it was settled on ({:.1f} % with 20 frozen), and did it less well on the images of this recipe ({:.1f} % with 20 frozen, against {:.1f} % from t0 = 0.97)", lambda: [*frozen(SETTLED, 20), *frozen("fig1_critical_filters_compared", 20), *frozen("fig1_critical_filters", 20)]),
    ("recipes/fig1_critical_filters.toml", "({:.1f} % with 20 filters, {:.1f} % with 30; the settled zone", lambda: frozen(SETTLED, 20, 30)),
    ("recipes/table_conductance.toml", "behind by {:.1f} points ({:.1f} to {:.1f}) in both", lambda: leads("table_conductance", EQUAL, bounds=True)),
    ("recipes/table_conductance.toml", "behind by {:.1f} points ({:.1f} to {:.1f}) in both", lambda: leads(SETTLED, EQUAL, bounds=True)),
]  # fmt: skip


@pytest.mark.parametrize(("file", "told", "figures"), TOLD, ids=[f"{file}: {told[:40]}" for file, told, _ in TOLD])
def test_a_figure_in_running_text_is_the_committed_one(file, told, figures):
    text = re.sub(r"\s+(?:#\s+)?", " ", (ROOT / file).read_text(encoding="utf-8"))
    assert told.format(*figures()) in text
