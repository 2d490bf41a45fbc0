"""`reports/paper.md`: when a figure of ours counts as the paper's."""

import re
from pathlib import Path

import pytest
from results import changed

from repairkit.experiments import results as kinds
from repairkit.experiments.recipe import recipes_in
from tools import claims, paper, standings

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "reports"


def result(name):
    return kinds.read(REPORTS / name / "result.json")


def updated(records, update, **where):
    """Records of which those that match are updated."""
    return [
        record.model_copy(update=update) if all(getattr(record, key) == value for key, value in where.items()) else record
        for record in records
    ]


def row(text, claim):
    return next(line for line in text.splitlines() if line.startswith(f"| {claim}"))


def test_the_committed_page_is_what_the_committed_results_give():
    assert (REPORTS / "paper.md").read_text(encoding="utf-8") == paper.render(REPORTS)


def test_every_claim_has_a_recipe_and_no_figure_of_ours_is_typed_into_a_reason():
    assert {claim.recipe for claim in claims.CLAIMS} <= {file.stem for file in recipes_in(ROOT / "recipes")}
    assert not [claim.reason for claim in claims.CLAIMS if isinstance(claim.reason, str) and re.search(r"\d", claim.reason)]


@pytest.mark.parametrize(("gain", "status"), [(0.28, "reached"), (0.15, "worse")])
def test_a_repair_must_gain_as_much_as_the_papers_by_its_estimate(tmp_path, gain, status):
    fair = result("fig3a_fairness")
    women = {"first": "original", "second": "repaired", "metric": "recall", "group": "darker women"}
    fair.model_copy(update={"differences": updated(fair.differences, {"value": gain}, **women)}).write(
        tmp_path / "fig3a_fairness" / "result.json"
    )
    text = paper.render(tmp_path)
    assert f"| {status} |" in row(text, "Recall of darker women")
    assert ("**Recall of darker women, repaired.**" in text) == (status == "worse")
    assert row(text, "Clean accuracy").count(paper.NOT_RUN) == 2


def test_the_embedded_default_has_a_column_of_its_own(tmp_path):
    result("embedded/fig3a_fairness").write(tmp_path / "embedded" / "fig3a_fairness" / "result.json")
    cells = row(paper.render(tmp_path), "Mean recall").split(" | ")
    assert cells[2] == paper.NOT_RUN
    assert "points" in cells[3]


@pytest.mark.parametrize(
    ("curve", "reached"),
    [
        ({20: 0.3, 30: 0.1, 40: 0.2}, True),  # at 30, wherever the rest is
        ({20: 0.05, 30: 0.11, 40: 0.05}, False),
        ({20: 0.09, 40: 0.5}, True),
        ({20: 0.11, 40: 0.05}, False),
        ({}, False),
    ],
)
def test_thirty_filters_destroy_accuracy_by_the_estimate_at_thirty(curve, reached):
    critical = result("fig1_critical_filters")
    first = next(point for point in critical.extra.curves if (point.series, point.metric, point.filters) == ("highest", "accuracy", 0))
    points = [first.model_copy(update={"filters": filters, "value": value}) for filters, value in curve.items()]
    assert claims.accuracy_after_ablation(changed(critical, {"curves": [first, *points]})).reached == reached


@pytest.mark.parametrize(("share", "other_classes", "reached"), [(0.49, -0.029, True), (0.51, 0.0, False), (0.2, -0.031, False)])
def test_a_class_must_fall_below_half_and_the_others_stay(share, other_classes, reached):
    dumbbell = result("fig2_class_filters_compared/dumbbell")
    last = max(point.filters for point in dumbbell.extra.curves)
    before = next(point.value for point in dumbbell.extra.curves if (point.series, point.metric, point.filters) == ("highest", "recall", 0))
    points = updated(dumbbell.extra.curves, {"value": share * before}, series="highest", metric="recall", filters=last)
    points = updated(points, {"change": other_classes}, series="highest", metric="other classes", filters=last)
    assert claims.class_recalls([changed(dumbbell, {"curves": points})]).reached == reached


@pytest.mark.parametrize(
    ("value", "reach", "reached"), [(0.3, 0.01, True), (0.39, 0.01, True), (0.41, 0.01, False), (0.45, 0.2, True), (-0.3, 0.01, False)]
)
def test_a_correlation_is_the_papers_within_a_tenth_or_its_interval(value, reach, reached):
    measured = result("correlation_attack_accuracy")
    first = measured.extra.correlations[0].model_copy(update={"value": value, "low": value - reach, "high": value + reach})
    assert claims.rank_correlation(changed(measured, {"correlations": [first]})).reached == reached


@pytest.mark.parametrize(("death", "reached"), [(1722 / 17_216, True), (0.1006, False)])
def test_a_network_at_chance_reaches_the_share_as_it_is_printed(death, reached):
    truncation = result("fig5_truncation")
    at = truncation.extra.curves[0].death.model_copy(update={"value": death})
    curves = [curve.model_copy(update={"death": at}) for curve in truncation.extra.curves]
    assert claims.share_at_chance("Inception", by=0.1)(changed(truncation, {"curves": curves})).reached == reached


@pytest.mark.parametrize(("outcomes", "reached"), [(("better", "better"), True), (("better", "no claim"), False)])
def test_conductance_must_lose_at_each_cost(outcomes, reached):
    critical = result("table_conductance")
    baselines = critical.comparison.baselines
    for name, claim in zip(("conductance (100 images)", "conductance (equal passes)"), outcomes, strict=True):
        baselines = updated(baselines, {"claim": claim}, name=name)
    comparison = critical.comparison.model_copy(update={"baselines": baselines})
    assert claims.conductance_overlap(changed(critical, {"comparisons": {"original": comparison}})).reached == reached


def test_costs_of_other_machines_are_neither_reached_nor_worse():
    assert claims.run_cost(result("fig1_critical_filters")).reached is None


def test_wins_and_losses_stand_in_the_tables_by_their_claims():
    page = standings.render(REPORTS)
    comparison = result("fig3a_fairness_compared").comparison
    lost = next(baseline for baseline in comparison.baselines if baseline.claim == "worse")
    assert f"▼ −{-100 * lost.lead:.1f} (" in page
    fine_tuned = next(line for line in page.splitlines() if "| Fine-tuned |" in line)
    better, worse = fine_tuned.split(" | ")[2:4]
    assert "mean recall +5.7" in better
    assert worse == standings.NONE
    assert "example\\_" not in page
