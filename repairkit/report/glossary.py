"""The glossary of reports: `glossary.toml` holds every metric and term once, a report lists those that it uses."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Metric:
    """A metric: what it is, when it matters, and who is failed."""

    term: str
    what: str
    when: str
    who: str


@dataclass(frozen=True)
class Term:
    """A word that reports use in one sense."""

    term: str
    what: str


@dataclass(frozen=True)
class Glossary:
    """The metrics and terms of one report, in the order shown."""

    metrics: Sequence[Metric]
    terms: Sequence[Term]
    lead: str = "Each metric answers three questions: what is it, when does it matter, and who fails?"


@cache
def _entries() -> tuple[dict[str, Metric], dict[str, Term]]:
    read = tomllib.loads(files("repairkit.report").joinpath("glossary.toml").read_text(encoding="utf-8"))
    return {e["term"]: Metric(**e) for e in read["metrics"]}, {e["term"]: Term(**e) for e in read["terms"]}


def glossary(metrics: Sequence[str], terms: Sequence[str]) -> Glossary:
    """The named entries; KeyError if one is missing."""
    known_metrics, known_terms = _entries()
    return Glossary([known_metrics[name] for name in metrics], [known_terms[name] for name in terms])
