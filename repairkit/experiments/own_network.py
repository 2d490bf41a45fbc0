"""Repairs that were made and saved from Python: the command line shows them, and never makes them."""

from __future__ import annotations

from typing import Any, NoReturn

from repairkit.experiments.base import Experiment
from repairkit.repair import report
from repairkit.report.tables import aggregates
from repairkit.result import NoExtra, Result


class OwnNetwork(Experiment[None, None, Result[NoExtra]]):
    """What `repairkit.repair(...).save(directory)` leaves."""

    result_class = Result[NoExtra]
    glossary_metrics, glossary_terms = report.METRICS, report.TERMS
    sections = staticmethod(report.sections)
    figures = staticmethod(report.draw)
    facts = staticmethod(report.facts)
    key_figures = staticmethod(aggregates)

    def cost(self, task: Any, settings: Any) -> NoReturn:
        """Not known here."""
        raise NotImplementedError

    def configuration(self, task: Any, settings: Any) -> NoReturn:
        """Not known here."""
        raise NotImplementedError

    def run(self, task: Any, run: Any) -> NoReturn:
        """Only Python runs it."""
        raise NotImplementedError

    def result(self, task: Any, settings: Any, findings: Any, origin: Any) -> NoReturn:
        """Only Python makes it."""
        raise NotImplementedError
