"""Charts: artists lie at the numbers they show, the SVG is the same everywhere, and its text can be read."""

import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure as Canvas
from report_example import example_result

from repairkit import plots
from repairkit.experiments.fairness import report
from repairkit.report import charts
from repairkit.report.figure import Figure
from repairkit.result import Histogram

SVG = "{http://www.w3.org/2000/svg}"
STYLES = (plots.BASELINE, plots.PRIMARY, plots.SECONDARY, plots.TERTIARY, plots.QUATERNARY, plots.OTHER)


def panels(figure: Figure) -> list:
    canvas = Canvas(layout="constrained")
    figure.chart(canvas)
    return canvas.axes


def drawn(key: str) -> Figure:
    return next(figure for figure in report.draw(example_result()) if figure.key == key)


def test_every_share_is_a_mark_at_its_value_with_its_number_beside_it():
    result = example_result()
    (axes,) = panels(drawn("recall"))
    shares = [
        result.share(column.key, "recall" if group else "mean recall", group)
        for group in (*result.groups, None)
        for column in result.columns
    ]
    assert [line.get_xdata()[0] for line in axes.lines] == [share.value for share in shares]
    intervals = [tuple(segment[:, 0]) for lines in axes.collections for segment in lines.get_segments()]
    assert intervals == [(share.low, share.high) for share in shares]
    texts = [text.get_text() for text in axes.texts]
    assert [text for text in texts if text.endswith("%")] == [f"{share.value:.1%}" for share in shares]


def test_both_panels_of_a_removal_curve_share_their_filters_and_mark_the_choice():
    result = example_result()
    chosen = next(point for point in result.extra.curves if point.chosen)
    points = sorted((point for point in result.extra.curves if point.series == chosen.series), key=lambda point: point.filters)
    for axes, metric in zip(panels(drawn("removal")), ("mean_recall", "source_accuracy"), strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        assert lines["Repaired"].get_xydata().tolist() == [[point.filters, getattr(point, metric)] for point in points]
        assert axes.lines[-1].get_xdata() == [chosen.filters, chosen.filters]


def test_the_line_of_the_threshold_runs_through_what_was_tried_and_not_back_to_the_choice():
    tried = [point for point in example_result().extra.curves if point.series == "threshold" and not point.chosen]
    (axes,) = panels(drawn("tradeoff"))
    (line,) = (line for line in axes.lines if line.get_color() == plots.style_of("threshold").color and len(line.get_xdata()) > 1)
    assert len(line.get_xdata()) == len(tried)


@pytest.mark.parametrize(("counts", "scale"), [([1, 0, 4], "linear"), ([1, 10, 100], "log")])
def test_a_histogram_has_a_bar_for_every_full_bin_and_a_mark_for_every_frozen_filter(counts, scale):
    entry = Histogram(title="h", edges=[-1.0, 0.0, 1.0, 2.0], counts=counts, culprits=[-0.5, 1.5])
    (axes,) = panels(charts.histogram(entry, "values"))
    assert [bar.get_height() for bar in axes.patches] == [count for count in counts if count]
    assert axes.lines[0].get_xdata().tolist() == [-0.5, 1.5]
    assert axes.get_yscale() == scale


def test_bars_leave_room_for_the_text_beside_them():
    canvas = Canvas(figsize=(4.2, 1.0), layout="constrained")
    axes = canvas.subplots()
    plots.plot_bars(axes, [("features.12", 1000, "1,000 of 1,024")], outer=[1024])
    canvas.draw_without_rendering()
    assert axes.texts[0].get_window_extent().x1 <= canvas.bbox.x1


def test_series_differ_by_colour_and_by_shape():
    for first, second in combinations(STYLES, 2):
        assert first.color != second.color
        assert (first.marker, first.hollow) != (second.marker, second.hollow)


def test_a_chart_is_text_that_states_the_finding():
    figure = drawn("recall")
    for root in (ElementTree.fromstring(figure.svg(standalone=True)), ElementTree.fromstring(figure.svg())):  # noqa: S314  (our own chart)
        assert root.get("role") == "img"
        assert figure.finding in root.get("aria-label")
        words = {element.text for element in root.iter() if element.tag.removeprefix(SVG) == "text"}
        assert {"mean recall", *example_result().groups} <= words
    root = ElementTree.fromstring(figure.svg(standalone=True))  # noqa: S314  (our own chart)
    assert root.find(f"{SVG}desc").text == figure.alt


def test_a_chart_is_the_same_in_another_process_and_leaves_the_settings_of_the_user_alone():
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path"}):
        here = "".join(figure.svg(standalone=True) for figure in report.draw(example_result()))
        assert mpl.rcParams["font.size"] == 30
    code = (
        "from report_example import example_result; from repairkit.experiments.fairness import report; "
        "print(''.join(figure.svg(standalone=True) for figure in report.draw(example_result())), end='')"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        cwd=Path(__file__).parent,
        env=_environment(),
    ).stdout
    assert there == here


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "5", "PYTHONUTF8": "1"}


def test_charts_of_one_page_share_no_id():
    found = [
        element.get("id")
        for figure in report.draw(example_result())
        for element in ElementTree.fromstring(figure.svg()).iter()  # noqa: S314  (our own chart)
        if element.get("id")
    ]
    assert len(found) == len(set(found))


def test_pyplot_and_matplotlib_wait_for_a_chart():
    code = "import sys, repairkit.plots, repairkit.report.figure; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
