"""Figures that stand in running text, outside the blocks that are filled in: each is read again from the committed result that it is of."""

import re
from functools import cache
from pathlib import Path

import pytest

from repairkit.experiments import results as kinds

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


def accuracy_left(name, number):
    """Accuracy in percent with so many of the highest filters frozen."""
    points = {(p.series, p.metric, p.filters): p.value for p in result(name).extra.curves}
    return 100 * points["highest", "accuracy", number]


def share(name, column, metric, group=None):
    return 100 * result(name).share(column, metric, group).value


FAIR, ATTACK, SETTLED = "fig3a_fairness_compared", "fig3b_adversarial_compared", "fig1_critical_filters_settled"
HUNDRED, EQUAL = "conductance (100 images)", "conductance (equal passes)"


def reached(of):
    """Percent of the stored images that still reach their target after selection from a baseline's candidates."""
    return 100 * next(each.value for each in baseline(ATTACK, of).selections if each.metric == "target success")


def flipped(values):
    """Behind in place of ahead: signs and bounds turn around."""
    value, low, high = values
    return [-value, -high, -low]


def signless(values):
    return [abs(each) for each in values]


README, PAGE, SEED0 = "README.md", "docs/results.md", "fig3a_fairness"
WOMEN = ("recall", "darker women")
QUOTED = [
    (README, "from {:.1f} % to {:.1f} %; moving", lambda: [share(SEED0, column, *WOMEN) for column in ("original", "repaired")]),
    (README, "the simplest alternative, reached {:.1f} %", lambda: [share(SEED0, "threshold", *WOMEN)]),
    (README, "by −{:.1f} points (95 % interval −{:.1f} to +{:.1f}; n = 578)", lambda: signless(changes(SEED0, "original", "repaired", "source accuracy", bounds=True))),
    (README, "lighter men fell by {:.1f} and {:.1f} points", lambda: signless(changes(SEED0, "original", "repaired", "recall", group)[0] for group in ("darker men", "lighter men"))),
    (README, "took {:.0f} minutes on two CPU cores", lambda: [result(SEED0).reproduction.minutes]),
    (README, "by {:.1f} points more than the repair ({:.1f} to {:.1f}; n = 1,270)", lambda: flipped(changes(FAIR, "whole_network", "repaired", "mean recall", bounds=True))),
    (README, "a lowest recall {:.1f} points higher than the repair ({:.1f} to {:.1f})", lambda: flipped(changes(FAIR, "group_thresholds", "repaired", "lowest recall", bounds=True))),
    (README, "Recall of darker men was {:.1f} points lower with them", lambda: changes(FAIR, "group_thresholds", "repaired", "recall", "darker men")),
    (PAGE, "mean recall {:.1f} % against {:.1f} %", lambda: [share(FAIR, column, "mean recall") for column in ("whole_network", "repaired")]),
    (PAGE, "leave a lowest recall {:.1f} points higher ({:.1f} to {:.1f})", lambda: flipped(changes(FAIR, "group_thresholds", "repaired", "lowest recall", bounds=True))),
    (PAGE, "darker men is {:.1f} points lower and of lighter women {:.1f} points lower", lambda: [changes(FAIR, "group_thresholds", "repaired", "recall", group)[0] for group in ("darker men", "lighter women")]),
    (PAGE, "ahead of Shapley values by {:.1f} points ({:.1f} to {:.1f})", lambda: flipped(leads(FAIR, "weight norm", bounds=True))),
    (PAGE, "{:.1f} and {:.1f} % of the stored images reach their target, against {:.1f} %", lambda: [*sorted(map(reached, (HUNDRED, EQUAL))), share(ATTACK, "repaired", "target success", "replay")]),
    (PAGE, "keeps an accuracy of {:.1f} %, {:.1f} % and {:.1f} % in the three runs", lambda: [accuracy_left(name, 20) for name in ("fig1_critical_filters", "fig1_critical_filters_compared", SETTLED)]),
    (PAGE, "by area, by {:.1f} and {:.1f} points", lambda: signless(leads("fig1_critical_filters_compared", name)[0] for name in ("leave-one-out", HUNDRED))),
    ("recipes/fig1_critical_filters.toml", "({:.1f} % with 20 filters, {:.1f} % with 30; the settled live range", lambda: [accuracy_left(SETTLED, number) for number in (20, 30)]),
    ("recipes/table_conductance.toml", "behind by {:.1f} points ({:.1f} to {:.1f}) in both", lambda: leads("table_conductance", EQUAL, bounds=True)),
    ("recipes/table_conductance.toml", "behind by {:.1f} points ({:.1f} to {:.1f}) in both", lambda: leads(SETTLED, EQUAL, bounds=True)),
]  # fmt: skip


@pytest.mark.parametrize(("file", "text", "figures"), QUOTED, ids=[f"{file}: {text[:40]}" for file, text, _ in QUOTED])
def test_a_figure_in_running_text_is_the_committed_one(file, text, figures):
    page = re.sub(r"\s+(?:#\s+)?", " ", (ROOT / file).read_text(encoding="utf-8"))
    assert text.format(*figures()) in page


def test_pruning_by_taylor_costs_less_than_a_fifth():
    passes = {each.name: each.passes for each in result("example_digits_prune").comparison.baselines}
    assert passes["taylor"] < passes["Shapley values"] / 5


def test_no_attack_on_a_repaired_network_leaves_a_label():
    shares = [s for name in ("fig3b_adversarial", ATTACK, "fig3b_adversarial_squeezenet") for s in result(name).shares]
    worst = [s.value for s in shares if (s.metric, s.group, s.column) == ("recovered label", "worst", "repaired")]
    assert worst == [0, 0, 0]
