"""What reports show of a comparison with baselines: the same in both views, and nothing where there is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from matplotlib.figure import Figure
from report_example import example_result
from results import changed

from repairkit.baselines import figures as comparison_figures
from repairkit.experiments import results as kinds
from repairkit.report import html, markdown
from repairkit.result import Baseline, ComparedPoint, Comparison, RankedFilter, Selection

REPORTS = Path(__file__).parents[2] / "reports"


def selection(metric, value, lead=None, claim=None):
    ends = {"lead_low": None, "lead_high": None} if lead is None else {"lead_low": lead - 0.02, "lead_high": lead + 0.02}
    return Selection(
        metric=metric, lower_is_better=False, n=622, before=0.7, value=value, low=value - 0.03, high=value + 0.03, change=value - 0.7,
        change_low=value - 0.73, change_high=value - 0.67, lead=lead, claim=claim, **ends,
    )  # fmt: skip


def points(*values):
    return [
        ComparedPoint(filters=filters, value=value, low=value - 0.04, high=value + 0.04, beside=None)
        for filters, value in zip((0, 2, 8), values, strict=True)
    ]


COMPARISON = Comparison(
    metric="mean recall plus source accuracy",
    lower_is_better=False,
    beside=None,
    order="most harmful first",
    n=1222,
    filters=2976,
    k=40,
    sentences=["By area the order of Shapley values loses to <none> of | them.", "The selection alone wins a third."],
    baselines=[
        Baseline(
            name="Shapley values", what="The values of this run.", passes=20_000, points=points(1.641, 1.72, 1.793), area=1.723,
            area_low=1.69, area_high=1.75, frozen=[3, 5], choosing=4_321, total=24_321, candidates=[40, 39], selections=[selection("mean recall", 0.8123), selection("source accuracy", 0.931)],
        ),
        Baseline(
            name="taylor", what="The derivative.", passes=6_123, images=2041, both=117, rank_correlation=-0.314, overlap=0.225,
            points=points(1.641, 1.65, 1.377), area=1.602, area_low=1.57, area_high=1.63, lead=0.121, lead_low=0.08, lead_high=0.16,
            claim="better", frozen=[2, 2], choosing=3_999, total=10_122, candidates=[168, 170],
            selections=[selection("mean recall", 0.777, 0.035, "better"), selection("source accuracy", 0.951, -0.02, "no claim")],
        ),
        Baseline(name="fairprune", what="The groups.", why_not="it has <no> groups"),
    ],
    other="taylor",
    ranked=[RankedFilter(layer="features.3.squeeze", channel=17, value=-0.0123, rank=1, other_value=None, other_rank=None)],
)  # fmt: skip


@pytest.fixture
def result():
    return changed(example_result(), {"comparisons": {"repaired": COMPARISON}})


def test_both_views_show_every_number_and_why_one_is_missing(result, tmp_path):
    page = BeautifulSoup(html.render(kinds.document(result)), "html.parser")
    section = page.find(id="comparison").parent.get_text(" ", strip=True)
    markdown.write(kinds.document(result), tmp_path / "report.md")
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    written = (
        written[written.index("## Comparison with other filter rankings") : written.index("## Method and cost")]
        .replace("\\", "")
        .replace("&lt;", "<")
    )
    for text in (section, written.replace("&gt;", ">")):
        for shown in (
            "20,000", "6,123", "2,041", "−0.31", "117 filters", "22.5%", "by chance 1.3%", "160.2", "157.0 to 163.0", "+12.1", "+8.0 to +16.0",
            "▲ better", "● inconclusive", "172.3", "137.7", "3 to 5", "24,321", "20,000 + 4,321", "39 to 40", "168 to 170", "77.7%", "+7.7", "+3.5", "features.3.squeeze:17", "−0.0123",
            "<none> of | them", "Not compared: it has <no> groups",
        ):  # fmt: skip
            assert shown in text, shown
    assert page.select("nav a[href='#comparison']")
    captions = [found["id"] for found in page.find_all(id=re.compile("caption$"))]
    assert len(captions) == len(set(captions))
    assert (tmp_path / "figures" / "baselines.svg").is_file()
    assert "![Baselines: mean recall plus source accuracy" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_without_a_comparison_there_is_no_trace_of_one():
    plain = example_result()
    assert plain.comparison is None
    assert "Comparison with other" not in html.render(kinds.document(plain)) + markdown.render(kinds.document(plain))
    assert "baselines" not in [figure.key for figure in kinds.drawings_of(plain)]


def test_the_figure_has_a_panel_for_every_baseline_that_was_made():
    figure = comparison_figures.draw(COMPARISON)
    canvas = Figure(layout="constrained")
    figure.chart(canvas)
    (panel,) = [axes for axes in canvas.axes if axes.axison]
    assert panel.get_title(loc="left") == "taylor"
    assert [line.get_ydata()[0] for line in panel.lines] == [entry.points[0].value for entry in reversed(COMPARISON.baselines[:2])]
    assert figure.finding == COMPARISON.sentences[0]
    assert "taylor (Shapley ahead by +12.1 points, ▲ better): 0 164.1, 2 165.0, 8 137.7." in figure.detail
    nothing = COMPARISON.model_copy(update={"baselines": [COMPARISON.baselines[0]]})
    assert comparison_figures.draw(nothing).chart is None


def test_a_result_with_a_comparison_reads_back(result, tmp_path):
    result.write(tmp_path / "result.json")
    assert kinds.read(tmp_path / "result.json") == result


@pytest.mark.parametrize("file", sorted(REPORTS.rglob("result.json")), ids=lambda file: str(file.parent.relative_to(REPORTS)))
def test_committed_results_stay_readable(file, tmp_path):
    found = kinds.read(file)
    found.write(tmp_path / "result.json")
    assert kinds.read(tmp_path / "result.json") == found
