"""A report as a document of sections and blocks. Every kind of experiment builds one; two renderers show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from repairkit.report.figure import Figure
from repairkit.report.glossary import Glossary
from repairkit.result import Claim, Verdict

CellKind = Literal["text", "number", "status", "code"]
Pairs = Sequence[tuple[str, str]]
"""Names and what stands beside them."""


@dataclass(frozen=True)
class Cell:
    """One formatted cell; `detail` is secondary (an interval), `claim` is set for a status."""

    text: str
    detail: str = ""
    kind: CellKind = "number"
    claim: Claim | None = None


@dataclass(frozen=True)
class Table:
    """A table whose first column heads its rows; a rule separates the bodies."""

    key: str
    caption: str
    heads: tuple[str, ...]
    kinds: tuple[CellKind, ...]
    bodies: tuple[tuple[tuple[Cell, ...], ...], ...]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences; `worse` marks every item as bad news."""

    items: Sequence[str]
    worse: bool = False


@dataclass(frozen=True)
class Definitions:
    """Terms and their explanations."""

    items: Pairs


Block = Text | Heading | Bullets | Definitions | Table | Figure
Part = Block | str | None
"""What `blocks` makes blocks of."""


@dataclass(frozen=True)
class Section:
    """Blocks under a title; `key` is the element id, words joined by hyphens."""

    key: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class KeyFigure:
    """One measure before and after, with its paired difference, as text."""

    metric: str
    before: str
    after: str
    difference: str
    interval: str
    status: str
    claim: Claim


@dataclass(frozen=True)
class Document:
    """A whole report.

    Attributes:
        kind: of the experiment.
        created: ISO date.
        facts: what was examined, in the order shown.
        sections: between the verdict and the glossary.
        command: that makes the result again.
        reproduction: named groups of pairs: run, settings, versions, hashes.
    """

    title: str
    kind: str
    created: str
    notices: Sequence[str]
    verdict: Verdict
    key_figures: Sequence[KeyFigure]
    facts: Pairs
    sections: Sequence[Section]
    glossary: Glossary
    command: str
    reproduction: Sequence[tuple[str, Pairs]]


def blocks(*wanted: Part) -> list[Block]:
    """The blocks that are there, in order; a string is a paragraph, and None or an empty string is nothing.

    Example:
        >>> blocks("Seen.", None, "")
        [Text(text='Seen.')]
    """
    return [Text(block) if isinstance(block, str) else block for block in wanted if block]
