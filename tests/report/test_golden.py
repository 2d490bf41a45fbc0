"""The text of a report of every kind, as Markdown.

`make figures` writes these texts anew, as it does the committed reports; the diff then shows what a change of words or numbers does.
"""

import os
from pathlib import Path

import pytest
from adversarial_example import adversarial_cases
from report_example import example_result, with_alternatives

from repairkit.experiments import registry
from repairkit.experiments import results as kinds
from repairkit.report import markdown

TESTS = Path(__file__).parents[1]
EMBEDDED = TESTS.parent / "reports" / "embedded"
RESULTS = {
    "fairness": example_result,
    "fairness_alternatives": with_alternatives,
    "adversarial": lambda: adversarial_cases()["adversarial"],
    "adversarial_cannot_be_fooled": lambda: adversarial_cases()["cannot be fooled"],
    "adversarial_nothing_frozen": lambda: adversarial_cases()["nothing frozen"],
    "dropout": lambda: kinds.read(EMBEDDED / "fig4_dropout" / "result.json"),
    "correlation": lambda: kinds.read(EMBEDDED / "correlation_attack_accuracy" / "result.json"),
    "critical": lambda: kinds.read(TESTS.parent / "reports" / "fig1_critical_filters" / "result.json"),
    "pruning": lambda: kinds.read(TESTS.parent / "reports" / "example_digits_prune" / "result.json"),
    "sample_efficiency": lambda: kinds.read(EMBEDDED / "fig8_sample_efficiency" / "result.json"),
    "truncation": lambda: kinds.read(EMBEDDED / "fig5_truncation" / "result.json"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_the_text_of_a_report_is_the_stored_one(name):
    golden = TESTS / "golden" / f"{name}.md"
    text = markdown.render(kinds.document(RESULTS[name]()))
    if os.environ.get("REPAIRKIT_WRITE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_every_kind_has_a_stored_text():
    assert {result().kind for result in RESULTS.values()} == set(registry.kinds())
