"""Words per sentence in Markdown files, so that pages stay readable.

    python -m tools.prose README.md docs

Code, tables, headings, comments and the addresses of links do not count. A page fails with a sentence of more than 30 words, or a mean above 20.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

MOST_WORDS = 30
MEAN_WORDS = 20
_HIDDEN = re.compile(r"```.*?```|<!--.*?-->|\$\$.*?\$\$", re.DOTALL)
_NO_PROSE = re.compile(r"\s*(\||#|>>>|\.\.\.|<)")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_BLOCK = re.compile(r"\n\s*\n|\n\s*(?:[-*+]|\d+\.)\s+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(*])|:\s*$")


def sentences(markdown: str) -> list[str]:
    r"""The sentences of running text, of three words and more.

    Example:
        >>> sentences("# Title\n\nOne two three. Four five\nsix seven.")
        ['One two three.', 'Four five six seven.']
    """
    lines = (line for line in _HIDDEN.sub("", markdown).splitlines() if not _NO_PROSE.match(line))
    text = _LINK.sub(r"\1", re.sub(r"`[^`]*`", "code", "\n".join(lines)))
    parts = (part.strip() for block in _BLOCK.split(text) for part in _SENTENCE.split(" ".join(block.split())))
    return [part for part in parts if len(part.split()) > 2]


def problems(markdown: str) -> list[str]:
    """What is too long on a page: each sentence above the limit, and the mean."""
    lengths = {sentence: len(sentence.split()) for sentence in sentences(markdown)}
    long = [f"{words} words: {sentence}" for sentence, words in lengths.items() if words > MOST_WORDS]
    mean = sum(lengths.values()) / max(1, len(lengths))
    return [*long, *([f"a mean of {mean:.1f} words per sentence"] if mean > MEAN_WORDS else [])]


def main(names: list[str]) -> int:
    """Print what is too long in these files and folders; 1 where something is."""
    pages = [page for name in names for page in (sorted(Path(name).rglob("*.md")) if Path(name).is_dir() else [Path(name)])]
    lines = [f"{page}: {problem}" for page in pages for problem in problems(page.read_text(encoding="utf-8"))]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
