"""`reports/paper.md`: the paper's figures beside ours."""

import re
from pathlib import Path

import pytest
from adversarial_example import adversarial_result
from report_example import example_result

from repairkit.errors import UsageError
from repairkit.evaluation.adversarial import Correlation
from repairkit.recipe_file import recipes_in
from repairkit.report import kinds, paper
from repairkit.report.fairness_result import FairnessResult
from repairkit.report.result import Difference, Share

ROOT = Path(__file__).parent.parent


def test_the_committed_page_is_what_the_committed_results_give():
    assert (ROOT / "reports" / "paper.md").read_text(encoding="utf-8") == paper.render(ROOT / "reports")


def test_every_claim_has_a_recipe():
    assert {claim.recipe for claim in paper.CLAIMS} <= {file.stem for file in recipes_in(ROOT / "recipes")}


def row(text, what):
    return next(line for line in text.splitlines() if line.startswith(f"| {what}"))


def with_recall(before, after):
    """The example with another recall of darker women, and a difference to match."""
    result = example_result()
    shares = [
        share.model_copy(update={"value": {"original": before, "repaired": after}[share.column]})
        if (share.metric, share.group) == ("recall", "darker women") and share.column in ("original", "repaired")
        else share
        for share in result.shares
    ]
    differences = [
        each.model_copy(update={"value": after - before})
        if (each.first, each.second, each.metric, each.group) == ("original", "repaired", "recall", "darker women")
        else each
        for each in result.differences
    ]
    return FairnessResult(**(dict(result) | {"shares": shares, "differences": differences}))


@pytest.mark.parametrize(("after", "status"), [(0.82, "reached"), (0.70, "worse")])
def test_a_row_holds_figure_and_interval_and_a_miss_its_reason(tmp_path, after, status):
    with_recall(0.5, after).write(tmp_path / "fig3a_fairness" / "result.json")
    text = paper.render(tmp_path)
    shown = row(text, "Recall of darker women")
    assert "54.7 → 81.9 %" in shown
    assert f"50.0% → {100 * after:.1f}%" in shown
    assert re.search(r"points, .* to .*; n = 136", shown)
    assert f"| {status} |" in shown
    assert ("**Recall of darker women, repaired.** Forward selection" in text) == (status == "worse")
    # other recipes have not run
    assert row(text, "Clean accuracy").count("not run yet") == 2


def test_the_embedded_default_has_a_column_of_its_own(tmp_path):
    with_recall(0.4, 0.9).write(tmp_path / "embedded" / "fig3a_fairness" / "result.json")
    shown = row(paper.render(tmp_path), "Recall of darker women")
    assert re.search(r"\| not run yet \| 40.0% → 90.0% .*\| — \|", shown)


def test_figures_of_other_kinds_are_read_from_their_results():
    """Whatever kind a committed result is of, its claims can be read."""
    for claim in paper.CLAIMS:
        for place in (".", "embedded"):
            file = ROOT / "reports" / place / claim.recipe / "result.json"
            if file.exists():
                assert claim.ours(kinds.read(file)).text


@pytest.mark.parametrize("mean", [-0.4, -0.1, None])
def test_black_box_success_is_the_mean_over_the_attacks_where_a_result_holds_it(tmp_path, mean):
    """Results from before that row are read as they were: attack by attack."""
    result = adversarial_result()
    change = {"metric": "target success", "group": "transfer-mean", "first": "original", "second": "repaired", "n": 200, "claim": "better"}
    if mean is not None:
        shares = [
            Share(metric="target success", group="transfer-mean", column=column, n=200, value=value, low=0, high=1)
            for column, value in (("original", 0.5), ("repaired", 0.5 + mean))
        ]
        entry = Difference(**change, value=mean, low=mean - 0.05, high=mean + 0.05)
        result = result.model_copy(update={"shares": [*result.shares, *shares], "differences": [*result.differences, entry]})
    result.write(tmp_path / "fig3b_adversarial" / "result.json")
    shown = row(paper.render(tmp_path), "Black-box success, mean change")
    if mean is None:
        assert "FGSM from ResNet-18 −0.5 points" in shown
    else:
        assert f"50.0% → {100 * (0.5 + mean):.1f}%" in shown
        assert "n = 200), mean of the transfer attacks" in shown
        assert f"| {'reached' if mean < -0.37 else 'worse'} |" in shown


def test_it_takes_one_folder(tmp_path):
    with pytest.raises(UsageError, match="give the folder of reports, got nothing"):
        paper.main([])
    paper.main([str(tmp_path)])
    assert (tmp_path / "paper.md").read_text() == paper.render(tmp_path)


def figure_1(**accuracy):
    """The committed result of figure 1 with another curve, chance .05."""
    result = kinds.read(ROOT / "reports" / "fig1_critical_filters" / "result.json")
    first = next(point for point in result.removal if (point.series, point.metric, point.filters) == ("critical", "accuracy", 0))
    points = [
        first.model_copy(update={"filters": int(number[1:]), "value": value, "low": value - 0.08, "high": value + 0.08})
        for number, value in accuracy.items()
    ]
    return result.model_copy(update={"removal": [first, *points]})


@pytest.mark.parametrize(
    ("curve", "reached"),
    [
        ({"_20": 0.3, "_30": 0.1, "_40": 0.2}, True),  # at 30, wherever the rest is
        ({"_20": 0.05, "_30": 0.11, "_40": 0.05}, False),  # by the estimate: the lower end is .03
        ({"_20": 0.09, "_40": 0.5}, True),
        ({"_20": 0.11, "_40": 0.05}, False),
        ({"_7": 0.05}, True),
        ({}, False),
    ],
)
def test_thirty_filters_destroy_accuracy_by_the_estimate_at_thirty(curve, reached):
    ours = paper.destroyed(figure_1(**curve))
    assert ours.reached == reached
    for number, value in curve.items():
        assert f"{number[1:]} frozen: {100 * value:.1f}%" in ours.text


def test_the_cost_on_another_machine_is_neither_reached_nor_worse(tmp_path):
    figure_1(_20=0.05).write(tmp_path / "fig1_critical_filters" / "result.json")
    text = paper.render(tmp_path)
    assert "| not comparable |" in row(text, "Cost of the values")
    assert "**Cost of the values" not in text


@pytest.mark.parametrize(
    ("value", "reach", "reached"), [(0.3, 0.01, True), (0.39, 0.01, True), (0.41, 0.01, False), (0.45, 0.2, True), (-0.3, 0.01, False)]
)
def test_a_correlation_is_the_papers_within_a_tenth_or_its_interval(value, reach, reached):
    found = Correlation(of="values", n=1000, value=value, low=value - reach, high=value + reach)
    assert paper.correlated(paper.CorrelationResult.model_construct(correlations=[found], corrected=None)).reached == reached
