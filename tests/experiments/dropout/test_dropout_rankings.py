"""Both networks of filter dropout held against baselines: what each ranking takes from them, and whether the finding hangs on Shapley values."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from dropout_example import COMPARED, found
from results import changed
from scipy import stats
from test_dropout import literal_accuracy

from repairkit.baselines import compare as comparing
from repairkit.baselines.compare import AS_DEAR, AS_PUBLISHED, SHAPLEY, Compared, Contender
from repairkit.experiments import results as kinds
from repairkit.experiments.classifier_task import CriticalTask
from repairkit.experiments.critical.result import summarise as summarise_critical
from repairkit.experiments.critical.run import find as find_critical
from repairkit.experiments.dropout import report as dropout_report
from repairkit.experiments.dropout.rankings import RankedChange, conclude, rankings
from repairkit.experiments.dropout.result import change_of, summarise
from repairkit.experiments.dropout.run import configuration, find, plan
from repairkit.network.game import NetworkGame
from repairkit.report import html, markdown
from repairkit.result import Estimate
from repairkit.run.context import Run
from repairkit.run.store import RunStore

PLAIN = replace(COMPARED, compare=())
ROWS = [SHAPLEY, "random", "weight norm", "response norm", "mean activation", "leave-one-out", "taylor", AS_PUBLISHED, AS_DEAR]


def ranked(result, name):
    return next(row for row in result.extra.rankings.rows if row.name == name)


def literal_curves(name):
    """Whether each report image is right with 0 to 3 filters frozen, by column: ranked by hand or by the values found, frozen one image at a time."""
    task, findings, _ = found(COMPARED)
    find_on, report_on = (task.images.subset(part) for part in (findings.split.attribute, findings.split.report))
    curves = {}
    for column, model in (("original", task.model), ("dropout", task.dropout)):
        network = model.classifier.network
        with torch.no_grad():
            means = network[:2](model.classifier.prepare(find_on.batch(np.arange(len(find_on))))).mean(dim=(0, 2, 3))
        contender = next(each for each in findings.comparisons[column].contenders if each.name == name)
        scores = (
            network[0].weight.detach().flatten(1).double().norm(dim=1).numpy() if name == "weight norm" else contender.attributions[0].value
        )
        order = [findings.networks[column].filters.ids[player] for player in np.argsort(-scores, kind="stable")]
        curves[column] = [literal_accuracy(model, report_on, [str(each) for each in order[:number]], means) for number in range(4)]
    return curves


@pytest.mark.parametrize("name", [SHAPLEY, "weight norm", "taylor"])
def test_a_ranking_takes_from_each_network_what_freezing_its_first_filters_takes(name):
    _, _, result = found(COMPARED)
    row, curves = ranked(result, name), literal_curves(name)
    changes = {column: [np.mean(curve[number] - curve[0]) for number in (1, 2, 3)] for column, curve in curves.items()}
    for column, change in changes.items():
        assert row.changes[column].value == pytest.approx(np.mean(change))
        area = np.trapezoid([np.mean(right) for right in curves[column]]) / 3
        assert next(each for each in result.comparisons[column].baselines if each.name == name).area == pytest.approx(area)
    assert row.difference.value == pytest.approx(np.mean(changes["dropout"]) - np.mean(changes["original"]))


def test_the_first_row_is_the_difference_that_the_verdict_rests_on():
    _, _, result = found(COMPARED)
    assert [row.name for row in result.extra.rankings.rows] == ROWS
    entry = next(each for each in result.differences if (each.metric, each.group) == (change_of("highest"), None))
    assert result.extra.rankings.rows[0].difference == Estimate(value=entry.value, low=entry.low, high=entry.high)
    assert result.extra.rankings.n == entry.n


def test_a_network_is_compared_as_repairkit_accuracy_compares_it():
    task, _, result = found(COMPARED)
    asked = CriticalTask(task.model, task.images, None)
    alone = summarise_critical(
        asked, COMPARED, find_critical(asked, Run.start(COMPARED)), title="t", command="c", minutes=0.1, notices=[]
    ).comparison
    assert result.comparison is None
    measured = {"baselines": {"__all__": {"claim"}}, "sentences": True}  # claims hold for both networks together there
    assert result.comparisons["original"].model_dump(exclude=measured) == alone.model_dump(exclude=measured)
    assert "Claims hold for the 8 baselines of all 2 networks together" in result.comparisons["original"].sentences[-1]
    assert "Claims hold for the 8 baselines together" in alone.sentences[-1]


def compared_of(shares, n=500, seed=3):
    """Two networks at 0, 1 and 4 filters: the share of images right with any frozen, by ranking, of the original and of its rival."""
    rng = np.random.default_rng(seed)
    start = (rng.random(n) < 0.9).astype(float)
    attribution = found(COMPARED)[1].networks["original"].highest
    return {
        column: Compared(
            (0, 1, 4),
            tuple(
                Contender(name, (attribution,), (attribution.value,), np.stack([start, *(rng.random((2, n)) < pair[number]).astype(float)]))
                for name, pair in shares.items()
            ),
        )
        for number, column in enumerate(("original", "dropout"))
    }


def test_intervals_are_paired_and_those_of_a_t_test():
    made = compared_of({SHAPLEY: (0.5, 0.7)})
    (row,) = rankings(made).rows
    changes = {column: each.contenders[0].right[1:].mean(axis=0) - each.contenders[0].right[0] for column, each in made.items()}
    for shown, per_image in ((row.changes["original"], changes["original"]), (row.difference, changes["dropout"] - changes["original"])):
        expected = stats.ttest_1samp(per_image, 0).confidence_interval(0.95)
        assert shown.value == pytest.approx(per_image.mean())
        assert (shown.low, shown.high) == (pytest.approx(expected.low, abs=0.01), pytest.approx(expected.high, abs=0.01))


def test_claims_hold_for_all_rankings_together():
    weak = compared_of({"taylor": (0.5, 0.55)}, seed=5)
    others = compared_of({SHAPLEY: (0.5, 0.7), "random": (0.9, 0.9)})
    alone = rankings(weak)
    assert (alone.rows[0].claim, len(alone.sentences)) == ("better", 2)
    among = rankings(
        {
            column: replace(each, contenders=(each.contenders[0], weak[column].contenders[0], each.contenders[1]))
            for column, each in others.items()
        }
    )
    assert among.rows[1].difference == alone.rows[0].difference
    assert [row.claim for row in among.rows] == ["better", "no claim", "no claim"]
    assert "ranked by taylor, random the falls of the two networks cannot be told apart." in among.sentences[0]
    assert "the 3 rankings together" in among.sentences[2]
    assert "the 98.33% interval must exclude zero" in among.sentences[2]


def test_a_loss_is_said_first():
    said = rankings(compared_of({SHAPLEY: (0.5, 0.7), "taylor": (0.7, 0.5)})).sentences
    assert (
        said[0].index("ranked by taylor (by ") < said[0].index("loses more than the original") < said[0].index(f"ranked by {SHAPLEY} (by ")
    )
    assert said[1] == "That it loses less depends on the ranking: by taylor the opposite holds."


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        (["better", "better", "better"], "That it loses less does not depend on Shapley values: every other ranking shows it, too."),
        (["worse", "worse", "no claim"], "That it loses more is not shown by Shapley values alone: a shows it, too. By b it is not shown"),
        (["better", "no claim", "no claim"], "That it loses less is shown by Shapley values alone. By a, b it is not shown, which is no proof"),
        (["worse", "better", "no claim"], "That it loses more depends on the ranking: by a the opposite holds. By b it is not shown"),
        (["no claim", "worse", "better"], "depends on the ranking: by Shapley values the falls cannot be told apart, by a, b they can."),
        (["no claim", "no claim", "no claim"], "No ranking tells the falls of the two networks apart."),
        (["better"], "No other ranking could be made"),
    ],
)  # fmt: skip
def test_whether_it_hangs_on_shapley_values_follows_from_the_claims(claims, said):
    nothing = Estimate(value=0.0, low=0.0, high=0.0)
    rows = [
        RankedChange(name=name, changes={}, difference=nothing, claim=claim)
        for name, claim in zip((SHAPLEY, "a", "b"), claims, strict=False)
    ]
    assert said in conclude(rows)


def test_a_ranking_that_one_network_lacks_has_no_row_and_says_why():
    made = compared_of({SHAPLEY: (0.5, 0.7), "taylor": (0.5, 0.7)})
    lacking = replace(made["dropout"], contenders=(made["dropout"].contenders[0], Contender("taylor", why_not="too dear")))
    assert [row.name for row in rankings(made | {"dropout": lacking}).rows] == [SHAPLEY]
    assert rankings({}) is None
    nothing = {column: Compared((0,), tuple(replace(c, right=c.right[:1]) for c in each.contenders)) for column, each in made.items()}
    assert rankings(nothing) is None
    unsuited = replace(COMPARED, compare=("fairprune",))
    result = found(unsuited)[2]
    assert (
        result.extra.rankings.sentences[1]
        == "No other ranking could be made, so nothing is said of whether this depends on Shapley values."
    )
    page = BeautifulSoup(html.render(kinds.document(result)), "html.parser").find(id="comparison").parent.get_text(" ", strip=True)
    for label in ("Original", "Dropout-trained"):
        assert f"Not compared ({label}): fairprune compares subgroups, got " in page


def test_the_plan_counts_both_networks():
    task, findings, result = found(COMPARED)
    planned, plain = plan(task, COMPARED), plan(task, PLAIN)
    assert planned == plain | {"baselines": planned["baselines"]}
    booked = next(cost.passes for cost in result.costs if cost.part == "baselines")
    assert 0 < booked <= planned["baselines"]
    spent = sum(each.passes for found in result.comparisons.values() for each in found.baselines[1:])
    measured = 2 * 7 * 3 * 48  # with 1, 2 and 3 frozen, of both networks; random filters are the control
    assert booked == pytest.approx(spent + measured)
    for column, each in result.comparisons.items():
        assert each.baselines[0].passes == sum(findings.networks[column].highest.passes.values())


def test_a_run_that_compares_finds_what_one_that_does_not_compare_finds():
    result, plain = found(COMPARED)[2], found(PLAIN)[2]
    same = {"comparisons": {}, "rankings": None, "costs": [], "reproduction": None}
    assert changed(result, same) == changed(plain, same)
    assert (plain.comparisons, plain.extra.rankings) == ({}, None)
    assert "Comparison with other" not in html.render(kinds.document(plain)) + markdown.render(kinds.document(plain))


def test_what_was_kept_is_not_made_again_and_the_bits_are_the_same(tmp_path, monkeypatch):
    task, whole, result = found(COMPARED)

    def unfinished():
        return RunStore(tmp_path / "run", configuration(task, COMPARED), command="repairkit dropout --resume")

    real, made = comparing.baselines.mean_activation, []

    def interrupted(game, **more):
        made.append(game)
        if len(made) > 1:  # of the second network
            raise KeyboardInterrupt
        return real(game, **more)

    monkeypatch.setattr(comparing.baselines, "mean_activation", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find(task, Run.start(COMPARED, store=unfinished()))
    kept = {
        column: sorted(each.name for each in (tmp_path / "run.unfinished" / column / "baselines").iterdir()) for column in whole.networks
    }
    assert kept["dropout"] == ["random", "response-norm", "weight-norm"]
    assert set(kept["original"]) > {*kept["dropout"], "leave-one-out", "taylor"}
    monkeypatch.setattr(comparing.baselines, "mean_activation", real)
    for name in ("random", "weight_norm", "response_norm"):
        monkeypatch.setattr(comparing.baselines, name, lambda *_, **__: pytest.fail("made again"))
    again = find(task, Run.start(COMPARED, store=unfinished()))
    resumed = summarise(task, COMPARED, again, title="t", command="c", minutes=0.1, notices=[])
    assert (resumed.comparisons, resumed.extra.rankings) == (result.comparisons, result.extra.rankings)
    assert again.passes == whole.passes
    assert all(isinstance(each.game, NetworkGame) for each in again.networks.values())


def test_both_views_show_the_rankings_and_each_network(tmp_path):
    _, _, result = found(COMPARED)
    page = BeautifulSoup(html.render(kinds.document(result)), "html.parser")
    section = page.find(id="comparison").parent
    markdown.write(kinds.document(result), tmp_path / "report.md")
    written = (tmp_path / "report.md").read_text(encoding="utf-8").replace("\\", "")
    headings = ["Does the finding depend on the ranking?", "Original", "Dropout-trained"]
    assert [each.get_text() for each in section.find_all("h3")] == headings
    assert [line[4:] for line in written.splitlines() if line.startswith("### ")][:3] == headings
    row = ranked(result, "weight norm")
    for text in (section.get_text(" ", strip=True), written):
        for shown in (row.difference, *row.changes.values()):
            assert f"{100 * shown.value:+.1f}".replace("-", "−") in text
        assert "Original, baselines: highest value first; area under the curve of accuracy (lower is ahead), n = 48" in text
        assert "Dropout-trained, accuracy, times 100, with so many filters frozen" in text
        assert result.extra.rankings.sentences[1] in text
    captions = [found["id"] for found in page.find_all(id=lambda name: name and name.endswith("caption"))]
    assert len(captions) == len(set(captions))
    assert {file.stem for file in (tmp_path / "figures").iterdir()} >= {"baselines-original", "baselines-dropout-trained"}
    assert [table.key for table in dropout_report.quoted(result)][-3:] == ["rankings", "baselines-original", "baselines-dropout-trained"]
    result.write(tmp_path / "result.json")
    assert kinds.read(tmp_path / "result.json") == result
