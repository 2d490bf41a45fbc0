"""`reports/paper.md`: the paper's figures beside ours."""

import re
from pathlib import Path

import pytest
from adversarial_example import adversarial_result
from report_example import example_result

from repairkit.errors import UsageError
from repairkit.experiments import report_kinds as kinds
from repairkit.experiments.adversarial.evaluation import Correlation
from repairkit.experiments.adversarial.result import AdversarialResult
from repairkit.experiments.critical.result import CriticalResult
from repairkit.experiments.dropout.result import DropoutResult
from repairkit.experiments.fairness.result import FairnessResult
from repairkit.experiments.recipe import recipes_in
from repairkit.experiments.sample_efficiency.result import AgreedAfter, EfficiencyResult, Needed, StoppedAlike
from repairkit.experiments.truncation.result import TruncationCurve, TruncationResult
from repairkit.report.comparison_result import Baseline, Comparison
from repairkit.result import Alternative, Difference, Estimate, RemovalPoint, Result, Share, Verdict
from tools import paper

ROOT = Path(__file__).parent.parent


def test_the_committed_page_is_what_the_committed_results_give():
    assert (ROOT / "reports" / "paper.md").read_text(encoding="utf-8") == paper.render(ROOT / "reports")


def test_every_claim_has_a_recipe():
    assert {claim.recipe for claim in paper.CLAIMS} <= {file.stem for file in recipes_in(ROOT / "recipes")}


def test_no_figure_of_ours_is_typed_into_a_reason():
    assert not [claim.reason for claim in paper.CLAIMS if isinstance(claim.reason, str) and re.search(r"\d", claim.reason)]


def test_reasons_with_figures_read_them_from_the_results(tmp_path):
    example = example_result()
    for seed in ("", "_seed1", "_seed2"):
        example.write(tmp_path / f"fig3a_fairness{seed}" / "result.json")
    start, gain = (
        example.share("original", "mean recall").value,
        next(
            each.value for each in example.differences if (each.first, each.second, each.metric) == ("original", "repaired", "mean recall")
        ),
    )
    said = paper.of_other_trainings("mean recall", None, "")(tmp_path)
    assert "(fig3a_fairness)" not in said  # which is the row itself
    example.write(tmp_path / "fig3a_fairness_compared" / "result.json")
    told = paper.of_other_trainings("recall", "darker women", "Why.")(tmp_path)
    assert told.startswith("Why. How unfair")
    before = example.share("original", "recall", "darker women").value
    for name in ("fig3a_fairness", "fig3a_fairness_seed1", "fig3a_fairness_seed2"):
        assert re.search(rf"Another one starts at {100 * before:.1f}% and gains [^ ]+ points \({name}\)\.", told)
    assert "(fig3a_fairness_compared)" not in told  # which is read before that without baselines
    for name in ("fig3a_fairness_seed1", "fig3a_fairness_seed2"):
        assert f"Another one starts at {100 * start:.1f}% and gains +{100 * gain:.1f} points ({name})." in said
    result = adversarial_result()
    stopped = AdversarialResult(**(dict(result) | {"method": ["5 frozen; choosing stopped because there is no further candidate."]}))
    stopped.write(tmp_path / "fig3b_adversarial" / "result.json")
    guard = 100 * float(result.reproduction.settings["max_clean_drop"])
    expected = f"5 frozen; choosing stopped because there is no further candidate. The paper also gives up 7 points of clean accuracy, the guard here allows {guard:.1f}."
    assert paper.where_choosing_stopped(tmp_path) == expected


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
    read = 0
    for claim in paper.CLAIMS:
        for place in (".", "embedded"):
            if ours := claim.of([kinds.read(file) for file in sorted((ROOT / "reports" / place / claim.recipe).rglob("result.json"))]):
                assert ours.text
                read += 1
    assert read


def of_kind(record, /, **own):
    """A result of another kind with what all kinds have taken from the example."""
    common = {name: getattr(example_result(), name) for name in Result.model_fields if name != "kind"}
    return record(**common | {"shares": [], "differences": [], "frozen": []} | own)


def removal(metric, *values, change):
    """The highest filters of a class frozen, none and the first 40 of them."""
    return [
        RemovalPoint(
            series="critical", metric=metric, filters=filters, n=36, value=value, low=value - 0.02, high=value + 0.02, change=change if filters else 0,
            change_low=change - 0.01, change_high=change + 0.01,
        )
        for filters, value in zip((0, 40), values, strict=True)
    ]  # fmt: skip


def critical(subject, *, after=0.1, others=-0.011, comparison=None):
    metrics = [*removal("recall", 0.9, after, change=after - 0.9), *removal("other classes", 0.8, 0.8 + others, change=others)]
    return of_kind(
        CriticalResult, kind="critical filters", images="images", subject=subject, parts={}, chance=0.05, draws=3, removal=metrics, layers=[],
        extremes=[], comparison=comparison,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pizza", "status"), [({}, "reached"), ({"after": 0.5}, "worse"), ({"others": -0.041}, "worse"), ({"others": 0.041}, "worse")]
)
def test_all_classes_share_a_row_and_each_must_reach_it(tmp_path, pizza, status):
    critical("dumbbell").write(tmp_path / "fig2_class_filters" / "dumbbell" / "result.json")
    critical("pizza", **pizza).write(tmp_path / "fig2_class_filters" / "pizza" / "result.json")
    critical("8", after=0.031).write(tmp_path / "embedded" / "fig2_class_filters" / "result.json")
    shown = row(paper.render(tmp_path), "Removing filters of a class")
    assert "| dumbbell 90.0% → 10.0% (8.0 to 12.0; n = 36) with 40 frozen, the others −1.1 points, −2.1 to −0.1; pizza 90.0% → " in shown
    assert "| 8 90.0% → 3.1% (" in shown
    assert f"| {status} |" in shown


def against_conductance(*leads):
    baselines = [
        Baseline(name=name, what="…", overlap=0.3, lead=lead, lead_low=lead - 0.02, lead_high=lead + 0.02, claim=claim)
        for name, lead, claim in zip(
            ("conductance (100 images)", "conductance (equal passes)"), leads, ("better", "no claim"), strict=False
        )
    ]
    baselines.append(Baseline(name="taylor", what="…", overlap=0.9, lead=-0.5, lead_low=-0.6, lead_high=-0.4, claim="worse"))
    return Comparison(
        metric="accuracy", lower_is_better=True, beside=None, order="highest first", n=720, filters=17_216, k=40, sentences=[],
        baselines=baselines, other=None, ranked=[],
    )  # fmt: skip


@pytest.mark.parametrize(("leads", "status"), [((0.123,), "reached"), ((0.123, 0.01), "worse")])
def test_conductance_is_held_against_it_at_both_costs_and_nothing_else_is(tmp_path, leads, status):
    critical(None, comparison=against_conductance(*leads)).write(tmp_path / "table_conductance" / "result.json")
    shown = row(paper.render(tmp_path), "Conductance names other filters")
    assert (
        "conductance (100 images) names 30.0% of the first 40, and accuracy with its filters frozen less that with those of Shapley value is"
        in shown
    )
    assert "+12.3 points (+10.3 to +14.3)" in shown
    assert ("conductance (equal passes)" in shown) == (len(leads) == 2)
    assert "taylor" not in shown
    assert f"| {status} |" in shown


def test_without_a_comparison_conductance_is_said_not_to_be_compared(tmp_path):
    critical(None).write(tmp_path / "table_conductance" / "result.json")
    assert "| not compared | not run yet | not comparable |" in row(paper.render(tmp_path), "Conductance names other filters")
    once = against_conductance(0.123)
    dear = Baseline(name="conductance (equal passes)", what="…", why_not="all images were taken already")
    once = once.model_copy(update={"baselines": [*once.baselines, dear]})
    critical(None, comparison=once).write(tmp_path / "table_conductance" / "result.json")
    shown = row(paper.render(tmp_path), "Conductance names other filters")
    assert "conductance (equal passes): not compared, all images were taken already; n = 720 | not run yet | reached |" in shown


def dropout(change, outcome):
    metrics = {"accuracy": (0.95, 0.88), "accuracy, highest frozen": (0.65, 0.74)}
    shares = [
        Share(metric=metric, group=None, column=column, n=991, value=value, low=value - 0.02, high=value + 0.02)
        for metric, values in metrics.items()
        for column, value in zip(("original", "dropout"), values, strict=True)
    ]
    differences = [
        Difference(
            metric="change, highest frozen", group=group, first="original", second="dropout", n=991, value=value, low=value - 0.03, high=value + 0.03,
            claim="better" if change > 0.01 else "no claim",
        )
        for group, value in (("1 filter", 0.3), ("40 filters", -0.07), (None, change))
    ]  # fmt: skip
    return of_kind(
        DropoutResult, kind="dropout", shares=shares, differences=differences, groups=["1 filter", "40 filters"], images="images", dropout_model="rival",
        parts={}, players=2976, draws=3, most_frequent=0.57, removal=[], spreads=[], extremes={},
        verdict=Verdict(outcome=outcome, headline="", sentences=[], worse=[]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "outcome", "status"), [(0.154, "less dependent", "reached"), (0.02, "no claim", "worse"), (-0.1, "more dependent", "worse")]
)
def test_dropout_must_help_as_its_report_claims_and_the_last_step_is_shown_too(tmp_path, change, outcome, status):
    """A smaller fall alone is not enough for its report: the network must be right on more images, too."""
    dropout(change, outcome).write(tmp_path / "fig4_dropout" / "result.json")
    shown = row(paper.render(tmp_path), "Removing the highest filters hurts a dropout-trained")
    assert "| 95.0% → 65.0% without dropout, 88.0% → 74.0% with dropout, on average over 1 and 40 frozen: a difference" in shown
    assert f"a difference of {100 * change:+.1f} points".replace("-", "−") in shown
    assert "(n = 991); with 40 filters −7.0 points, −10.0 to −4.0 |" in shown
    assert f"| {status} |" in shown


def truncation(**deaths):
    curves = [
        TruncationCurve(
            network=name.replace("_", "-"), metric=metric, n=100, chance=0.5, dead_below=0.6, points=[], trajectories=[],
            death=Estimate(value=death, low=death - 0.01, high=death + 0.02), earliest=0.1, latest=0.3, revived=0.1, threshold=0.6, saved=None,
            given_up=None,
        )
        for name, worth in deaths.items()
        for metric, death in (("mean recall", worth), ("accuracy", 0.9))
    ]  # fmt: skip
    return of_kind(TruncationResult, kind="truncation", trajectories=100, networks=[], curves=curves)


def test_each_network_dies_in_a_row_of_its_own_by_its_worth(tmp_path):
    truncation(SqueezeNet_faces=0.175, Inception_v3=0.125).write(tmp_path / "fig5_truncation" / "result.json")
    truncation(SqueezeNet_faces=0.1, SqueezeNet_digits=0.15).write(tmp_path / "embedded" / "fig5_truncation" / "result.json")
    text = paper.render(tmp_path)
    faces, inception = row(text, "SqueezeNet is dead"), row(text, "Inception-v3 is dead")
    assert "| dead in half of 100 orders: SqueezeNet-faces 17.5% (16.5 to 19.5; n = 100) |" in faces
    assert "SqueezeNet-faces 10.0% (9.0 to 12.0; n = 100); SqueezeNet-digits 15.0% (14.0 to 17.0; n = 100) | reached |" in faces
    assert "Inception-v3 12.5% (11.5 to 14.5; n = 100) | no Inception-v3 among its networks | worse |" in inception
    assert "**Inception-v3 is dead once 10 % of its filters are removed at random.**" in text


def about(value):
    return Estimate(value=value, low=value - 0.005, high=value + 0.005)


def efficiency(**own):
    return of_kind(
        EfficiencyResult, kind="efficiency", images="images", filters=32, end="high", top=3, shown="",
        **{"stops": [], "agreements": [], "needed": [], "samples": {}, "values": {}} | own,
    )  # fmt: skip


def stop(tolerance, share, *, extrapolated=False):
    agreement = about(0.99 - tolerance)
    return StoppedAlike(
        tolerance=tolerance,
        extrapolated=extrapolated,
        stopped=True,
        share=about(share),
        evaluations=0.1,
        rank=agreement,
        r_squared=agreement,
    )


@pytest.mark.parametrize(("narrow", "status"), [(0.08, "reached"), (0.3, "worse")])
def test_samples_count_at_the_narrowest_tolerance_that_was_run(tmp_path, narrow, status):
    stops = [stop(0.1, 0.5), stop(0.01, narrow), stop(0.001, 0.02 if status == "worse" else 0.9, extrapolated=True)]
    stops.append(StoppedAlike(tolerance=1e-6, extrapolated=True, stopped=False))
    efficiency(compared_by="replay", stops=stops).write(tmp_path / "fig8_sample_efficiency" / "result.json")
    text = paper.render(tmp_path)
    samples = row(text, "Samples that TMAB takes")
    assert f"| {100 * narrow:.1f}% ({100 * narrow - 0.5:.1f} to {100 * narrow + 0.5:.1f}) at a tolerance of 0.01; 50.0% (" in samples
    assert "at a tolerance of 0.001, extrapolated; 32 filters |" in samples
    assert f"| {status} |" in samples
    assert "| 0.980 (0.975 to 0.985; n = 32 filters) at a tolerance of 0.01 | not run yet | worse |" in row(
        text, "Spearman correlation of both"
    )
    assert "| reached |" in row(text, "R2 of both")


def test_what_does_not_stop_is_said_to_and_agreement_is_with_a_long_reference(tmp_path):
    after = [
        AgreedAfter(engine=engine, passes=40_000, valued=9, rank=about(rank), r_squared=about(0.9), sought=about(0.5))
        for engine, rank in (("monte-carlo", 0.2), ("tmab", 0.991))
    ]
    needed = [Needed(tolerance=0.01, passes=1.23e9)]
    efficiency(compared_by="budget", agreements=after, needed=needed).write(tmp_path / "fig8_sample_efficiency" / "result.json")
    efficiency(compared_by="replay").write(tmp_path / "embedded" / "fig8_sample_efficiency" / "result.json")
    text = paper.render(tmp_path)
    assert "which takes at least 1.2e+09 image passes at a tolerance of 0.01 | neither stopped | not comparable |" in row(
        text, "Samples that TMAB"
    )
    assert (
        "| 0.991 (0.986 to 0.996; n = 32 filters) of tmab after 40,000 image passes with a long reference | neither stopped | not comparable |"
        in row(text, "Spearman correlation of both")
    )


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


def test_a_network_that_dies_at_the_share_as_it_is_printed_reaches_it(tmp_path):
    read = paper.dying("Inception", by=0.1)
    assert read(truncation(Inception_v3=1722 / 17_216)).reached
    assert not read(truncation(Inception_v3=0.1006)).reached


def test_the_papers_ranking_is_told_from_ours():
    by_price = critical("dumbbell")
    settings = by_price.reproduction.settings | {"ranking": "specific"}
    by_price = by_price.model_copy(update={"reproduction": by_price.reproduction.model_copy(update={"settings": settings})})
    told = "Ranked by value for the class less a price on what the others lose, which is not the paper's ranking."
    assert told in paper.each_class([by_price]).text
    assert told not in paper.each_class([critical("dumbbell")]).text


def test_conductance_is_read_from_the_compared_run_where_its_own_was_not_made(tmp_path):
    compared = figure_1(_20=0.3, _30=0.2).model_copy(update={"comparison": against_conductance(-0.04)})
    compared.write(tmp_path / "fig1_critical_filters_compared" / "result.json")
    shown = row(paper.render(tmp_path), "Conductance names other filters")
    assert "−4.0 points" in shown
    assert "not run yet" in shown.split("|")[4]
    figure_1(_30=0.1).write(tmp_path / "fig1_critical_filters" / "result.json")
    assert "30 frozen: 20.0%" in row(paper.render(tmp_path), "Removing 30 filters")  # of the same run, not of the kinder one
    settled = figure_1(_30=0.08).model_copy(update={"comparison": against_conductance(0.05)})
    settled.write(tmp_path / "fig1_critical_filters_settled" / "result.json")
    text = paper.render(tmp_path)
    assert "30 frozen: 8.0%" in row(text, "Removing 30 filters")
    assert "+5.0 points" in row(text, "Conductance names other filters")


def test_classes_are_read_from_the_split_that_was_compared_where_there_is_one(tmp_path):
    critical("pizza").write(tmp_path / "fig2_class_filters" / "pizza" / "result.json")
    assert "pizza" in row(paper.render(tmp_path), "Removing filters of a class")
    critical("dumbbell").write(tmp_path / "fig2_class_filters_compared" / "dumbbell" / "result.json")
    shown = row(paper.render(tmp_path), "Removing filters of a class")
    assert "dumbbell" in shown
    assert "pizza" not in shown


def test_what_clean_accuracy_fell_by_stands_beside_what_the_attack_still_reaches():
    result = adversarial_result()
    success = result.share("repaired", "target success", "replay").value
    assert paper.clean(result).text.endswith(f", at a replayed success of {100 * success:.1f}%")


def test_who_wins_and_loses_stands_in_the_words_of_every_real_result(tmp_path):
    lost = "By area the order of Shapley values loses to taylor."
    compared = against_conductance(0.1).model_copy(update={"sentences": [lost, "Claims hold for the 2 baselines together."]})
    for place in ("fig1_of_another", "example_digits_prune", "embedded/fig1_of_another"):
        critical(None, comparison=compared).write(tmp_path / place / "result.json")
    text = paper.render(tmp_path)
    assert text.count(lost) == 1
    assert "**[fig1\\_of\\_another](fig1_of_another/report.md)**" in text
    assert "Claims hold for the 2" not in text


def test_measurements_that_stand_against_fewer_baselines_elsewhere_are_no_second_evidence(tmp_path):
    two, three = against_conductance(0.1), against_conductance(0.1, 0.1)
    two, three = (each.model_copy(update={"sentences": ["It beats conductance."]}) for each in (two, three))
    critical(None, comparison=two).write(tmp_path / "table_a" / "result.json")
    critical(None, comparison=three).write(tmp_path / "fig1_a" / "result.json")
    critical(None, after=0.2, comparison=three).write(tmp_path / "fig1_b" / "result.json")
    told = "Its measurements are those of fig1\\_a, where 3 baselines are held against them, here 2: a claim that stands here alone is one among fewer."
    text = paper.render(tmp_path)
    assert text.count("Its measurements") == 1
    assert told in text.split("table\\_a", maxsplit=1)[1]


def test_alternatives_that_win_lose_or_cannot_be_told_are_quoted(tmp_path):
    sentences = [
        "Recall of men fell by 3.0 percentage points.",
        "Fine-tuned does better than the repair in mean recall (5.7 percentage points higher).",
        "The repair does better than Last layer refitted in mean recall (3.1 percentage points higher).",
        "The repair cannot be told from Threshold moved by these images.",
    ]
    labels = ("Fine-tuned", "Last layer refitted", "Threshold moved")
    rows = [
        Alternative(
            column=label,
            label=label,
            explanation="",
            minutes=None,
            passes=None,
            images=None,
            changes_weights=False,
            group_at_run_time=False,
        )
        for label in labels
    ]
    example = example_result()
    example.model_copy(update={"alternatives": rows, "verdict": example.verdict.model_copy(update={"sentences": sentences})}).write(
        tmp_path / "fig3a_fairness_compared" / "result.json"
    )
    text = paper.render(tmp_path)
    assert all(f"- {sentence}" in text for sentence in sentences[1:])
    assert "men fell" not in text
