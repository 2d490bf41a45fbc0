import itertools
import re
from xml.etree import ElementTree

import pytest
from adversarial_example import ADVERSARIES, EPS, adversarial_cases, adversarial_result
from bs4 import BeautifulSoup
from matplotlib.figure import Figure
from results import changed

from repairkit.cli.console import show_result
from repairkit.experiments import results as kinds
from repairkit.experiments.adversarial import figures as adversarial_figures
from repairkit.experiments.adversarial import report as adversarial_report
from repairkit.experiments.adversarial.report import AdversarialResult
from repairkit.experiments.critical.result import CriticalResult
from repairkit.experiments.fairness.report import FairnessResult
from repairkit.report import document, html, markdown, tables

CASES = adversarial_cases()
TITLES = [title for _, title, *_ in ADVERSARIES.values()]
HOSTILE = '<script>alert(1)</script> "><img src=x onerror=alert(1)> a|b||c two\nlines # more ]]> --> </title></svg></style>'


def page_of(result: AdversarialResult) -> BeautifulSoup:
    return BeautifulSoup(html.render(kinds.document(result)), "html.parser")


def texts(table: document.Table) -> list[list[str]]:
    return [[f"{cell.text} {cell.detail}".strip() for cell in row] for body in table.bodies for row in body]


def panels(figure):
    canvas = Figure(layout="constrained")
    figure.chart(canvas)
    return canvas.axes


def drawn(result: AdversarialResult, key: str):
    return next(figure for figure in adversarial_figures.draw(result) if figure.key == key)


@pytest.mark.parametrize("name", CASES)
def test_written_results_are_read_again_as_their_kind(name, tmp_path):
    result = CASES[name]
    result.write(tmp_path / "result.json")
    assert kinds.read(tmp_path / "result.json") == result
    assert kinds.kind_of(result).figures(result) == adversarial_figures.draw(result)


def test_every_adversary_has_a_row_with_n_and_both_measures_of_every_network():
    result = adversarial_result()
    success, recovered = adversarial_report.adversaries(result)
    assert success.heads == ("Threat model", "n", "Original", "Repaired", "Fine-tuned alone", "Dropout-trained", "Knows")
    assert [row[0] for row in texts(success)] == TITLES
    assert [row[0] for row in texts(recovered)] == ["Clean images", *TITLES]
    for table, metric in ((success, "target success"), (recovered, "recovered label")):
        rows = {row[0]: row for row in texts(table)}
        for share in (share for share in result.shares if share.metric == metric):
            title = next(entry.title for entry in result.extra.adversaries if entry.key == share.group)
            column = [each.key for each in result.columns].index(share.column)
            assert rows[title][1] == str(share.n)
            assert rows[title][2 + column] == f"{100 * share.value:.1f}% {100 * share.low:.1f} to {100 * share.high:.1f}"
    assert texts(recovered)[0][1:3] == ["528", "78.0% 74.3 to 81.4"]
    page = page_of(result)
    assert [caption.get_text() for caption in page.select("#adversaries ~ .scroll caption")] == [success.caption, recovered.caption]


def test_who_wants_no_class_has_no_target_success():
    rows = {row[0]: row for row in texts(adversarial_report.adversaries(adversarial_result())[0])}
    for entry in adversarial_result().extra.adversaries:
        assert (set(rows[entry.title][2:-1]) == {"—"}) == (not entry.targeted)


def test_adversaries_stand_from_the_weakest_to_the_worst_and_say_what_they_know():
    result = adversarial_result()
    mixed = changed(result, {"adversaries": result.extra.adversaries[::-1]})
    rows = texts(adversarial_report.adversaries(mixed)[0])
    expected = list(dict.fromkeys(adversarial_report.KNOWS[entry.kind] for entry in result.extra.adversaries))
    assert [knows for knows, _ in itertools.groupby(rows, key=lambda row: row[-1])] == expected
    assert len(expected) == 6
    described = dict(adversarial_report.descriptions(result))
    assert list(described) == TITLES
    assert described["Square"].startswith("eps 16/255, 500 queries, sees logits and no gradient")
    assert described["Square"].endswith("23,296 passes.")


def test_key_figures_are_replay_clean_accuracy_and_the_worst_fresh_attack():
    replay, clean, worst = adversarial_report.key_figures(adversarial_result())
    assert (replay.metric, replay.before, replay.after, replay.status) == (
        "target success, replayed images (lower is better)", "100.0%", "28.1%", "▲ better",
    )  # fmt: skip
    assert (clean.metric, clean.before, clean.after, clean.status) == ("clean accuracy", "78.0%", "76.9%", "● inconclusive")
    assert (worst.metric, worst.before, worst.after) == ("recovered label, worst of the adaptive attacks", "0.0%", "0.0%")
    assert [item.get_text() for item in page_of(adversarial_result()).select("ul.key .metric")] == [
        replay.metric,
        clean.metric,
        worst.metric,
    ]
    assert adversarial_report.key_figures(CASES["cannot be fooled"]) == []


def test_differences_name_adversary_and_measure_and_claim_in_words():
    result = adversarial_result()
    first, *_ = found = adversarial_report.differences(result)
    assert [table.caption for table in found] == [
        f"{pair}, with 95% intervals"
        for pair in ("Repaired minus Original", "Repaired minus Fine-tuned alone", "Fine-tuned alone minus Original", "Dropout-trained minus Original")
    ]  # fmt: skip
    rows = {row[0].text: row for body in first.bodies for row in body}
    fall = rows["Stored PGD images: target success"]
    assert (fall[1].text, fall[2].text) == ("−71.9", "▲ better")
    assert len(rows) == sum(1 + entry.targeted for entry in result.extra.adversaries) + 1
    assert texts(first)[-1][0] == "clean accuracy"


def test_a_rise_of_target_success_is_something_that_got_worse():
    result = adversarial_result()
    named = [row[0] for row in texts(adversarial_report.lower_after_repair(result))]
    assert "Random noise: target success" in named  # from 0.0 to 0.5 %
    assert "Stored PGD images: target success" not in named  # it fell
    assert "clean accuracy" in named
    worse = [
        entry.model_copy(update={"claim": "worse", "value": 0.1, "low": 0.05, "high": 0.15}) if entry.group == "pgd" else entry
        for entry in result.differences
    ]
    table = adversarial_report.lower_after_repair(changed(result, {"differences": worse}))
    assert texts(table)[0][0] == "PGD afresh: target success"
    assert "▼ worse" in texts(table)[0]
    alone = changed(result, {"differences": [entry for entry in result.differences if entry.claim == "better"]})
    assert adversarial_report.lower_after_repair(alone) is None


def test_frontier_table_holds_both_orders_and_marks_the_choice():
    result = adversarial_result()
    table = adversarial_report.frontier(result)
    rows = {row[0]: row[1:] for row in texts(table)}
    assert list(rows) == ["0", "1", "2", "5", "7 (selected)", "10", "16", "20", "50", "64"]
    assert rows["7 (selected)"] == ["28.1% 23.5 to 33.3", "76.9% 73.1 to 80.3", "55.0% 49.5 to 60.4", "70.0% 66.0 to 73.8"]
    assert rows["64"][:2] == ["—", "—"]
    assert "n = 320 replayed and 528 clean" in table.caption
    one = changed(result, {"frontier": [point for point in result.extra.frontier if point.series == "highest value first"]})
    assert adversarial_report.frontier(one).heads == (
        "Frozen",
        "Highest value first: target success",
        "Highest value first: clean accuracy",
    )


def test_frontier_figure_shows_every_point_and_marks_the_choice():
    result = adversarial_result()
    figure = drawn(result, "frontier")
    (axes,) = panels(figure)
    points = [(point.clean, point.success) for point in result.extra.frontier if point.series == "order of choosing"]
    assert axes.lines[0].get_xydata().tolist() == [list(point) for point in points]
    chosen = next(point for point in result.extra.frontier if point.chosen)
    assert [text.xy for text in axes.texts if text.get_text() == "7 (chosen)"] == [(chosen.clean, chosen.success)]
    assert figure.finding.endswith("As chosen, with 7 frozen, replayed success is 28.1% at a clean accuracy of 76.9%.")


def test_frozen_figure_marks_the_choice_on_both_panels():
    figure = drawn(adversarial_result(), "frozen")
    for axes in panels(figure):
        assert axes.lines[-1].get_xdata() == [7, 7]
    assert "64 frozen: success 12.0%, clean 34.0%" in figure.finding


def test_sweep_shows_eps_in_255ths_on_a_log_axis_with_the_median_of_each_network():
    result = adversarial_result()
    rows = texts(adversarial_report.sweep(result))
    assert [row[0] for row in rows] == ["0.0625", "0.125", "0.25", "0.5", "1", "2", "4", "8", "16"]
    assert rows[2][1:3] == ["70.3% 58.2 to 80.1", "51.6% 39.6 to 63.4"]
    figure = drawn(result, "sweep")
    (axes,) = panels(figure)
    assert axes.get_xscale() == "log"
    assert all(len(line.get_xdata()) == len(EPS) for line in axes.lines)
    assert "Original 0.25; Repaired 0.25; Fine-tuned alone 0.25; Dropout-trained 0.5" in figure.finding


def test_strengths_show_who_needs_more_and_the_sanity_of_the_attack():
    result = adversarial_result()
    rows = {row[0]: row[1:] for row in texts(adversarial_report.strengths(result))}
    assert rows["Original"] == ["64", "0.25", "—", "—", "—"]
    assert rows["Repaired"] == ["64", "0.25", "24", "3", "<0.001"]
    assert adversarial_report.sanity(result)[1:4:2] == [
        "Repaired: nothing suspicious in 16 images.",
        "Dropout-trained: an attack without bound gets 14 of 16 images, and should get all; the gradient vanishes at 2 of 16 images.",
    ]
    assert {row[2] for row in texts(adversarial_report.strengths(CASES["hard to fool"]))} == {"above 16"}


def test_passes_that_an_earlier_run_made_are_told_beside_the_seconds_that_leave_them_out():
    result = adversarial_result()
    attack, evaluation = result.costs
    costs = [attack.model_copy(update={"taken": 63700.0}), evaluation]
    shown = texts(tables.costs(changed(result, {"costs": costs})))
    assert shown == [
        ["attack", "115,200 63,700 from an earlier run, not in these seconds", "611.0"],
        ["evaluation", "402,000", "2,411.5"],
    ]


def test_a_network_with_nothing_frozen_shows_what_was_tried():
    page = page_of(CASES["nothing frozen"])
    assert not [cell for cell in page.select("#frontier ~ .scroll th") if "selected" in cell.get_text()]
    assert "No number of frozen filters was chosen." in drawn(CASES["nothing frozen"], "frontier").finding
    assert len(page.select("#strength ~ .scroll tbody tr")) == 1 + len(EPS)


def test_the_command_line_shows_both_measures_of_every_adversary(capsys):
    result = CASES["two networks"]
    show_result(result)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == result.verdict.headline
    stored = next(line for line in lines if "Stored PGD images: target success" in line)
    assert re.findall(r"\d+\.\d%", stored) == ["100.0%", "28.1%"]
    assert any(line.split("│")[0].strip() == "Square: recovered label" for line in lines)
    assert not any("Square: target success" in line for line in lines)
    assert any("clean accuracy" in line for line in lines)


def test_no_string_of_a_result_escapes_into_markup():
    name = HOSTILE
    data = adversarial_result().model_dump()
    extra = data["extra"]
    extra["images"] = extra["attack"] = name
    extra["parts"] = {name: name}
    for entry in extra["adversaries"]:
        entry["title"] = entry["description"] = name
    extra["strengths"][0]["flags"] = [name]
    extra["correlation"]["of"] = data["columns"][1]["label"] = name
    result = AdversarialResult.model_validate(data)
    page, usual = page_of(result), page_of(adversarial_result())
    assert {element.name for element in page.find_all(True)} == {element.name for element in usual.find_all(True)}
    assert "".join(name.split()) in "".join(page.find(id="figure-target-success").svg["aria-label"].split())
    for figure in adversarial_figures.draw(result):
        ElementTree.fromstring(figure.svg(standalone=True))  # noqa: S314  (our own drawing)
    lines = markdown.render(kinds.document(result)).splitlines()
    assert not [line for line in lines if re.search(r"(?<!\\)<(script|img)", line)]
    bars = [len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("| ")]
    plain = markdown.render(kinds.document(adversarial_result())).splitlines()
    assert len(bars) == sum(line.startswith("| ") for line in plain) - 2  # two parts fewer


def test_other_kinds_do_not_read_an_adversarial_result(tmp_path):
    adversarial_result().write(tmp_path / "result.json")
    for other in (FairnessResult, CriticalResult):
        with pytest.raises(Exception, match="not a result of this version: extra"):
            other.read(tmp_path / "result.json")
