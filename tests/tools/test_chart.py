"""README's chart shows the committed result."""

from pathlib import Path

from repairkit.experiments import results as kinds
from tools.chart import main, repair_chart

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "reports" / "fig3a_fairness" / "result.json"


def test_the_committed_chart_is_what_its_result_gives(tmp_path):
    main([str(RESULT), str(tmp_path / "repair.svg")])
    assert (tmp_path / "repair.svg").read_bytes() == (ROOT / "docs" / "repair.svg").read_bytes()


def test_the_chart_states_what_the_repair_bought():
    figure = repair_chart(kinds.read(RESULT))
    assert "darker women rises from 49.8% to 74.9%; a moved threshold reaches 62.4%" in figure.alt
    assert "-0.6 points" in figure.alt
