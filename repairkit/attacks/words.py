"""What results and reports on adversaries call things, in one place."""

from __future__ import annotations

SUCCESS, RECOVERED, CLEAN = "target success", "recovered label", "clean accuracy"
"""Metrics of shares and differences."""
TRANSFERRED, TRANSFERRED_TITLE = "transfer-mean", "Mean of the transfer attacks"
"""Group and title of the row that averages, on each image, over the attacks that are carried over."""


def eps_text(eps: float) -> str:
    """A bound in units of images in [0, 1] as so many of 255 levels.

    Example:
        >>> eps_text(16 / 255), eps_text(0.0625 / 255), eps_text(0.013)
        ('16', '0.0625', '3.31')
    """
    return f"{eps * 255:.3g}"
